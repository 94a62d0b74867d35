import test from 'ava';
import { type AdapterConfig, attach, loadModel, memory, setMemoryLimit, train } from 'lorikeet';
import { checkMemory, freeMemory } from '#dist/estimate/check.js';
import { taskOf } from '#dist/tasks/registry.js';
import { settingsWithin } from '#dist/train/options.js';
import { settledTensors } from '../helpers/settled-bytes.js';
import { shippedRows, withTuned } from '../helpers/shipped.js';
import { tinyEncoder } from '../helpers/tiny-encoder.js';

const settings = (more: object = {}) => settingsWithin(512, { batch: 8, sequence: 128, ...more });

test.serial('a run that does not fit is refused with parts and what helps; the model is as before', (t) =>
  withTuned(async (tuned) => {
    await checkMemory(tuned, settings(), 128, 4e7);
    const tensors = await settledTensors();
    const error = await t.throwsAsync(checkMemory(tuned, settings(), 128, 1e6), { code: 'out-of-memory' });
    t.regex(
      error?.message ?? '',
      /^train: not enough memory; the run needs about [\d.]+ MiB beside the model \(activations [\d.]+ MiB, gradients [\d.]+ KiB, optimizer [\d.]+ KiB\)/,
    );
    t.regex(
      error?.message ?? '',
      /977 KiB is available; what helps: training\.batch below 8 with more training\.accumulate, training\.checkpointing: true/,
    );
    t.is(memory().tensors, tensors);
    t.is(memory().limitBytes, 0);
    t.true([...tuned.namedParameters()].every(([, parameter]) => parameter.grad === undefined));
  }),
);

test.serial('the bound from shapes is above what a step takes, and a measurement decides between', (t) =>
  withTuned(async (tuned) => {
    // About 13 MiB are taken; the bound is above 20 MiB.
    await t.notThrowsAsync(checkMemory(tuned, settings(), 128, 40 * 2 ** 20));
    await t.throwsAsync(checkMemory(tuned, settings({ checkpointing: true, batch: 1 }), 128, 1e5), { code: 'out-of-memory' });
  }),
);

test.serial('the state of the optimizer counts as large as it will be', (t) =>
  withTuned(async (tuned) => {
    const parts = async (optimizer: string): Promise<(string | undefined)[]> => {
      const error = await t.throwsAsync(checkMemory(tuned, settings({ optimizer }), 128, 1e5), { code: 'out-of-memory' });
      return /gradients ([\d.]+ KiB), optimizer ([\d.]+ KiB)/.exec(error?.message ?? '')?.slice(1) ?? [];
    };
    const [gradients, adamw] = await parts('adamw');
    t.true(gradients !== undefined && adamw !== undefined && adamw !== gradients);
    t.deepEqual(await parts('lion'), [gradients, gradients]);
    t.deepEqual(await parts('sgd'), [gradients, gradients]);
  }),
);

test.serial('warn goes on with a warning, ignore does not look', async (t) => {
  const seen: string[] = [];
  const listen = (warning: Error): void => void seen.push(warning.message);
  process.on('warning', listen);
  await withTuned(async (tuned) => {
    await checkMemory(tuned, settings({ memory: 'ignore' }), 128, 0);
    await checkMemory(tuned, settings({ memory: 'warn' }), 128, 0);
    await new Promise((resolve) => setImmediate(resolve));
  });
  process.off('warning', listen);
  t.is(seen.length, 1);
  t.regex(seen[0] ?? '', /not enough memory/);
});

test.serial('train looks before its first step, at the limit of the engine as well', (t) =>
  withTuned(async (tuned) => {
    setMemoryLimit(memory().bytes + 100_000);
    try {
      t.true(freeMemory() <= 100_000);
      await t.throwsAsync(async () => await train(tuned, { data: { train: { rows: shippedRows(4) } }, training: { steps: 1, batch: 4 } }), {
        code: 'out-of-memory',
        message: /training\.memory: warn starts all the same/,
      });
    } finally {
      setMemoryLimit(0);
    }
  }),
);

test.serial('what is measured is the step that training makes: the loss of the adapter, and all texts of a streamed row', async (t) => {
  const folder = tinyEncoder();
  const model = await loadModel(folder, { task: 'classification', labels: 2, dtype: 'f32' });
  const { network } = model;
  /** Forward passes of a check that shapes alone do not settle. */
  const passes = async (consistency: object | null): Promise<number> => {
    const tuned = await attach(model, { type: 'mosa', style: 'houlsby', bottleneckSize: 8, experts: 2, consistency } as AdapterConfig);
    const forward = network.forward.bind(network);
    let count = 0;
    network.forward = (...of: Parameters<typeof forward>) => {
      count++;
      return forward(...of);
    };
    try {
      await t.throwsAsync(checkMemory(tuned, settingsWithin(24, { batch: 256 }), 24, 2e6), { code: 'out-of-memory' });
    } finally {
      network.forward = forward;
      tuned.dispose();
    }
    return count;
  };
  const one = await passes(null);
  t.true(one > 0);
  t.is(await passes({ kl: 1, ce2: 0.5 }), 2 * one);
  model.dispose();
  const embedder = await loadModel(folder, { task: 'embedding', dtype: 'f32' });
  t.is(taskOf(embedder, { type: 'triplet' } as never).mostTokens?.(24), 72);
  t.is(taskOf(embedder).mostTokens?.(24), 72);
  embedder.dispose();
});
