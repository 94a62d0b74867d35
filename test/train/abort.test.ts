import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { CancelledError, memory, type TrainOptions, train } from 'lorikeet';
import { temporaryFolder } from '../helpers/command-line.js';
import { settledTensors } from '../helpers/settled-bytes.js';
import { shippedRows, shippedText, withTuned } from '../helpers/shipped.js';

const root = temporaryFolder();
const data = { train: { path: shippedText('train') }, eval: { rows: shippedRows(20) } };
const training = { batch: 2, accumulate: 3, sequence: 48, learningRate: 5e-3, steps: 4, saveEvery: 2, evalEvery: 2 } as const;
const report = { samples: ['Once upon'], maxNewTokens: 40 };
const weightsOf = (out: string, folder: string) => readFileSync(join(out, folder, 'adapter_model.safetensors'));
const rowsOf = (out: string) =>
  readFileSync(join(out, 'metrics.jsonl'), 'utf8').replaceAll(/"(seconds|peakBytes|residentBytes)":[^,}]+/g, '');

const go = (out: string, more: Partial<TrainOptions> = {}) =>
  withTuned((tuned) => train(tuned, { data, training, report, out, ...more }).then(), { dropout: 0.1 });

const straight = join(root, 'straight');
test.before(() => go(straight));

/** Fires the signal when it was asked about for the n-th time: each is a moment in which work could go on. */
function firing(at: number): { signal: AbortSignal; asked: () => number } {
  const controller = new AbortController();
  let asked = 0;
  const signal = new Proxy(controller.signal, {
    get(target, key) {
      if (key === 'aborted' && ++asked === at) controller.abort(new Error('enough'));
      const value = Reflect.get(target, key, target) as unknown;
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
  return { signal, asked: () => asked };
}

test.serial('a signal that fires at any moment ends the run at once, and the resumed run has the same bits', async (t) => {
  const { signal, asked } = firing(Number.POSITIVE_INFINITY);
  await go(join(root, 'counted'), { signal });
  const moments = asked();
  t.true(moments > 100, `${moments}: samples before and after, rows, batches, evaluations`);
  const before = await settledTensors();
  // Among the rows, in the first samples, between the batches of a step, in an evaluation, in the last samples.
  for (const share of [0.03, 0.2, 0.46, 0.52, 0.9]) {
    const at = Math.max(1, Math.floor(share * moments));
    const out = join(root, `moment-${at}`);
    const { signal: own, asked: until } = firing(at);
    const error = await t.throwsAsync(go(out, { signal: own }), { instanceOf: CancelledError }, `moment ${at} of ${moments}`);
    t.true(until() - at < 5, `it went on for ${until() - at} moments after moment ${at}`);
    t.is((error?.cause as Error | undefined)?.message, 'enough', `moment ${at}`);
    t.is(memory().tensors, before);
    await go(out, { resume: true });
    for (const folder of ['adapter', 'best']) t.deepEqual(weightsOf(out, folder), weightsOf(straight, folder), `moment ${at}`);
    t.is(rowsOf(out), rowsOf(straight), `moment ${at}`);
  }
});

test.serial('a signal that fires during a save lets it end', async (t) => {
  const out = join(root, 'save');
  const controller = new AbortController();
  const callbacks = { onCheckpoint: () => controller.abort() };
  await t.throwsAsync(go(out, { signal: controller.signal, callbacks }), {
    code: 'cancelled',
    message: /after step 2 of 4; saved ".*step-2"/,
  });
  t.deepEqual(readdirSync(join(out, 'checkpoints')), ['step-2']);
  await go(out, { resume: true });
  t.deepEqual(weightsOf(out, 'adapter'), weightsOf(straight, 'adapter'));
});
