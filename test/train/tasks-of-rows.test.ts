// The task of each row, from the data to adapters that are routed by task.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { attach, estimate, evaluate, loadModel, train } from 'lorikeet';
import type { DataSource } from '#dist/data/index.js';
import { createOptimizer } from '#dist/train/optimizer.js';
import { trainingSettings } from '#dist/train/options.js';
import { temporaryFolder } from '../helpers/adapters.js';
import { lastJson, lorikeet } from '../helpers/command-line.js';
import { shippedModel, shippedRows } from '../helpers/shipped.js';

const adapter = { type: 'poly', tasks: 3, skills: 2, rank: 2, gates: 'sigmoid', targets: ['q_proj', 'v_proj'] } as const;
const training = { steps: 3, batch: 4, sequence: 32, learningRate: 5e-3 } as const;
const texts = shippedRows(12);
const sources: DataSource[] = [
  { rows: texts.slice(0, 6), task: 0 },
  { rows: texts.slice(6).map((text) => ({ text, kind: '2' })), task: 'kind' },
];

test.serial('sources name the task of their rows, by a number or a field', async (t) => {
  const model = await loadModel(shippedModel);
  const tuned = await attach(model, adapter, { seed: 1 });
  const { steps } = await train(tuned, { data: { train: sources, eval: sources }, training });
  t.is(steps, 3);
  // The task without rows has learnt nothing.
  for (const [name, value] of tuned.namedParameters()) {
    if (!name.endsWith('module_logits')) continue;
    const rows = [0, 1, 2].map((task) => [...(value.dataSync() as Float32Array)].slice(2 * task, 2 * task + 2).map(Math.abs));
    t.true(Math.max(...(rows[0] as number[]), ...(rows[2] as number[])) > 1e-2, name);
    t.true(Math.max(...(rows[1] as number[])) <= 1e-3, name);
  }
  const lossOf = async (task: number): Promise<number> => (await evaluate(tuned, { rows: texts, task })).nll;
  t.not(await lossOf(0), await lossOf(2));
  t.is((await evaluate(tuned, [{ rows: texts, task: 0 }])).nll, await lossOf(0));
  model.dispose();
});

test.serial('labels are scored for the task of their rows', async (t) => {
  const model = await loadModel(shippedModel);
  const tuned = await attach(model, { ...adapter, randomB: true }, { seed: 1 });
  const rows = texts.map((text, i) => ({ text: text.slice(0, 20), label: i % 2 }));
  for (const labels of [
    [' a', ' the'],
    [' no', ' once upon a time'],
  ]) {
    const { accuracy } = await evaluate(tuned, { rows, prompt: '{text}', completion: '{label}', labels, task: 1 });
    t.true(accuracy !== undefined && accuracy >= 0 && accuracy <= 1);
  }
  await t.throwsAsync(evaluate(tuned, { rows }), { code: 'adapter', message: /got no task/ });
  model.dispose();
});

test.serial('wrong tasks are errors', async (t) => {
  const model = await loadModel(shippedModel);
  const tuned = await attach(model, adapter);
  const run = async (data: DataSource | DataSource[], more = {}): Promise<unknown> =>
    await train(tuned, { data: { train: data }, training: { ...training, ...more } });
  await t.throwsAsync(run({ rows: texts, task: -1 }), { code: 'config', message: /"task" cannot be used; got -1/ });
  await t.throwsAsync(run({ rows: texts.map((text) => ({ text, kind: 'x' })), task: 'kind' }), {
    code: 'format',
    message: /field "kind" is no task; got "x"/,
  });
  await t.throwsAsync(run([{ rows: texts, task: 0 }, { rows: texts }]), { code: 'format', message: /no task beside rows that have one/ });
  const short = [0, 1].map((task) => ({ rows: texts.map((text) => text.slice(0, 20)), task }));
  await t.throwsAsync(run(short, { packing: true, sequence: 100 }), { code: 'format', message: /several tasks cannot share a sequence/ });
  await t.throwsAsync(run({ rows: texts, task: 3 }), { code: 'adapter', message: /no such task; got 3/ });
  model.dispose();
});

test.serial('a run has the rate of the router; LoRA+ does not go with it', async (t) => {
  const model = await loadModel(shippedModel);
  const tuned = await attach(model, adapter);
  const settings = trainingSettings(model, { ...training, weightDecay: 0.01 });
  const optimizer = createOptimizer(tuned, settings);
  t.deepEqual(
    optimizer.groups.map(({ settings: own }) => [own.learningRate, own.weightDecay]),
    [
      [5e-3, 0.01],
      [0.1, 0],
    ],
  );
  t.throws(() => createOptimizer(tuned, { ...settings, loraPlusRatio: 16 }), { code: 'config', message: /learning rates of its own/ });
  model.dispose();
});

test.serial('an estimate needs no tasks', async (t) => {
  const { trainableParameters } = await estimate({ model: shippedModel, adapter, training: { batch: 2, sequence: 16 } });
  const model = await loadModel(shippedModel);
  const tuned = await attach(model, adapter);
  t.is(
    trainableParameters,
    tuned.parameters().reduce((total, { size }) => total + size, 0),
  );
  model.dispose();
});

test.serial('the command line takes a task', async (t) => {
  const model = await loadModel(shippedModel);
  const tuned = await attach(model, { ...adapter, randomB: true }, { seed: 1 });
  await train(tuned, { data: { train: sources }, training });
  const folder = temporaryFolder();
  await tuned.save(join(folder, 'adapter'));
  const data = join(folder, 'rows.jsonl');
  writeFileSync(data, texts.map((text) => JSON.stringify({ text })).join('\n'));
  const { nll } = await evaluate(tuned, { rows: texts, task: 2 });
  model.dispose();
  const common = ['--model', shippedModel, '--adapter', join(folder, 'adapter'), '--json'];
  const evaluated = await lorikeet(['evaluate', ...common, '--data', data, '--task-id', '2']);
  t.is(lastJson(evaluated).nll, nll);
  const none = await lorikeet(['evaluate', ...common, '--data', data]);
  t.not(none.code, 0);
  t.regex(none.stderr, /shared by 3 tasks/);
  const generated = await lorikeet(['generate', ...common, '--prompt', 'Once', '--max-new-tokens', '4', '--task-id', 'mean']);
  t.is(lastJson(generated).tokens, 4);
  const merged = join(folder, 'merged');
  const { code } = await lorikeet(['merge', ...common, '--out', merged, '--task-id', '2']);
  t.is(code, 0);
  t.true(Math.abs((await evaluateFolder(merged)) - nll) < 1e-5);
});

async function evaluateFolder(folder: string): Promise<number> {
  const model = await loadModel(folder);
  const { nll } = await evaluate(model, { rows: texts });
  model.dispose();
  return nll;
}
