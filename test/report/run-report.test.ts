import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { memory, train } from 'lorikeet';
import { eventFiles, labelRuns, readRun, recipeDifferences, renderComparePage, renderRunPage, summarize } from '#dist/report/index.js';
import { temporaryFolder } from '../helpers/command-line.js';
import { readEvents } from '../helpers/event-records.js';
import { shippedRows, shippedText, withTuned } from '../helpers/shipped.js';

const data = { train: { path: shippedText('train') }, eval: { rows: shippedRows(4) } };
const training = { batch: 2, sequence: 48, learningRate: 5e-3, steps: 6, evalEvery: 3, saveEvery: 2 } as const;
const prompt = 'Once upon <a> time';

const pageOf = (out: string): string => readFileSync(join(out, 'report.html'), 'utf8');
const adapterOf = (out: string): Buffer => readFileSync(join(out, 'adapter', 'adapter_model.safetensors'));

test.serial('a run leaves a report, events and a record; samples do not change what it computes', async (t) => {
  const folder = temporaryFolder();
  const [out, plain] = [join(folder, 'with-samples'), join(folder, 'plain')];
  const result = await withTuned((tuned) => train(tuned, { data, training, out, report: { samples: [prompt], maxNewTokens: 8 } }).then(), {
    dropout: 0.1,
  });
  await withTuned((tuned) => train(tuned, { data, training, out: plain }).then(), { dropout: 0.1 });
  t.deepEqual(adapterOf(out), adapterOf(plain));

  const run = readRun(out);
  t.is(run.status, 'done');
  t.deepEqual(run.problems, []);
  const { before, after } = run.record?.samples[0] ?? {};
  t.true((before ?? '').length > 0 && (after ?? '').length > 0);
  t.like(run.recipe, { report: { samples: [prompt], maxNewTokens: 8, temperature: 0, chat: false } });
  const summary = summarize(run);
  t.like(summary, { steps: 6, plannedSteps: 6, loss: result.loss, tokens: result.tokens, trainableParameters: result.trainableParameters });
  t.is(summary.evalLoss, result.evalLoss);
  t.deepEqual(summary.best, result.best);
  t.true(Math.abs(summary.tokensPerSecond - result.tokensPerSecond) < 1e-6 * result.tokensPerSecond);
  t.true((summary.peakBytes ?? 0) > 0 && (summary.peakBytes ?? 0) <= memory().peakBytes);

  const page = pageOf(out);
  for (const text of [
    'Loss',
    'Learning rate',
    'Gradient norm',
    'Throughput',
    'Memory',
    'Samples',
    'Environment',
    'Recipe',
    'Final numbers',
    'held-out',
  ])
    t.true(page.includes(text), text);
  t.true(page.includes('Once upon &lt;a&gt; time') && !page.includes(prompt));
  t.is(page.match(/<svg /g)?.length, 5);
  t.false(/https?:|<link|<img|<iframe|\ssrc=|\shref=|@import|url\(/.test(page), 'the page needs nothing beside itself');
  t.false(/NaN|undefined|Infinity/.test(page.replaceAll(/<script>[\s\S]*?<\/script>/g, '')));
  t.false(page.includes('http-equiv="refresh"'));

  const events = readEvents(join(out, eventFiles(out)[0] ?? ''));
  t.is(events[0]?.version, 'brain.Event:2');
  const losses = events.filter(({ scalars }) => 'train/loss' in scalars);
  t.deepEqual(
    losses.map(({ step, scalars }) => [step, scalars['train/loss'], scalars['train/grad_norm']]),
    run.steps.map(({ step, loss, gradNorm }) => [step, Math.fround(loss), Math.fround(gradNorm)]),
  );
  t.deepEqual(
    events.filter(({ scalars }) => 'eval/loss' in scalars).map(({ step }) => step),
    [3, 6],
  );
});

test.serial('a run that was stopped says so; resumed it voids the events that are done again', async (t) => {
  const out = join(temporaryFolder(), 'run');
  const report = { samples: ['Once'], maxNewTokens: 4 };
  await withTuned(async (tuned) => {
    for await (const { step } of train(tuned, { data, training, out, report })) if (step === 3) break;
  });
  t.is(readRun(out).status, 'cancelled');
  t.regex(pageOf(out), /cancelled, can be resumed/);
  const before = readRun(out).record?.samples[0]?.before;
  await withTuned((tuned) => train(tuned, { data, training, out, report, resume: true }).then());
  const run = readRun(out);
  t.is(run.status, 'done');
  t.is(run.record?.samples[0]?.before, before);
  t.deepEqual(
    run.steps.map(({ step }) => step),
    [1, 2, 3, 4, 5, 6],
  );
  const files = eventFiles(out);
  t.is(files.length, 2);
  t.is(readEvents(join(out, files[1] ?? '')).find(({ start }) => start)?.step, 4);
});

test.serial('a failed run tells why; a running one loads itself again; a killed one is known by its lock', async (t) => {
  const out = join(temporaryFolder(), 'run');
  await withTuned(async (tuned) => {
    const run = train(tuned, { data, training: { ...training, steps: 9, learningRate: 1e30, schedule: 'constant' }, out });
    let running = '';
    const watch = (async () => {
      for await (const _ of run) running ||= pageOf(out);
    })();
    await t.throwsAsync(watch, { code: 'non-finite' });
    t.regex(running, /<meta http-equiv="refresh" content="20">/);
  });
  t.is(readRun(out).status, 'failed');
  t.regex(pageOf(out), /class="notice">train: the (loss|gradient norm) is/);
  const record = JSON.parse(readFileSync(join(out, 'run.json'), 'utf8')) as object;
  writeFileSync(join(out, 'run.json'), JSON.stringify({ ...record, status: 'running' }));
  t.is(readRun(out).status, 'killed');
});

test.serial('wrong report settings throw at once; without a run folder nothing is written', async (t) => {
  await withTuned(async (tuned) => {
    t.throws(() => train(tuned, { data, report: { sampels: ['a'] } as object }), {
      message: /unknown key "sampels" in "report"; did you mean "samples"/,
    });
    t.throws(() => train(tuned, { data, report: { samples: [''] } }), { message: /report\.samples\.0/ });
    const before = readdirSync('.');
    await train(tuned, { data, training: { ...training, steps: 1 }, report: { samples: ['Once'] } });
    t.deepEqual(readdirSync('.'), before);
  });
});

test.serial('leftovers of a write that was cut off go with the next resume', async (t) => {
  const out = join(temporaryFolder(), 'run');
  const go = (resume: boolean) => withTuned((tuned) => train(tuned, { data, training: { ...training, steps: 1 }, out, resume }).then());
  await go(false);
  writeFileSync(join(out, '.report.html.1-00000000.tmp'), 'half');
  mkdirSync(join(out, '.best.1-00000000.tmp', 'inside'), { recursive: true });
  await go(true);
  t.deepEqual(
    readdirSync(out).filter((name) => name.startsWith('.')),
    [],
  );
});

test('folders that are broken or empty still give a page', (t) => {
  const folder = temporaryFolder();
  t.regex(renderRunPage(readRun(folder)), /No step is done yet/);
  writeFileSync(join(folder, 'metrics.jsonl'), '{"step":1,"loss":2,"learningRate":1,"gradNorm":1,"tokens":4,"seconds":0}\n{"step":2,"lo');
  writeFileSync(join(folder, 'run.json'), '[]');
  writeFileSync(join(folder, 'recipe.yaml'), 'a: [');
  const run = readRun(folder);
  t.is(run.problems.length, 2);
  t.like(summarize(run), { status: 'unknown', steps: 1, loss: 2, tokensPerSecond: 0 });
  const page = renderRunPage(run);
  t.regex(page, /metrics\.jsonl:2 is not JSON/);
  t.false(/NaN|undefined|Infinity/.test(page.replaceAll(/<script>[\s\S]*?<\/script>/g, '')));
  t.true(renderComparePage(labelRuns([run, run])).includes('2 runs'));
});

test('a dtype with options is told by its name; skipped steps do not count in losses', (t) => {
  const folder = temporaryFolder();
  const row = { learningRate: 1, gradNorm: 1, tokens: 4, seconds: 1 };
  const rows = [
    { step: 1, loss: 2, ...row },
    { step: 2, loss: 90, ...row, skipped: 'spike' },
    { step: 3, loss: null, ...row, skipped: 'non-finite' },
  ];
  writeFileSync(join(folder, 'metrics.jsonl'), rows.map((each) => `${JSON.stringify(each)}\n`).join(''));
  writeFileSync(join(folder, 'recipe.yaml'), 'model: m\ndtype:\n  type: nf4\n  blockSize: 64\nadapter:\n  type: lora\n');
  const run = readRun(folder);
  t.like(summarize(run), { steps: 3, skippedSteps: 2, loss: 2, recentLoss: 2, tokens: 4 });
  t.true(renderRunPage(run).includes('m · nf4 · lora'));
});

test('runs of one name are told apart by their folders', (t) => {
  const run = (path: string) => ({ ...readRun(path), path });
  t.deepEqual(
    labelRuns([run('runs/a/x'), run('runs/b/x'), run('y/')]).map(({ label }) => label),
    ['a/x', 'b/x', 'y/'],
  );
});

test('recipes differ where their values do', (t) => {
  t.deepEqual(
    recipeDifferences([
      { out: 'a', adapter: { rank: 4, type: 'lora' }, training: { betas: [0.9, 0.99] } },
      { out: 'b', adapter: { rank: 8, type: 'lora' }, training: { betas: [0.9, 0.99], seed: 2 } },
    ]),
    [
      { key: 'adapter.rank', values: [4, 8] },
      { key: 'training.seed', values: [undefined, 2] },
    ],
  );
});
