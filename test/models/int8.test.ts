import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import {
  type AdapterConfig,
  attach,
  ConfigError,
  generate,
  InvalidArgumentError,
  type LoadOptions,
  loadModel,
  type Model,
  saveModel,
  scope,
  type Tensor,
  train,
} from 'lorikeet';
import { Linear } from 'lorikeet/nn';
import { linear, mul, narrow, normal, PackedWeight, packInt8, packWeight, sum } from 'lorikeet/ops';
import { temporaryFolder } from '../helpers/command-line.js';
import { goldenFolder } from '../helpers/folders.js';
import { numbers } from '../helpers/numbers.js';
import { shippedModel, shippedRows } from '../helpers/shipped.js';

const blocks = join(goldenFolder, 'gguf', 'tiny-llama.gguf');
/** Starts as the bare model, whose loss means something. */
const fresh: AdapterConfig = { type: 'lora', rank: 4, targets: 'all-linear' };
const everything: AdapterConfig = { type: 'lora', rank: 4, targets: 'all-linear', init: false };

function cosine(a: readonly number[], b: readonly number[]): number {
  const dot = (x: readonly number[], y: readonly number[]) => x.reduce((total, value, i) => total + value * (y[i] ?? Number.NaN), 0);
  return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
}

const idsOf = (model: Model): number[][] => shippedRows(2).map((text) => model.tokenizer.encode(text).slice(0, 60));

/** Loss and the gradients of an adapter, end to end. */
async function stepOf(options: LoadOptions, config: AdapterConfig = fresh): Promise<{ loss: number; gradients: number[] }> {
  using model = await loadModel(shippedModel, options);
  const tuned = await attach(model, config, { seed: 3 });
  const found = await scope(async () => {
    const loss = tuned.loss({ ids: idsOf(model), training: true });
    loss.backward();
    const gradients: number[] = [];
    for (const parameter of tuned.parameters()) gradients.push(...(await numbers(parameter.grad as Tensor)));
    return { loss: await loss.item(), gradients };
  });
  tuned.dispose();
  return found;
}

test.serial('linear layers but the head multiply 8-bit integers, whatever floats or codes the base is kept in', async (t) => {
  for (const [path, dtype, compute] of [
    [shippedModel, undefined, 'f32'],
    [shippedModel, 'f32', 'f32'],
    [shippedModel, 'bf16', 'bf16'],
    [shippedModel, 'f16', 'f16'],
    [shippedModel, 'int8', 'bf16'],
    [shippedModel, 'nf4', 'bf16'],
    [blocks, undefined, 'f32'],
  ] as const) {
    using model = await loadModel(path, { ...(dtype && { dtype }), compute: 'int8' });
    const what = `${path} ${dtype}`;
    t.is(model.dtype, compute, what);
    for (const [name, module] of model.network.namedModules()) {
      if (!(module instanceof Linear)) continue;
      const weight = module.weight as PackedWeight;
      t.is(weight.layout === 'int8', module.role !== 'head', `${what} ${name}`);
      t.is(weight.dtype, compute, `${what} ${name}`);
    }
    const logits = await scope(() => model.logits([[5, 9, 2]]).data());
    t.true(Array.from(logits, Number).every(Number.isFinite), what);
  }
});

test.serial('blocks of a file stay as they are, the head and its embedding too', async (t) => {
  const weightsOf = async (compute: 'bf16' | 'int8') => {
    using model = await loadModel(blocks, { dtype: 'stored', compute });
    t.is(model.dtype, 'bf16');
    const weights = [...model.network.namedModules()].flatMap(([name, module]) => {
      const { weight } = module as { weight?: unknown };
      return weight instanceof PackedWeight && weight.quantization?.startsWith('q') ? [[name, weight] as const] : [];
    });
    t.true(weights.some(([name]) => name === 'lm_head') && weights.some(([name]) => name.endsWith('embed_tokens')));
    for (const [name, weight] of weights) t.is(weight.layout, compute === 'int8' ? 'codes' : 'blocks', name);
    const values = await scope(() => Promise.all(weights.map(([, weight]) => numbers(weight.unpack()))));
    return { values, bytes: weights.map(([, weight]) => weight.bytes) };
  };
  t.deepEqual(await weightsOf('int8'), await weightsOf('bf16'));
});

