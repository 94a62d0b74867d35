// Prefix tuning, prompt tuning and P-tuning: adapters of a whole model, in front of its tokens.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { type AdapterConfig, attach, generateBatch, loadAdapter, type Tensor, type TunedModel } from 'lorikeet';
import { loadSafetensors, readSafetensorsHeader } from 'lorikeet/io';
import { LstmEncoder, MlpEncoder } from '#dist/adapters/prompt-encoder.js';
import { tensor } from '#dist/ops/create.js';
import { cast, relu } from '#dist/ops/elementwise.js';
import { copyInto } from '#dist/ops/shape.js';
import { noGrad, scope } from '#dist/scope.js';
import { trainingSettings } from '#dist/train/options.js';
import {
  golden,
  loadTiny,
  logitsOf,
  type Reference,
  referenceError,
  relativeError,
  sameBits,
  temporaryFolder,
} from '../helpers/adapters.js';
import { perturb } from '../helpers/perturb.js';
import { TinyNetwork } from '../helpers/tiny-network.js';

interface PromptReference extends Reference {
  readonly sequences: readonly { readonly ids: number[]; readonly logits: number[][]; readonly loss: number }[];
  readonly greedy: { readonly prompt: number[]; readonly tokens: number[]; readonly gap: number };
}

const folder = join(golden, 'prompts');
const names = readdirSync(folder).filter((name) => !name.endsWith('.safetensors'));
const referenceOf = (name: string): PromptReference =>
  JSON.parse(readFileSync(join(folder, name, 'reference.json'), 'utf8')) as PromptReference;
const ids = [3, 17, 42, 5, 8, 80];
const kinds: AdapterConfig[] = [
  { type: 'prefix', virtualTokens: 5 },
  { type: 'prefix', virtualTokens: 4, projection: true, projectionSize: 6 },
  { type: 'prompt', virtualTokens: 3 },
  { type: 'p-tuning', virtualTokens: 4 },
  { type: 'p-tuning', virtualTokens: 4, encoder: 'lstm', encoderSize: 6, encoderDropout: 0.3 },
];
const labelOf = (config: AdapterConfig): string => JSON.stringify(config);

for (const name of names) {
  test.serial(`${name}: the file of PEFT gives its logits, its loss and its greedy text`, async (t) => {
    const reference = referenceOf(name);
    const model = await loadTiny(reference.base);
    const tuned = await loadAdapter(model, join(folder, name));
    t.true((await referenceError(tuned, reference)) < 1e-5);
    for (const { ids: row, loss } of reference.sequences) {
      const own = scope(() => noGrad(() => tuned.loss({ ids: [row] }).dataSync()[0] as number));
      t.true(Math.abs(own - loss) < 1e-5 * loss);
    }
    const { prompt, tokens, gap } = reference.greedy;
    t.true(gap > 1e-3);
    // Beside another row, so that the batch is padded.
    const [, sample] = await generateBatch(tuned, [ids.slice(0, 2), prompt], { maxNewTokens: tokens.length, endTokens: [] });
    t.deepEqual(sample?.ids, tokens);
    const [alone] = await generateBatch(tuned, [prompt], { maxNewTokens: tokens.length, endTokens: [] });
    t.deepEqual(alone?.ids, tokens);
    const again = join(temporaryFolder(), 'adapter');
    await tuned.save(again);
    const config = JSON.parse(readFileSync(join(again, 'adapter_config.json'), 'utf8'));
    t.like(config, {
      ...JSON.parse(readFileSync(join(folder, name, 'adapter_config.json'), 'utf8')),
      base_model_name_or_path: config.base_model_name_or_path,
    });
    t.deepEqual(readFileSync(join(again, 'adapter_model.safetensors')), readFileSync(join(folder, name, 'adapter_model.safetensors')));
    tuned.dispose();
    model.dispose();
  });
}

