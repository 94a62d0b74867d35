import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import {
  type AdapterConfig,
  attach,
  ConfigError,
  FormatError,
  InvalidArgumentError,
  type LoadOptions,
  loadModel,
  type Model,
  memory,
  NonFiniteError,
  resetPeakMemory,
  saveModel,
  scope,
  synchronize,
  type TunedModel,
} from 'lorikeet';
import { PackedWeight } from '#dist/ops/linalg.js';
import { temporaryFolder } from '../helpers/command-line.js';
import { dataFolder, goldenFolder } from '../helpers/folders.js';
import { settledBytes } from '../helpers/settled-bytes.js';
import { shippedModel } from '../helpers/shipped.js';

const blocks = ['tiny-llama', 'tiny-qwen2'].map((name) => join(goldenFolder, 'gguf', `${name}.gguf`));
const ids = [
  [5, 9, 2, 30, 11, 7, 3],
  [8, 8, 1],
];
const everything: AdapterConfig = { type: 'lora', rank: 4, targets: 'all-linear' };

/** Loss, logits and every gradient of one step of an adapter. */
async function step(tuned: TunedModel): Promise<Map<string, ArrayLike<number | bigint>>> {
  return scope(async () => {
    const loss = tuned.loss({ ids });
    loss.backward();
    const found = new Map<string, ArrayLike<number | bigint>>([['loss', await loss.data()]]);
    for (const [name, parameter] of tuned.namedParameters()) {
      if (parameter.grad !== undefined) found.set(name, await parameter.grad.data());
      parameter.clearGrad();
    }
    return found.set('logits', await tuned.logits([ids[0] ?? []]).data());
  });
}

async function stepOf(path: string, options: LoadOptions, config: AdapterConfig): Promise<Map<string, ArrayLike<number | bigint>>> {
  using model = await loadModel(path, options);
  const tuned = await attach(model, config, { seed: 3 });
  const found = await step(tuned);
  tuned.dispose();
  return found;
}

function sameStep(t: ExecutionContext, got: Map<string, ArrayLike<number | bigint>>, expected: typeof got, what: string): void {
  t.deepEqual([...got.keys()], [...expected.keys()], what);
  t.true(got.size > 4, what);
  for (const [name, values] of expected)
    t.true(
      Buffer.from(Float32Array.from(got.get(name) as number[]).buffer).equals(Buffer.from(Float32Array.from(values as number[]).buffer)),
      `${what}: ${name}`,
    );
}

for (const path of blocks) {
  for (const [name, config] of Object.entries({
    lora: everything,
    dora: { type: 'lora', rank: 4, targets: 'all-linear', dora: true },
    embedding: { type: 'lora', rank: 4, targets: ['embed_tokens', 'q_proj', 'lm_head'] },
    'dora on the embedding': { type: 'lora', rank: 4, targets: ['embed_tokens', 'down_proj'], dora: true },
    copies: { type: 'lora', rank: 4, targets: ['v_proj'], modulesToSave: ['o_proj'] },
    tokens: { type: 'lora', rank: 4, targets: ['v_proj'], trainableTokenIndices: [5, 9] },
  } satisfies Record<string, AdapterConfig>)) {
    test.serial(`blocks as stored give the bits of the same file as floats: ${name} on ${path.split('/').at(-1)}`, async (t) => {
      sameStep(t, await stepOf(path, { dtype: 'stored' }, config), await stepOf(path, {}, config), 'f32');
      sameStep(t, await stepOf(path, { dtype: 'stored', compute: 'bf16' }, config), await stepOf(path, { dtype: 'bf16' }, config), 'bf16');
    });
  }
}

test.serial('nf4 and int8 quantise the linear layers but the head, from floats and from blocks', async (t) => {
  for (const path of [shippedModel, blocks[0] as string]) {
    for (const dtype of ['nf4', 'int8', { type: 'nf4', doubleQuantization: true, blockSize: 32 }] as const) {
      using model = await loadModel(path, { dtype, compute: 'bf16' });
      t.is(model.dtype, 'bf16');
      const format = typeof dtype === 'string' ? dtype : dtype.type;
      for (const [name, value] of model.network.namedParameters()) {
        const wanted = /_proj\.weight$/.test(name) ? format : undefined;
        t.is(value instanceof PackedWeight ? value.quantization : undefined, wanted, name);
        t.is(value.dtype, 'bf16', name);
      }
      const tuned = await attach(model, everything, { seed: 3 });
      const { size } = await step(tuned);
      t.true(size > 10);
      tuned.dispose();
    }
  }
  t.is((await load(shippedModel, { dtype: 'nf4' })).dtype, 'f32');
});

async function load(path: string, options: LoadOptions): Promise<Model> {
  using model = await loadModel(path, options);
  return model;
}