test.serial('on blocks of a file logits, loss and gradients are those of bf16 but for the rounding', async (t) => {
  const prompt = [5, 9, 2, 30, 11, 7, 3];
  const found = async (compute: 'bf16' | 'int8') => {
    using model = await loadModel(blocks, { dtype: 'stored', compute });
    const tuned = await attach(model, fresh, { seed: 3 });
    const step = await scope(async () => {
      const loss = tuned.loss({ ids: [prompt, [8, 8, 1]], training: true });
      loss.backward();
      const gradients = await Promise.all([...tuned.parameters()].map((parameter) => numbers(parameter.grad as Tensor)));
      const logits = await numbers(tuned.logits([prompt]));
      return { loss: await loss.item(), gradients: gradients.flat(), logits };
    });
    const { ids } = await generate(tuned, prompt, { maxNewTokens: 6, endTokens: [] }).sample();
    t.is(ids.length, 6);
    tuned.dispose();
    return step;
  };
  const [got, expected] = [await found('int8'), await found('bf16')];
  t.true(Math.abs(got.loss - expected.loss) < 0.01 * expected.loss, `${got.loss} for ${expected.loss}`);
  t.notDeepEqual(got.logits, expected.logits);
  t.true(cosine(got.logits, expected.logits) > 0.99, `logits: ${cosine(got.logits, expected.logits)}`);
  t.true(cosine(got.gradients, expected.gradients) > 0.99, `gradients: ${cosine(got.gradients, expected.gradients)}`);
});

test.serial('a row has the bits that it has among others, on blocks of a file', async (t) => {
  using model = await loadModel(blocks, { dtype: 'stored', compute: 'int8' });
  const { weight } = model.module('model.layers.0.mlp.down_proj') as Linear & { weight: PackedWeight };
  const x = normal([17, weight.shape[1] ?? 0], { seed: 2, dtype: 'bf16' });
  const together = await numbers(linear(x, weight));
  for (const count of [1, 2, 4, 5])
    t.deepEqual(await numbers(linear(narrow(x, 0, 3, count), weight)), rowsOf(together, 3, count), `${count}`);
  x.dispose();

  function rowsOf(values: readonly number[], start: number, count: number): number[] {
    const width = weight.shape[0] ?? 0;
    return values.slice(start * width, (start + count) * width);
  }
});

test.serial('weights of dtype int8 keep their codes', async (t) => {
  const weightsOf = async (compute: 'bf16' | 'int8') => {
    using model = await loadModel(shippedModel, { dtype: 'int8', compute });
    return scope(() => (model.module('model.layers.0.mlp.down_proj') as Linear & { weight: PackedWeight }).weight.unpack().data());
  };
  t.deepEqual(await weightsOf('int8'), await weightsOf('bf16'));
});

test.serial('loss and gradients are those of floats but for the rounding', async (t) => {
  for (const dtype of ['f32', 'bf16'] as const) {
    const [got, expected] = [await stepOf({ dtype, compute: 'int8' }), await stepOf({ dtype })];
    t.true(Math.abs(got.loss - expected.loss) < 0.01 * expected.loss, `${got.loss} for ${expected.loss}`);
    t.true(cosine(got.gradients, expected.gradients) > 0.99, `${dtype}: ${cosine(got.gradients, expected.gradients)}`);
  }
  const dora = { ...fresh, dora: true } as const;
  const [got, expected] = [await stepOf({ compute: 'int8' }, dora), await stepOf({}, dora)];
  t.true(cosine(got.gradients, expected.gradients) > 0.99, `dora: ${cosine(got.gradients, expected.gradients)}`);
});