for (const config of kinds) {
  test.serial(`${labelOf(config)}: trained in padded batches, recomputed or not, saved as the table alone`, async (t) => {
    const model = await loadTiny();
    const tuned = await attach(model, config, { seed: 5 });
    perturb(tuned, 0.1);
    const gradients = (rows: number[][], checkpointing: boolean): Map<string, Float32Array> => {
      for (const value of tuned.parameters()) value.clearGrad();
      scope(() => tuned.loss({ ids: rows, training: false, reduction: 'sum', checkpointing }).backward());
      return new Map(
        [...tuned.namedParameters()].map(([name, value]) => [name, Float32Array.from((value.grad as Tensor).dataSync() as Float32Array)]),
      );
    };
    const rows = [ids, ids.slice(2), [...ids].reverse()];
    const whole = gradients(rows, false);
    for (const [name, gradient] of gradients(rows, true)) t.true(sameBits(gradient, whole.get(name) as Float32Array), name);
    const alone = rows.map((row) => gradients([row], false));
    for (const [name, gradient] of whole) {
      const total = gradient.map((_, i) => alone.reduce((sum, one) => sum + (one.get(name)?.[i] as number), 0));
      t.true(relativeError(total, gradient) < 1e-4, name);
      t.true(
        gradient.some((value) => value !== 0),
        name,
      );
    }
    const adapted = await logitsOf(tuned, ids);
    const written = join(temporaryFolder(), 'adapter');
    await tuned.save(written);
    t.deepEqual([...readSafetensorsHeader(join(written, 'adapter_model.safetensors')).tensors.keys()], ['prompt_embeddings']);
    tuned.dispose();
    const loaded = await loadAdapter(model, written);
    t.true(sameBits(await logitsOf(loaded, ids), adapted));
    t.deepEqual(
      [...loaded.namedParameters()].map(([name]) => name),
      ['prompt_embeddings'],
    );
    loaded.dispose();
    model.dispose();
  });
}

test.serial('rows with different virtual tokens, other adapters and none generate as alone', async (t) => {
  const model = await loadTiny();
  await attach(model, { type: 'prefix', virtualTokens: 5 }, { name: 'prefix', seed: 1 });
  await attach(model, { type: 'prefix', virtualTokens: 2 }, { name: 'short', seed: 2 });
  await attach(model, { type: 'prompt', virtualTokens: 3 }, { name: 'prompt', seed: 3 });
  const tuned = await attach(model, { type: 'lora', targets: 'all-linear' }, { name: 'lora', seed: 4 });
  perturb(tuned);
  const mixes = [['prefix'], [], ['prompt', 'short'], ['lora'], ['prefix', 'lora', 'prompt'], ['short']];
  const logits = (chosen: readonly number[]): Float32Array =>
    scope(() =>
      Float32Array.from(
        tuned
          .logits(
            chosen.map(() => ids),
            { rows: chosen.map((row) => mixes[row] as string[]) },
          )
          .dataSync() as Float32Array,
      ),
    );
  const together = logits(mixes.map((_, row) => row));
  const size = together.length / mixes.length;
  for (const [row, names] of mixes.entries()) {
    const mine = together.slice(row * size, (row + 1) * size);
    t.true(sameBits(logits([row]), mine), names.join());
    tuned.activate(names);
    t.true(sameBits(await logitsOf(tuned, ids), mine), names.join());
  }
  tuned.activate([]);
  const options = { maxNewTokens: 6, endTokens: [] };
  for (const names of mixes) {
    const [first, second] = await generateBatch(tuned, [ids, ids.slice(1, 4)], { ...options, adapters: names });
    for (const [sample, prompt] of [
      [first, ids],
      [second, ids.slice(1, 4)],
    ] as const) {
      const text = [...prompt];
      for (let i = 0; i < options.maxNewTokens; i++) text.push(bestAfter(tuned, text, names));
      t.deepEqual(sample?.ids, text.slice(prompt.length), names.join());
    }
  }
  tuned.dispose();
  model.dispose();
});

