import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { loadModel } from 'lorikeet';
import { type CommandResult, lastJson, lorikeet, temporaryFolder } from '../helpers/command-line.js';
import { opinions, tinyEncoder } from '../helpers/tiny-encoder.js';
import { validOutput } from '../helpers/valid-output.js';

const folder = temporaryFolder();
const model = tinyEncoder('bert-base', folder);
const recipe = join(folder, 'recipe.yaml');
const rows = join(folder, 'rows.jsonl');
writeFileSync(rows, opinions.map(({ text, label }) => `${JSON.stringify({ text, stance: label })}\n`).join(''));
writeFileSync(
  recipe,
  `model: ${model}
task: { type: classification, labels: [contra, pro] }
dtype: f32
adapter: { type: lora, rank: 4, alpha: 16, targets: all-linear }
data: { train: { path: ${rows}, label: stance }, eval: { path: ${rows}, label: stance } }
training: { steps: 60, batch: 8, sequence: 24, learningRate: 5.0e-3, schedule: constant, evalEvery: 30 }
`,
);
const out = join(folder, 'run');
const adapter = join(out, 'adapter');

function valid(t: ExecutionContext, name: string, result: CommandResult): Record<string, unknown> {
  t.is(result.code, 0, result.stderr);
  return validOutput(t, name, result);
}

async function refused(t: ExecutionContext, message: RegExp, ...args: string[]): Promise<void> {
  const result = await lorikeet([...args, '--json']);
  t.is(result.code, 2, result.stderr);
  t.regex((lastJson(result).error as { message: string }).message, message);
}