test.serial('merging makes layers dense, unmerging gives the very blocks back', async (t) => {
  using model = await loadModel(blocks[0] as string, { dtype: 'stored' });
  const tuned = await attach(model, { type: 'lora', rank: 4, targets: 'all-linear', init: false }, { seed: 3 });
  const before = await step(tuned);
  await t.throwsAsync(tuned.merge(), {
    message: /is stored as q\w+, whose rounding hides the adapter; dequantize: true merges into a dense copy/,
  });
  const weights = new Map(model.network.namedParameters());
  const { maxError } = await tuned.merge({ dequantize: true });
  t.true(maxError > 0 && maxError < 1e-5, String(maxError));
  const merged = new Map(model.network.namedParameters()).get('model.layers.0.self_attn.q_proj.weight');
  t.is((merged as PackedWeight).quantization, undefined);
  tuned.unmerge();
  for (const [name, value] of model.network.namedParameters()) t.true(value === weights.get(name), name);
  sameStep(t, await step(tuned), before, 'unmerged');
  tuned.dispose();
});

test.serial('a saved model has the values of the blocks as floats', async (t) => {
  const folder = temporaryFolder();
  using model = await loadModel(blocks[0] as string, { dtype: 'stored' });
  await saveModel(model, folder);
  using again = await loadModel(folder);
  const logits = (m: Model) => scope(() => m.logits([ids[0] ?? []]).data());
  t.deepEqual(await logits(again), await logits(model));
});

test.serial('quantised weights are not trained', async (t) => {
  using model = await loadModel(blocks[0] as string, { dtype: 'stored' });
  const error = {
    instanceOf: InvalidArgumentError,
    message:
      /^(linear|embedding): quantised weights cannot be trained; got a weight \[.+\] in q\w+, expected a model loaded with dtype bf16 or f32$/,
  };
  t.throws(() => model.network.unfreeze(), error);
  t.deepEqual(model.network.trainableParameters(), []);
  t.throws(() => model.module('model.layers.0.mlp.gate_proj').setTrainable(true), error);
  t.throws(() => model.module('lm_head').setTrainable(true), error);
});

test.serial('what cannot be loaded is refused', async (t) => {
  const refused = (path: string, options: object, message: RegExp, type: typeof ConfigError | typeof FormatError = ConfigError) =>
    t.throwsAsync(loadModel(path, options), { instanceOf: type, message });
  await refused(
    shippedModel,
    { dtype: 'stored' },
    /dtype "stored" keeps the blocks of a .gguf file; got float weights, expected dtype nf4, int8 or a float dtype/,
    FormatError,
  );
  await refused(
    shippedModel,
    { dtype: 'int4' },
    /unknown dtype "int4"; expected one of f32, bf16, f16, f64, stored, nf4, int8; did you mean "int8"\?/,
  );
  await refused(shippedModel, { dtype: 'nf4', compute: 'f16' }, /unknown compute "f16"; expected one of f32, bf16, int8/);
  await refused(
    shippedModel,
    { dtype: 'bf16', compute: 'bf16' },
    /compute f32 and bf16 go with dtype stored, nf4, int8; got compute "bf16" and dtype bf16/,
  );
  await refused(shippedModel, { dtype: { type: 'nf4', blockSize: 48 } }, /dtype blockSize must be a power of two from 32 to 4096; got 48/);
  await refused(shippedModel, { dtype: { type: 'nf4', blocksize: 64 } }, /unknown dtype option "blocksize"; did you mean "blockSize"\?/);
  await refused(shippedModel, { dtype: { type: 'int8' } }, /only dtype nf4 has options; got type "int8"/);
  await refused(shippedModel, { dtype: { type: 'nf4', doubleQuantization: 1 } }, /dtype doubleQuantization must be true or false; got 1/);
});

test.serial('a block scale that is not finite is found', async (t) => {
  const file = join(temporaryFolder(), 'broken.gguf');
  const bytes = readFileSync(blocks[0] as string);
  bytes.fill(0xff, bytes.length - 64);
  writeFileSync(file, bytes);
  await t.throwsAsync(loadModel(file, { dtype: 'stored' }), { instanceOf: NonFiniteError, message: /has NaN or infinite values/ });
});

test.serial('SmolLM2 as stored: the bits of f32, and memory near the size of the file', async (t) => {
  const folder = dataFolder(t, 'smollm2-135m-instruct');
  if (folder === undefined) return;
  const file = join(folder, 'SmolLM2-135M-Instruct.Q4_1.gguf');
  const expected = await stepOf(file, {}, everything);
  const before = await settledBytes();
  resetPeakMemory();
  using model = await loadModel(file, { dtype: 'stored' });
  await synchronize();
  const fileBytes = statSync(file).size;
  t.true(memory().peakBytes - before < 1.25 * fileBytes, `loading: ${memory().peakBytes - before}`);
  const tuned = await attach(model, everything, { seed: 3 });
  await synchronize();
  const attached = memory().bytes;
  resetPeakMemory();
  sameStep(t, await step(tuned), expected, 'f32');
  // The weights in f32 would be 538 MB.
  t.true(memory().peakBytes - attached < 100e6, `a step: ${memory().peakBytes - attached}`);
  tuned.dispose();
});