function bestAfter(tuned: TunedModel, text: readonly number[], names: readonly string[]): number {
  const logits = scope(() => Float32Array.from(tuned.logits([text], { rows: [names] }).dataSync() as Float32Array));
  const last = logits.subarray(logits.length - logits.length / text.length);
  return last.indexOf(Math.max(...last));
}

test.serial('the table of BLOOM holds all keys and then all values: the same numbers in their places give the same logits', async (t) => {
  const model = await loadTiny();
  const tuned = await attach(model, { type: 'prefix', virtualTokens: 3 }, { seed: 1 });
  const expected = await logitsOf(tuned, ids);
  const [table] = tuned.parameters();
  const values = Float32Array.from((table as Tensor).dataSync() as Float32Array);
  tuned.dispose();
  const other = await attach(model, { type: 'prefix', virtualTokens: 3, order: 'keys-first' }, { seed: 1 });
  t.false(sameBits(await logitsOf(other, ids), expected));
  const [layers, slice] = [2, values.length / 3 / 4];
  const moved = values.map((_, i) => {
    const [row, place] = [Math.floor(i / (4 * slice)), i % (4 * slice)];
    const [number, rest] = [Math.floor(place / slice), place % slice];
    const from = number < layers ? 2 * number : 2 * (number - layers) + 1;
    return values[row * 4 * slice + from * slice + rest] as number;
  });
  scope(() => noGrad(() => copyInto(other.parameters()[0] as Tensor, tensor(moved, { shape: (other.parameters()[0] as Tensor).shape }))));
  t.true(sameBits(await logitsOf(other, ids), expected));
  const written = join(temporaryFolder(), 'adapter');
  await other.save(written);
  other.dispose();
  const loaded = await loadAdapter(model, written);
  t.true(sameBits(await logitsOf(loaded, ids), expected));
  loaded.dispose();
  model.dispose();
});

test('the encoders of P-tuning make what those of PEFT make', async (t) => {
  const stored = await loadSafetensors(join(folder, 'encoders.safetensors'));
  const context = { dtype: 'f64', seed: 0, stream: () => 0 } as never;
  const encoders = {
    mlp2: new MlpEncoder(5, [6, 4, 4, 6], relu, context),
    lstm2: new LstmEncoder({ tokens: 5, width: 6, size: 4, layers: 2, dropout: 0 }, context),
    lstm1: new LstmEncoder({ tokens: 5, width: 6, size: 4, layers: 1, dropout: 0 }, context),
  };
  for (const [kind, encoder] of Object.entries(encoders)) {
    for (const [name, value] of encoder.namedParameters()) {
      const own = name
        .replace(/^embedding$/, 'embedding.weight')
        .replace(/lstm_head\.(\d)\.0\.(\w+)/, 'lstm_head.$2_l$1')
        .replace(/lstm_head\.(\d)\.1\.(\w+)/, 'lstm_head.$2_l$1_reverse')
        // The activations between the layers count in PEFT.
        .replace(/mlp_head\.(\d)/, (_, number) => `mlp_head.${2 * Number(number)}`);
      const source = stored.get(`${kind}.${own}`);
      t.truthy(source, own);
      scope(() => noGrad(() => copyInto(value as Tensor, cast(source as Tensor, 'f64'))));
    }
    const made = scope(() => Float64Array.from(noGrad(() => encoder.forward(false)).dataSync() as Float64Array));
    t.true(relativeError(made, stored.get(`${kind}.output`)?.dataSync() as Float64Array) < 1e-12, kind);
    encoder.dispose();
  }
  for (const value of stored.values()) value.dispose();
});

