import { join } from 'node:path';
import test from 'ava';
import { attach, type EncoderTask, type LoadOptions, loadModel, train } from 'lorikeet';
import type { Pooling } from '#dist/models/pooling.js';
import { readRecipe } from '#dist/recipe.js';
import { modelIdentity, requireSameModel } from '#dist/train/same-model.js';
import { temporaryFolder } from '../helpers/command-line.js';
import { goldenEncoder } from '../helpers/encoders.js';
import { goldenFolder } from '../helpers/folders.js';
import { shippedModel } from '../helpers/shipped.js';
import { opinions, tinyEncoder } from '../helpers/tiny-encoder.js';

const folder = temporaryFolder();
const rows = ['Once upon a time there was a cat.', 'Lily saw a dog in the park.'];
const lora = { type: 'lora', rank: 2, alpha: 4 } as const;

/** A run in `out` of a model loaded as `dtype` with these options of LoRA. */
async function run(out: string, steps: number, resume: boolean, more: object = {}, load: LoadOptions = { dtype: 'f32' }): Promise<number> {
  const model = await loadModel(shippedModel, load);
  try {
    const tuned = await attach(model, { ...lora, ...more }, { seed: 1 });
    const training = { steps, batch: 2, sequence: 16, schedule: 'constant' } as const;
    return (await train(tuned, { data: { train: { rows } }, training, out: join(folder, out), resume })).steps;
  } finally {
    model.dispose();
  }
}

test.serial('a run does not go on with other options of the adapter', async (t) => {
  await run('options', 2, false);
  for (const [more, message] of [
    [{ alpha: 400 }, /resume: "adapters\.default\.alpha" of the model differs from that of the run in ".*"; got 400, expected 4$/],
    [{ dropout: 0.5 }, /"adapters\.default\.dropout" .*; got 0\.5, expected 0$/],
    [{ rsLora: true }, /"adapters\.default\.rsLora" .*; got true, expected false$/],
  ] as const) {
    await t.throwsAsync(run('options', 3, true, more), { code: 'config', message });
  }
  t.is(await run('options', 3, true), 3);
});

test.serial('nor with a model kept or computed in another dtype', async (t) => {
  await run('dtype', 2, false);
  await t.throwsAsync(run('dtype', 3, true, {}, { dtype: 'bf16' }), {
    code: 'config',
    message: /"dtype" of the model differs .*; got "bf16", expected "f32"/,
  });
  await t.throwsAsync(run('dtype', 3, true, {}, { dtype: 'int8' }), {
    code: 'config',
    message: /"quantized" .*; got "int8", expected null/,
  });
  await t.throwsAsync(run('dtype', 3, true, {}, { dtype: 'f32', compute: 'int8' }), {
    code: 'config',
    message: /"compute" of the model differs .*; got "int8", expected none/,
  });
  t.is(await run('dtype', 3, true), 3);
});

test.serial('nor with products of the codes of blocks where they were quantised by rows', async (t) => {
  using model = await loadModel(join(goldenFolder, 'gguf', 'tiny-llama.gguf'), { dtype: 'stored', compute: 'int8' });
  using tuned = await attach(model, lora, { seed: 1 });
  const identity = modelIdentity(tuned);
  t.notThrows(() => requireSameModel('run', identity, tuned));
  t.throws(() => requireSameModel('run', { ...identity, compute: 'int8' }, tuned), {
    code: 'config',
    message: 'resume: "compute" of the model differs from that of the run in "run"; got "int8 of blocks", expected "int8"',
  });
});

test.serial('nor with another task, other labels or another frozen head of an encoder', async (t) => {
  const source = tinyEncoder();
  interface Asked {
    readonly task?: EncoderTask;
    readonly labels?: readonly string[] | number;
    readonly pooling?: Pooling;
    readonly seed?: number;
  }
  const go = async (out: string, steps: number, resume: boolean, asked: Asked, modulesToSave?: string[]): Promise<number> => {
    const model = await loadModel(source, { task: 'classification', dtype: 'f32', ...asked });
    try {
      const tuned = await attach(model, { ...lora, ...(modulesToSave && { modulesToSave }) }, { seed: 1 });
      const training = { steps, batch: 2, sequence: 16, schedule: 'constant', seed: 1 } as const;
      const rows =
        asked.task === 'embedding'
          ? opinions.map(({ text }) => ({ anchor: text, positive: text }))
          : opinions.map(({ text, label }) => ({ text, label: asked.task === 'regression' ? 1 : label }));
      return (await train(tuned, { data: { train: { rows } }, training, out: join(folder, out), resume })).steps;
    } finally {
      model.dispose();
    }
  };
  const labels = ['contra', 'pro'];
  await go('classes', 1, false, { labels });
  const differs = (pattern: string): RegExp => new RegExp(`resume: "${pattern}`);
  const refused = (out: string, asked: Asked, message: RegExp, saved?: string[]) =>
    t.throwsAsync(go(out, 2, true, asked, saved), { code: 'config', message });
  await refused('classes', { labels: ['pro', 'contra'] }, differs('labels" of the model differs .* got \\["pro","contra"\\]'));
  await refused('classes', { task: 'regression', labels: 1 }, differs('task" of the model differs .* got "regression"'));
  t.is(await go('classes', 2, true, { labels, seed: 9 }), 2, 'a head that is trained comes from the checkpoint');

  await go('frozen', 1, false, { labels, seed: 3 }, []);
  await refused('frozen', { labels, seed: 4 }, differs('headSeed" of the model differs .* got 4, expected 3'), []);
  t.is(await go('frozen', 2, true, { labels, seed: 3 }, []), 2);

  await go('pooled', 1, false, { task: 'embedding', pooling: { mode: 'cls' } });
  const written = (out: string) => readRecipe(join(folder, out, 'recipe.yaml')).task;
  t.deepEqual(written('pooled'), { type: 'embedding', pooling: { mode: 'cls' } });
  t.deepEqual(written('frozen'), { type: 'classification', labels, seed: 3 });
  await refused('pooled', { task: 'embedding', pooling: { mode: 'mean' } }, differs('pooling.mode" of the model differs .* got "mean"'));
});

test.serial('nor with other positions or another pooling of an encoder of spectrograms', async (t) => {
  const rows = [0, 1].map((label) => ({ audio: { values: new Float32Array(40 * 32).fill(label - 0.5), shape: [40, 32] }, label }));
  const go = async (steps: number, asked: object): Promise<number> => {
    const model = await loadModel(goldenEncoder('ast'), { task: 'classification', labels: 2, dtype: 'f32', ...asked });
    try {
      const tuned = await attach(model, { type: 'linear-probe' }, { seed: 1 });
      const training = { steps, batch: 2, schedule: 'constant', seed: 1 } as const;
      return (await train(tuned, { data: { train: { rows } }, training, out: join(folder, 'sounds'), resume: steps > 1 })).steps;
    } finally {
      model.dispose();
    }
  };
  const asked = { positions: 'zero', pooling: { mode: 'mean' } } as const;
  await go(1, asked);
  t.like(readRecipe(join(folder, 'sounds', 'recipe.yaml')).task, asked);
  const refused = (other: object, message: RegExp) => t.throwsAsync(go(2, { ...asked, ...other }), { code: 'config', message });
  await refused({ positions: 'resized' }, /"positions" of the model differs .* got "resized", expected "zero"/);
  await refused({ pooling: { mode: 'max' } }, /"pooling.mode" of the model differs .* got "max", expected "mean"/);
  t.is(await go(2, asked), 2);
});
