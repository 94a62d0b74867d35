import { join } from 'node:path';
import test from 'ava';
import { attach, estimate, loadModel, memory, resetPeakMemory, synchronize, type TrainingOptions, train } from 'lorikeet';
import type { AnyInit } from '#dist/inits/init.js';
import { inits } from '#dist/inits/registry.js';
import { goldenModel } from '../helpers/folders.js';
import { settledTensors } from '../helpers/settled-bytes.js';
import { shippedModel } from '../helpers/shipped.js';

const adapter = { type: 'lora', rank: 8, targets: 'all-linear' } as const;
const total = (parts: object): number => Object.values(parts).reduce((sum: number, bytes: number) => sum + bytes, 0);

/** Bytes by which peaks of the same run differ: how far the JavaScript thread is ahead of the engine decides when results are let go. */
const kLag = 2 ** 20;

/** What a real run takes, with rows that fill the sequence. Nothing of it is left: what the collector frees later would change the peak of another. */
async function real(model: string, training: TrainingOptions, config: { readonly type: 'lora' } = adapter) {
  const loaded = await loadModel(model);
  resetPeakMemory();
  const before =
    memory().bytes -
    [...loaded.network.namedParameters()].reduce((sum, [, value]) => sum + ('bytes' in value ? value.bytes : 4 * value.size), 0);
  const tuned = await attach(loaded, config, { seed: 1 });
  const text = 'once upon a time there was a little bird. '.repeat(60);
  const result = await train(tuned, { data: { train: { rows: Array.from({ length: 16 }, () => text) } }, training });
  tuned.dispose();
  loaded.dispose();
  await synchronize();
  return { peak: result.peakBytes - Math.max(0, before), parameters: result.trainableParameters, tokens: result.tokens / result.steps };
}

for (const training of [
  { steps: 3, batch: 4, sequence: 128 },
  { steps: 3, batch: 8, sequence: 64, optimizer: 'sgd' },
  { steps: 3, batch: 2, sequence: 256, accumulate: 2 },
] as const satisfies TrainingOptions[]) {
  test.serial(`the peak of ${JSON.stringify(training)} is that of the run`, async (t) => {
    const found = await estimate({ model: shippedModel, adapter, training });
    const { peak, parameters, tokens } = await real(shippedModel, training);
    t.is(found.trainableParameters, parameters);
    t.is(found.tokensPerStep, tokens);
    t.is(found.totalBytes, total(found.peakBytes));
    t.true(Math.abs(found.totalBytes - peak) < 0.1 * peak + kLag, `${found.totalBytes} for ${peak}`);
    t.true(Object.values(found.peakBytes).every((bytes) => Number.isInteger(bytes) && bytes >= 0));
    t.true(found.secondsPerStep > 0 && found.totalSeconds === 3 * found.secondsPerStep);
    t.true(found.processBytes > found.totalBytes && found.availableBytes > 0);
  });
}

test.serial('parts that shapes decide are exact: adapter, gradients, states of AdamW', async (t) => {
  const { peakBytes, trainableParameters } = await estimate({ model: shippedModel, adapter, training: { batch: 2, sequence: 32 } });
  t.is(peakBytes.adapter, 4 * trainableParameters);
  t.is(peakBytes.gradients, 4 * trainableParameters);
  t.is(peakBytes.optimizer, 8 * trainableParameters);
});

test.serial('an adapter that looks at weights or data is estimated without doing so, with the part that it keeps', async (t) => {
  const training = { batch: 2, sequence: 32 };
  const plain = await estimate({ model: shippedModel, adapter, training });
  for (const { name, changesBase } of Object.values(inits) as AnyInit[]) {
    const found = await estimate({ model: shippedModel, adapter: { ...adapter, init: name }, training });
    t.is(found.trainableParameters, plain.trainableParameters, name);
    t.is(found.peakBytes.adapter, (changesBase ? 2 : 1) * plain.peakBytes.adapter, name);
  }
});

test.serial('an adapter on some blocks, and rows shorter than the sequence', async (t) => {
  const training = { batch: 2, sequence: 128 };
  const some = { ...adapter, targets: ['q_proj'], layersToTransform: [3, 4] };
  const found = await estimate({ model: shippedModel, adapter: some, training });
  t.is(found.trainableParameters, 2 * 8 * (64 + 64));
  const short = await estimate({
    model: shippedModel,
    adapter: some,
    training,
    data: { train: { path: join('examples', 'shakespeare', 'dev.jsonl') } },
  });
  t.true(short.tokensPerStep <= found.tokensPerStep);
});

test.serial('recipes that cannot run are refused as by train, without a trace', async (t) => {
  const tensors = await settledTensors();
  const refused = (more: object, message: RegExp) => t.throwsAsync(estimate({ model: shippedModel, adapter, ...more }), { message });
  await refused({ adapter: { ...adapter, targets: ['q_prj'] } }, /no module matches "q_prj"; did you mean "q_proj"\?/);
  await refused({ training: { sequence: 9999 } }, /longer than the model's context; got 9999, expected at most 512/);
  await refused({ model: join(goldenModel('llama-bf16'), 'none') }, /no such file or folder/);
  await refused({ model: 'test/golden/adapters/plain' }, /is an adapter; expected the model it was made for/);
  const controller = new AbortController();
  controller.abort();
  await t.throwsAsync(estimate({ model: shippedModel, adapter }, { signal: controller.signal }), { code: 'cancelled' });
  t.is(memory().tensors, tensors);
});
