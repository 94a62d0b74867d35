// Run: npx tsc -p tsconfig.test.json && node out/examples/server-fastify.js [model folder]
// A server that fine-tunes in the background and answers with what it learnt. Expected: "listening on http://127.0.0.1:3000"; PORT=0 takes any free port.
//   curl -X POST localhost:3000/runs -H 'content-type: application/json' -d '{"texts":["To be, or not to be, that is the question."],"steps":20}'
//   curl -N localhost:3000/runs/ID               progress as server-sent events       curl -X DELETE localhost:3000/runs/ID   aborts; what was learnt is saved
//   curl -X POST localhost:3000/generate -H 'content-type: application/json' -d '{"run":"ID","prompt":"To be"}'
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import fastify from 'fastify';
import { generate, LorikeetError } from 'lorikeet';
import { BackgroundRuns, type RunRequest } from './background-runs.js';

/** Runs share the cores: more at once only make each other slower. */
const kMostRuns = 2;
const texts = { type: 'array', minItems: 1, items: { type: 'string', minLength: 1 } };
const startSchema = {
  type: 'object',
  required: ['texts'],
  properties: { texts, steps: { type: 'integer', minimum: 1, maximum: 1000 }, learningRate: { type: 'number', exclusiveMinimum: 0 } },
};
const generateSchema = {
  type: 'object',
  required: ['prompt'],
  properties: { run: { type: 'string' }, prompt: { type: 'string' }, maxNewTokens: { type: 'integer', minimum: 1, maximum: 200 } },
};

const runs = await BackgroundRuns.open(process.argv[2] ?? 'examples/stories260k', mkdtempSync(join(tmpdir(), 'lorikeet-server-')));
const server = fastify();
// Wrong options and data are the caller's mistakes; the messages say what was expected.
server.setErrorHandler((error, _request, reply) => {
  const known = error instanceof LorikeetError && ['config', 'invalid-argument', 'format'].includes(error.code);
  if (known) reply.code(400).send({ error: error.message });
  else reply.send(error);
});

server.post<{ Body: RunRequest }>('/runs', { schema: { body: startSchema } }, async (request, reply) => {
  if (runs.running >= kMostRuns) return reply.code(429).send({ error: `${kMostRuns} runs are going on; wait for one, or abort it` });
  const run = await runs.start(request.body);
  return reply.code(202).send({ id: run.id });
});

server.get<{ Params: { id: string } }>('/runs/:id', (request, reply) => {
  const run = runs.get(request.params.id);
  if (run === undefined) return reply.code(404).send({ error: 'no such run' });
  return reply.type('text/event-stream').send(Readable.from(run.events()));
});

server.delete<{ Params: { id: string } }>('/runs/:id', async (request, reply) => {
  const run = runs.get(request.params.id);
  if (run === undefined) return reply.code(404).send({ error: 'no such run' });
  run.abort();
  await run.ended;
  return { state: run.state, message: run.error };
});

interface GenerateBody {
  readonly run?: string;
  readonly prompt: string;
  readonly maxNewTokens?: number;
}

server.post<{ Body: GenerateBody }>('/generate', { schema: { body: generateSchema } }, async (request, reply) => {
  const { run, prompt, maxNewTokens = 40 } = request.body;
  if (run !== undefined && runs.get(run)?.state !== 'done') return reply.code(409).send({ error: 'that run has no finished adapter' });
  return { text: await generate(runs.model, prompt, { maxNewTokens, ...(run !== undefined && { adapters: [run] }) }).text() };
});

server.addHook('onClose', () => runs.close());
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => void server.close());
console.log(`listening on ${await server.listen({ host: '127.0.0.1', port: Number(process.env.PORT ?? 3000) })}`);