test.serial('a task is trained, evaluated, inspected and merged from its recipe', async (t) => {
  const trained = await lorikeet(['train', recipe, '--out', out, '--json']);
  const result = valid(t, 'train', trained) as { evalLoss: number; evalMetrics: { accuracy: number } };
  t.true(result.evalMetrics.accuracy > 0.9, JSON.stringify(result));
  t.regex(trained.stderr, /2 new parameters of the head, drawn at random: classifier\.weight, classifier\.bias/);
  t.regex(trained.stderr, /step 30: held-out loss \d\.\d+, accuracy \d\.\d+, f1 \d\.\d+, mcc/);

  const evaluated = valid(t, 'evaluate', await lorikeet(['evaluate', '--recipe', recipe, '--adapter', adapter, '--json']));
  t.deepEqual(evaluated, { task: 'classification', loss: result.evalLoss, metrics: result.evalMetrics, targets: 24, rows: 24 });
  const onData = await lorikeet(['evaluate', '--recipe', join(out, 'recipe.yaml'), '--adapter', adapter, '--data', rows, '--json']);
  t.deepEqual(valid(t, 'evaluate', onData), evaluated);

  t.like(valid(t, 'inspect', await lorikeet(['inspect', out, '--json'])).run as object, { evalMetrics: result.evalMetrics });
  valid(t, 'compare', await lorikeet(['compare', out, '--out', join(folder, 'page.html'), '--json']));
  const page = readFileSync(join(out, 'report.html'), 'utf8');
  const { accuracy } = result.evalMetrics;
  t.regex(page, new RegExp(`Held-out accuracy, best at step (30|60).*${accuracy.toFixed(4)}`, 's'));
  t.regex(page, /the best one by held-out accuracy: best\//);
  t.notRegex(page, /perplexity|nats per token/);
  const compared = readFileSync(join(folder, 'page.html'), 'utf8');
  t.regex(compared, /best held-out accuracy/);
  t.notRegex(compared, /nats per token/);
  const table = await lorikeet(['compare', out, '--out', join(folder, 'page.html')]);
  t.regex(table.stdout, new RegExp(`accuracy ${accuracy.toFixed(4)} at (30|60)`));

  const merged = join(folder, 'merged');
  const task = ['--task', 'classification', '--labels', 'contra,pro'];
  valid(
    t,
    'merge',
    await lorikeet(['merge', '--model', model, '--adapter', adapter, ...task, '--dtype', 'f32', '--out', merged, '--json']),
  );
  const classifier = await loadModel(merged, { task: 'published', dtype: 'f32' });
  t.deepEqual([classifier.task, classifier.labels], ['classification', ['contra', 'pro']]);
  classifier.dispose();
  const unlabelled = await lorikeet(['evaluate', '--model', merged, '--task', 'published', '--data', rows]);
  t.regex(unlabelled.stderr, /rows\.jsonl:1: no field "label"/);
});

test.serial('merge takes the task of a recipe, with names that have commas', async (t) => {
  const named = join(folder, 'commas.yaml');
  writeFileSync(named, readFileSync(recipe, 'utf8').replace('[contra, pro]', '["contra, in part", pro]'));
  const merged = join(folder, 'commas');
  valid(t, 'merge', await lorikeet(['merge', '--recipe', named, '--adapter', adapter, '--out', merged, '--json']));
  const classifier = await loadModel(merged, { task: 'published' });
  t.deepEqual([classifier.labels, classifier.dtype, classifier.newParameters], [['contra, in part', 'pro'], 'f32', []]);
  classifier.dispose();
  await refused(t, /say which model: --model PATH, or --recipe FILE/, 'merge', '--adapter', adapter, '--out', join(folder, 'none'));
});

test.serial('a run of a task is gone on with', async (t) => {
  const again = join(folder, 'again');
  valid(t, 'train', await lorikeet(['train', recipe, '--out', again, '--set', 'training.steps=30', '--json']));
  valid(t, 'train', await lorikeet(['train', recipe, '--out', again, '--resume', '--json']));
  const weights = (run: string): Buffer => readFileSync(join(run, 'adapter', 'adapter_model.safetensors'));
  t.deepEqual(weights(again), weights(out));
  t.true(existsSync(join(again, 'best', 'adapter_model.safetensors')));
});

test.serial('what does not go together is told before the model is loaded', async (t) => {
  const train = (...sets: string[]) => ['train', recipe, '--out', join(folder, 'none'), ...sets.flatMap((set) => ['--set', set])];
  await Promise.all([
    refused(t, /is an encoder; say what it is to answer/, 'generate', '--model', model, '--prompt', 'a'),
    refused(t, /only the training of language models is estimated/, 'estimate', recipe),
    refused(t, /only texts of language models can share a sequence/, ...train('training.packing=true')),
    refused(t, /"task" is wrong; got "classificatio", .*did you mean "classification"\?/, ...train('task=classificatio')),
    refused(t, /unknown key "label" in "task"; did you mean "labels"\?/, ...train('task={ type: classification, label: [a] }')),
    refused(t, /data\.train: "prompt" is not read for task "classification"/, ...train('data.train.prompt=x')),
    refused(t, /task "classification" needs labels/, ...train('task=classification')),
    refused(t, /no module matches "q_proj"/, ...train('adapter={ type: lora, targets: [q_proj] }')),
    refused(t, /--labels goes with --task/, 'evaluate', '--model', model, '--labels', '2', '--data', rows),
  ]);
  t.false(existsSync(join(folder, 'none')));
});

test.serial('adapters of the whole model are trained from recipes', async (t) => {
  for (const type of ['prompt', 'prefix', 'p-tuning']) {
    const run = join(folder, type);
    const sets = [`adapter={ type: ${type}, virtualTokens: 4 }`, 'training.steps=1', 'training.sequence=20'].flatMap((set) => [
      '--set',
      set,
    ]);
    valid(t, 'train', await lorikeet(['train', recipe, '--out', run, ...sets, '--json']));
    await refused(
      t,
      /training\.sequence: longer than the model's context; got 21, expected at most 20/,
      ...['train', recipe, '--out', join(folder, 'none'), ...sets, '--set', 'training.sequence=21'],
    );
  }
});

test.serial('the loss and the pooling of embeddings are checked, and stand in the run folder', async (t) => {
  const pairs = join(folder, 'pairs.jsonl');
  writeFileSync(pairs, opinions.map(({ text }) => `${JSON.stringify({ anchor: text, positive: text })}\n`).join(''));
  const own = join(folder, 'embedding.yaml');
  writeFileSync(
    own,
    `model: ${model}
task: { type: embedding, pooling: { mode: cls, normalize: true } }
dtype: f32
adapter: { type: lora, rank: 2 }
data: { train: { path: ${pairs} } }
training: { steps: 1, batch: 4, sequence: 24 }
`,
  );
  const run = join(folder, 'embeddings');
  valid(t, 'train', await lorikeet(['train', own, '--out', run, '--json']));
  t.regex(readFileSync(join(run, 'recipe.yaml'), 'utf8'), /pooling:\n\s+mode: cls\n\s+normalize: true/);
  await refused(
    t,
    /training\.batch: the loss multiple-negatives compares/,
    'train',
    own,
    '--out',
    join(folder, 'none'),
    '--set',
    'training.batch=1',
  );
  await refused(
    t,
    /unknown key "mod" in "task\.pooling"|"task" is wrong|mod/,
    'train',
    own,
    '--out',
    run,
    '--set',
    'task.pooling={ mod: cls }',
  );
});