test.serial('the gradient of every input has the direction of the one in floats', async (t) => {
  using model = await loadModel(shippedModel);
  const [ids] = idsOf(model);
  for (const [name, module] of model.network.namedModules()) {
    if (!(module instanceof Linear) || module.role === 'head') continue;
    const { weight } = module as Linear & { weight: PackedWeight };
    const [fast, exact] = await scope(async () => {
      const dense = weight.unpack();
      const rows = (ids ?? []).length;
      const dy = normal([rows, module.outFeatures], { seed: 4 });
      const gradient = (packed: PackedWeight): Promise<number[]> => {
        const leaf = normal([rows, module.inFeatures], { seed: 5 }).setRequiresGrad(true);
        sum(mul(linear(leaf, packed), dy)).backward();
        return numbers(leaf.grad as Tensor).finally(() => packed.dispose());
      };
      return [await gradient(packInt8(dense)), await gradient(packWeight(dense))] as const;
    });
    t.true(cosine(fast, exact) > 0.999, `${name}: ${cosine(fast, exact)}`);
  }
});

test.serial('merging makes layers dense, unmerging gives the codes back', async (t) => {
  using model = await loadModel(shippedModel, { dtype: 'f32', compute: 'int8' });
  const tuned = await attach(model, everything, { seed: 3 });
  await t.throwsAsync(tuned.merge(), {
    message: /is stored as int8, whose rounding hides the adapter; dequantize: true merges into a dense copy/,
  });
  const before = new Map(model.network.namedParameters());
  const { maxError } = await tuned.merge({ dequantize: true });
  t.true(maxError > 0 && maxError < 0.05, String(maxError));
  const merged = new Map(model.network.namedParameters()).get('model.layers.0.self_attn.q_proj.weight');
  t.is((merged as PackedWeight).layout, 'retile');
  tuned.unmerge();
  for (const [name, value] of model.network.namedParameters()) t.true(value === before.get(name), name);
  tuned.dispose();
});

test.serial('a saved model has the values of the codes', async (t) => {
  const folder = temporaryFolder();
  using model = await loadModel(shippedModel, { dtype: 'f32', compute: 'int8' });
  await saveModel(model, folder);
  using again = await loadModel(folder, { compute: 'int8' });
  const [got, expected] = await scope(() => Promise.all([again, model].map((m) => numbers(m.logits([[5, 9, 2]])))));
  t.true(cosine(got as number[], expected as number[]) > 0.99999);
});

test.serial('rows do not depend on each other', async (t) => {
  using model = await loadModel(shippedModel, { dtype: 'bf16', compute: 'int8' });
  const ids = [5, 9, 2, 30, 11];
  const [together, alone] = await scope(() => Promise.all([numbers(model.logits([[7, 7, 7, 7, 7], ids])), numbers(model.logits([ids]))]));
  t.deepEqual(together.slice(-alone.length), alone);
});

test.serial('a run that is resumed has the bits of one that was not', async (t) => {
  const adapterOf = async (out: string, stops: readonly number[]) => {
    for (const [i, steps] of stops.entries()) {
      using model = await loadModel(shippedModel, { dtype: 'bf16', compute: 'int8' });
      const tuned = await attach(model, { type: 'lora', rank: 2 }, { seed: 1 });
      const training = { steps, batch: 2, sequence: 16, schedule: 'constant' } as const;
      await train(tuned, { data: { train: { rows: shippedRows(8) } }, training, out, resume: i > 0 });
      tuned.dispose();
    }
    return readFileSync(join(out, 'adapter', 'adapter_model.safetensors'));
  };
  const folder = temporaryFolder();
  const [whole, resumed] = [await adapterOf(join(folder, 'whole'), [4]), await adapterOf(join(folder, 'resumed'), [2, 4])];
  t.true(whole.equals(resumed));
});

test.serial('what cannot be computed so is refused', async (t) => {
  await t.throwsAsync(loadModel(shippedModel, { dtype: 'f64', compute: 'int8' }), {
    instanceOf: ConfigError,
    message: 'loadModel: compute int8 goes with dtype f32, bf16, f16, stored, nf4, int8; got dtype f64',
  });
  using model = await loadModel(shippedModel, { compute: 'int8' });
  t.throws(() => model.network.unfreeze(), {
    instanceOf: InvalidArgumentError,
    message: /linear: quantised weights cannot be trained; got a weight \[.+\] in int8, expected a model loaded with dtype bf16 or f32$/,
  });
});