test.serial('prompts start from a text or from tokens of the vocabulary, prefixes of zero take weight from the tokens', async (t) => {
  const model = await loadTiny();
  const embedding = (model.module('model.embed_tokens') as never as { forward(ids: Tensor): Tensor }).forward(
    tensor([[...Array(97).keys()]], { dtype: 'i64' }),
  );
  const table = Float32Array.from(embedding.dataSync() as Float32Array);
  const rows = new Set(Array.from({ length: 97 }, (_, id) => String(table.slice(32 * id, 32 * id + 32))));
  const tuned = await attach(model, { type: 'prompt', virtualTokens: 6, init: 'vocabulary' }, { seed: 9 });
  const start = tuned.parameters()[0]?.dataSync() as Float32Array;
  for (let i = 0; i < 6; i++) t.true(rows.has(String(start.slice(32 * i, 32 * i + 32))));
  tuned.dispose();
  await t.throwsAsync(attach(model, { type: 'prompt', init: 'text', initText: 'one two' }), {
    code: 'config',
    message: /needs a model with a tokenizer/,
  });
  embedding.dispose();
  model.dispose();
});

test.serial('what does not go together is refused by name', async (t) => {
  const model = await loadTiny();
  const cases: [Record<string, unknown>, RegExp][] = [
    [{ type: 'prefix', virtualTokens: 0 }, /prefix: virtualTokens is out of range; got 0, expected a positive integer/],
    [{ type: 'prefix', projectionSize: 4 }, /projectionSize is out of range; got 4, expected null without projection/],
    [{ type: 'prefix', init: 'ones' }, /init is out of range; got "ones", expected "random" or "uniform" or "zero"/],
    [{ type: 'prefix', order: 'rows' }, /order is out of range/],
    [{ type: 'prompt', init: 'text' }, /initText is out of range; got null, expected a text/],
    [{ type: 'prompt', initText: 'a' }, /expected null without init "text"/],
    [{ type: 'p-tuning', encoder: 'gru' }, /encoder is out of range; got "gru", expected "mlp" or "lstm"/],
    [{ type: 'p-tuning', encoderDropout: 1 }, /encoderDropout/],
    [{ type: 'prompt', targets: ['q_proj'] }, /prompt: belongs to the whole model; got targets \["q_proj"\], expected none/],
  ];
  for (const [config, message] of cases)
    await t.throwsAsync(attach(model, config as never), { code: 'config', message }, JSON.stringify(config));
  const network = new TinyNetwork();
  await t.throwsAsync(attach(network, { type: 'prompt' }), {
    code: 'config',
    message: /prompt: stands in front of the tokens of .*; got TinyNetwork/,
  });
  network.dispose();
  const tuned = await attach(model, { type: 'prompt', virtualTokens: 60 });
  t.throws(() => tuned.logits([ids]), {
    message: /row 0 is longer than the context; got 66 tokens, 60 of them virtual, expected at most 64/,
  });
  await t.throwsAsync(generateBatch(tuned, [ids]), { message: /leaves no room in the context; got 6 tokens, expected fewer than 4/ });
  t.throws(() => tuned.loss({ ids: [[1, 2, 3]], documents: [[0, 0, 1]] }), { message: /packed documents cannot share virtual tokens/ });
  tuned.dispose();
  const other = await loadTiny('models/qwen3-head-dim');
  await t.throwsAsync(loadAdapter(other, join(folder, 'prefix')), {
    code: 'adapter',
    message: /prompt_embeddings: got \[5, 64\], expected \[5, \d+\]/,
  });
  other.dispose();
  model.dispose();
});

test.serial('sequences are as long as the context allows beside virtual tokens', async (t) => {
  const model = await loadTiny();
  t.is(trainingSettings(model, { steps: 1 }).sequence, 64);
  const tuned = await attach(model, { type: 'prefix', virtualTokens: 10 });
  t.is(trainingSettings(tuned, { steps: 1 }).sequence, 54);
  t.throws(() => trainingSettings(tuned, { steps: 1, sequence: 60 }), { code: 'config', message: /got 60, expected at most 54/ });
  tuned.dispose();
  model.dispose();
});

test.serial('tokens have no strength to multiply', async (t) => {
  const model = await loadTiny();
  for (const config of kinds) {
    const tuned = await attach(model, config);
    t.throws(() => tuned.setScale('default', 0.5), { code: 'adapter', message: /"(prefix|prompt|p-tuning)" has no strength to multiply/ });
    tuned.dispose();
  }
  model.dispose();
});
