// The methods for encoders by their counts, on every encoder, through files, and what they refuse.
import { join } from 'node:path';
import test from 'ava';
import { type AdapterConfig, attach, ConfigError, loadAdapter, memory, noGrad, scope, type Tensor } from 'lorikeet';
import { zeros } from 'lorikeet/ops';
import { readSafetensorsHeader } from '#dist/io/safetensors-files.js';
import type { EncoderNetwork } from '#dist/models/encoder.js';
import { createEncoder } from '#dist/models/encoders.js';
import { relativeError, sameBits, temporaryFolder } from '../helpers/adapters.js';
import { answer, inputOf, open, plain, trained, values } from '../helpers/encoder-methods.js';
import { asModel, textBatch } from '../helpers/encoders.js';
import { perturb } from '../helpers/perturb.js';

// ---- counts

/** AST of the published size, with norms and biases alone. */
function publishedAst(): EncoderNetwork {
  const config = {
    model_type: 'audio-spectrogram-transformer',
    hidden_size: 768,
    num_hidden_layers: 12,
    num_attention_heads: 12,
    intermediate_size: 3072,
  };
  const network = createEncoder({ ...config, max_length: 500 }, 'classification', { labels: 50, pooling: { mode: 'mean' } });
  for (const [, module] of network.namedModules())
    for (const [name, shape] of Object.entries(module.parameterShapes())) if (shape.length === 1) module.assign(name, zeros(shape));
  return network;
}

const kNorm = 2 * 768;
for (const [config, count] of [
  [{ type: 'block-adapter' }, 12 * (19212 + kNorm) + kNorm],
  [{ type: 'block-adapter', sublayers: 'both' }, 12 * 2 * (19212 + kNorm) + kNorm],
  // The published program makes a norm in every adapter that it does not use.
  [{ type: 'block-adapter', block: 'conformer', reduction: 96 }, 270720 - 12 * kNorm + kNorm],
  [{ type: 'deep-prompt' }, 230400 + kNorm],
  [{ type: 'deep-prompt', deep: false, virtualTokens: 300 }, 230400 + kNorm],
  [{ type: 'prefix', virtualTokens: 12, init: 'uniform' }, 221184],
  [{ type: 'bitfit' }, 102144],
  [{ type: 'shared-lora' }, 221184],
  [{ type: 'mixture-of-adapters', mixture: 'soft' }, 12 * (7 * (768 * 6 * 2 + 768 + 6) + 768 * 7 + kNorm) + kNorm],
] as [AdapterConfig, number][]) {
  test.serial(`numbers to train in the published AST: ${JSON.stringify(config)}`, async (t) => {
    const network = publishedAst();
    const set = await attach(network, config);
    t.is(trained(set), count);
    set.dispose();
    network.dispose();
  });
}

// ---- every encoder, files

const anywhere = [
  { type: 'block-adapter', sublayers: 'both', width: 3, init: 'trunc_normal_0.02' },
  { type: 'block-adapter', block: 'convpass', placement: 'sequential', width: 3 },
  { type: 'block-adapter', block: 'conformer', width: 3, kernelSize: 5 },
  { type: 'mixture-of-adapters', width: 3 },
  { type: 'mixture-of-adapters', mixture: 'soft', width: 3, slots: 2 },
  { type: 'deep-prompt', virtualTokens: 3 },
  { type: 'deep-prompt', virtualTokens: 3, deep: false },
  { type: 'prefix', virtualTokens: 3 },
  { type: 'bitfit' },
  { type: 'linear-probe', modulesToSave: ['classifier'] },
  { type: 'full' },
] as AdapterConfig[];

