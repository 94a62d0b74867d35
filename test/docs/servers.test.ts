import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import test, { type ExecutionContext } from 'ava';

// The example servers are started as they stand, on a free port, and asked what their headers say.

/** Starts an example server; returns its address, and a function that ends it as a service manager would. */
async function start(t: ExecutionContext, example: string): Promise<{ url: string; stop(): Promise<unknown> }> {
  const child = spawn(process.execPath, [`out/examples/${example}.js`], {
    env: { ...process.env, PORT: '0' },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.teardown(() => child.kill('SIGKILL'));
  const exited = once(child, 'exit');
  const [line] = (await Promise.race([once(createInterface(child.stdout), 'line'), exited.then(() => ['it ended'])])) as [string];
  t.regex(line, /^listening on http/);
  const stop = () => {
    child.kill('SIGTERM');
    return exited;
  };
  return { url: line.replace('listening on ', ''), stop };
}

const post = (url: string, body: unknown): Promise<Response> =>
  fetch(url, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) });

interface ServerEvent {
  readonly event: string;
  readonly data: { readonly step?: number; readonly loss?: number; readonly state?: string };
}

const eventsOf = (text: string): ServerEvent[] =>
  [...text.matchAll(/^event: (.*)\ndata: (.*)$/gm)].map(([, event = '', data = '']) => ({ event, data: JSON.parse(data) }));

test('the Fastify server trains in the background, streams, answers, aborts and shuts down', async (t) => {
  const { url, stop } = await start(t, 'server-fastify');
  const texts = ['To be, or not to be, that is the question.', 'All the world is a stage.'];
  const started = await post(`${url}/runs`, { texts, steps: 12, learningRate: 5e-3 });
  t.is(started.status, 202);
  const { id } = (await started.json()) as { id: string };
  const [first, second] = await Promise.all([fetch(`${url}/runs/${id}`), fetch(`${url}/runs/${id}`)]);
  t.is(first.headers.get('content-type'), 'text/event-stream');
  const text = await first.text();
  t.is(await second.text(), text);
  const events = eventsOf(text);
  t.deepEqual(
    events.slice(0, -1).map(({ data }) => data.step),
    Array.from({ length: 12 }, (_, i) => i + 1),
  );
  t.true((events[11]?.data.loss as number) < (events[0]?.data.loss as number) - 1);
  t.deepEqual(events.at(-1), { event: 'end', data: { state: 'done' } });

  const answer = async (run?: string) =>
    ((await (await post(`${url}/generate`, { prompt: 'To be', run, maxNewTokens: 8 })).json()) as { text: string }).text;
  t.not(await answer(id), await answer());

  const long = (await (await post(`${url}/runs`, { texts, steps: 1000 })).json()) as { id: string };
  t.is((await post(`${url}/generate`, { prompt: 'To be', run: long.id })).status, 409);
  const aborted = (await (await fetch(`${url}/runs/${long.id}`, { method: 'DELETE' })).json()) as { state: string; message: string };
  t.is(aborted.state, 'cancelled');
  t.regex(aborted.message, /^train: cancelled/);

  t.is((await fetch(`${url}/runs/none`)).status, 404);
  t.is((await fetch(`${url}/runs/none`, { method: 'DELETE' })).status, 404);
  t.is((await post(`${url}/runs`, { texts: [] })).status, 400);
  await post(`${url}/runs`, { texts, steps: 1000 });
  t.deepEqual(await stop(), [0, null]);
});

test('the Express server streams a run, and a client that leaves aborts it', async (t) => {
  const { url, stop } = await start(t, 'server-express');
  const response = await post(`${url}/runs`, { texts: ['To be, or not to be.'], steps: 3 });
  const run = response.headers.get('x-run') as string;
  const events = eventsOf(await response.text());
  t.deepEqual(
    events.map(({ event }) => event),
    ['step', 'step', 'step', 'end'],
  );
  const answered = await post(`${url}/generate`, { prompt: 'To be', run });
  t.is(answered.status, 200);
  const wrong = await post(`${url}/runs`, { texts: ['a text'], learningRate: -1 });
  t.is(wrong.status, 400);
  t.regex(((await wrong.json()) as { error: string }).error, /learningRate/);

  const controller = new AbortController();
  const left = await fetch(`${url}/runs`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ texts: ['To be, or not to be.'], steps: 1000 }),
    signal: controller.signal,
  });
  const reader = left.body?.getReader();
  await reader?.read();
  controller.abort();
  t.deepEqual(await stop(), [0, null]);
});