for (const name of ['ast', 'vit']) {
  test.serial(
    `${name}: every method changes the answer, can be switched off, and comes back from its file with the same bits`,
    async (t) => {
      const network = await open(name);
      const model = asModel(network, name);
      const input = inputOf(network);
      const base = answer(network, input);
      for (const config of anywhere) {
        const tuned = await attach(model, config, { seed: 3 });
        perturb(tuned, 0.2);
        const changed = answer(network, input);
        const label = JSON.stringify(config);
        t.true(changed.every(Number.isFinite) && relativeError(changed, base) > 1e-3, label);
        tuned.disable();
        t.true(sameBits(answer(network, input), base), label);
        tuned.enable();
        const folder = join(temporaryFolder(), 'adapter');
        await tuned.save(folder);
        tuned.dispose();
        const loaded = await loadAdapter(model, folder);
        t.true(sameBits(answer(network, input), changed), label);
        loaded.dispose();
      }
      t.true(sameBits(answer(network, input), base));
      for (const x of Object.values(input)) x.dispose();
      model.dispose();
    },
  );
}

test.serial('bert: a row has the same answer alone and beside a longer one', async (t) => {
  const network = await open('bert-classification');
  const [short, long] = [
    [2, 7, 9, 3],
    [2, 11, 5, 8, 6, 4, 3],
  ];
  const run = (rows: number[][]): Float64Array =>
    scope(() => {
      const { input, context: own } = textBatch(rows);
      return values(noGrad(() => network.forward(input, own)));
    });
  const base = run([short]);
  for (const config of anywhere) {
    const set = await attach(network, config, { seed: 3 });
    perturb(set, 0.2);
    const alone = run([short]);
    t.true(relativeError(alone, base) > 1e-3, JSON.stringify(config));
    t.true(relativeError(run([short, long]).slice(0, alone.length), alone) < 1e-5, JSON.stringify(config));
    set.dispose();
  }
  network.dispose();
});

test.serial('prompts: where they stand, and what the head reads', async (t) => {
  const network = await open('ast', 'classification', 'f64');
  const { contextLength } = network.shape;
  const seen: number[] = [];
  const read = new Map<string, Float64Array>();
  for (const reading of ['all', 'special', 'prompts', 'patches', 'prompts+patches'] as const) {
    const set = await attach(network, { type: 'deep-prompt', virtualTokens: 3, reading });
    const look = network.module('audio_spectrogram_transformer.layernorm') as unknown as { forward: (x: Tensor) => Tensor };
    const before = look.forward.bind(look);
    look.forward = (x) => {
      seen.push(x.shape[1] ?? 0);
      return before(x);
    };
    const input = inputOf(network, 1, 'f64');
    read.set(reading, answer(network, input));
    look.forward = before;
    for (const x of Object.values(input)) x.dispose();
    set.dispose();
  }
  const patches = contextLength - 2;
  t.deepEqual(seen, [1 + 3 + patches, 1, 3, patches, 3 + patches]);
  t.is(new Set([...read.values()].map((x) => x.join())).size, 5);
  network.dispose();
});

test.serial('one pair of factors for query and key is two with the same values, merged or not', async (t) => {
  const network = await open('ast', 'classification', 'f64');
  const model = asModel(network, 'ast');
  const input = inputOf(network, 2, 'f64');
  const base = answer(network, input);
  const shared = await attach(model, { type: 'shared-lora', rank: 3, alpha: 6, init: 'trunc_normal_0.02' }, { seed: 4 });
  t.is(trained(shared.adapters), 2 * 3 * 2 * 32);
  perturb(shared.adapters, 0.2);
  const changed = answer(network, input);
  t.true(relativeError(changed, base) > 1e-3);
  await shared.merge();
  t.true(relativeError(answer(network, input), changed) < 1e-12);
  await shared.unmerge();
  const [own, plainFolder] = [join(temporaryFolder(), 'own'), join(temporaryFolder(), 'plain')];
  await shared.save(own);
  await shared.save(plainFolder, { form: 'lora' });
  shared.dispose();
  for (const [folder, numbers] of [
    [own, 2 * 3 * 2 * 32],
    [plainFolder, 2 * 2 * 3 * 2 * 32],
  ] as const) {
    const loaded = await loadAdapter(model, folder);
    t.is(trained(loaded.adapters), numbers);
    t.true(relativeError(answer(network, input), changed) < 1e-12);
    loaded.dispose();
  }
  for (const x of Object.values(input)) x.dispose();
  model.dispose();
});

test.serial('counts of conformer stay whole in files of fewer bits', async (t) => {
  const network = await open();
  const model = asModel(network, 'ast');
  const tuned = await attach(model, { type: 'block-adapter', block: 'conformer', width: 3 });
  const folder = join(temporaryFolder(), 'adapter');
  await tuned.save(folder, { dtype: 'bf16' });
  tuned.dispose();
  const { tensors } = readSafetensorsHeader(join(folder, 'adapter_model.safetensors'));
  for (const [name, { dtype }] of tensors) t.is(dtype, name.endsWith('num_batches_tracked') ? 'I64' : 'BF16', name);
  (await loadAdapter(model, folder)).dispose();
  model.dispose();
});

test.serial('biases inside a module that is saved whole are trained once', async (t) => {
  const network = await open('vit');
  for (const config of [
    { type: 'lora', bias: 'all' },
    { type: 'bottleneck', bias: 'all' },
  ] as AdapterConfig[]) {
    const set = await attach(network, { ...config, modulesToSave: ['layer.1'] } as AdapterConfig);
    const names = [...set.namedParameters()].map(([name]) => name);
    t.is(new Set(names).size, names.length, config.type);
    t.true(names.some((name) => name.endsWith('layer.0.output.dense.bias') || name.endsWith('base_layer.bias')));
    set.dispose();
  }
  network.dispose();
});

// ---- refusals

test.serial('what cannot be is refused', async (t) => {
  const network = await open();
  const { hiddenSize, contextLength } = network.shape;
  for (const [config, message] of [
    [{ type: 'block-adapter', reduction: hiddenSize + 1 }, /^block-adapter: reduction leaves nothing of a stream of \d+/],
    [{ type: 'block-adapter', width: 0 }, /^block-adapter: width is out of range; got 0/],
    [{ type: 'block-adapter', sublayers: 'houlsby' }, /^block-adapter: sublayers is out of range; got "houlsby"/],
    [{ type: 'block-adapter', block: 'lstm' }, /^block-adapter: block is out of range; got "lstm"/],
    [{ type: 'block-adapter', placement: 'after' }, /^block-adapter: placement is out of range; got "after"/],
    [{ type: 'block-adapter', residual: 'False' }, /^block-adapter: residual is out of range; got "False"/],
    [{ type: 'block-adapter', block: 'conformer', init: 'zero' }, /only bottlenecks start so/],
    [{ type: 'mixture-of-adapters', slots: 2 }, /^mixture-of-adapters: a dense mixture has no slots/],
    [{ type: 'mixture-of-adapters', adapters: 0 }, /^mixture-of-adapters: adapters is out of range; got 0/],
    [{ type: 'deep-prompt', virtualTokens: contextLength }, /^deep-prompt: virtualTokens must be fewer than the tokens of the model/],
    [{ type: 'deep-prompt', reading: 'cls' }, /^deep-prompt: reading is out of range; got "cls"/],
    // P of the paper counts keys and values: an odd one has no half.
    [{ type: 'prefix', virtualTokens: 25 / 2 }, /^prefix: virtualTokens is out of range; got 12.5/],
    [{ type: 'prompt' }, /^prompt: puts embeddings in front of the tokens of a text; got AstNetwork/],
  ] as [AdapterConfig, RegExp][]) {
    await t.throwsAsync(attach(network, config), { instanceOf: ConfigError, message });
  }
  const set = await attach(network, { type: 'deep-prompt' }, { name: 'one' });
  await attach(network, { type: 'deep-prompt', virtualTokens: 4 }, { name: 'two' });
  scope(() => {
    const input = inputOf(network);
    t.throws(() => network.forward(input, { training: false, rows: [['one'], ['two']] }), { message: /different prompts/ });
    set.activate(['one', 'two']);
    t.throws(() => network.forward(input, plain), { message: /prompts of 2 adapters/ });
  });
  set.dispose();
  network.dispose();
});

test.after.always('no tensor is left', (t) => {
  t.is(memory().tensors, 0);
});
