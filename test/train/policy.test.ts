import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { LossSpikeError, NonFiniteError, type StepReport, type TrainingOptions, type TunedModel, train } from 'lorikeet';
import { mul } from 'lorikeet/ops';
import { StepPolicy } from '#dist/train/policy.js';
import { temporaryFolder } from '../helpers/command-line.js';
import { shippedRows, shippedText, withTuned } from '../helpers/shipped.js';

const data = { train: { path: shippedText('train') } };
const short = { batch: 2, sequence: 48, learningRate: 5e-3 } as const;
const plain = { nonFinite: 'stop', lossSpike: 'ignore', spikeFactor: 3, spikeWindow: 3 } as const;
const values = (loss: number, gradNorm = 1) => ({ loss, gradNorm });

test('a spike is a loss above the factor times the median of a full window', (t) => {
  const policy = new StepPolicy({ ...plain, lossSpike: 'skip' });
  const see = (loss: number) => {
    const judgement = policy.judge(values(loss));
    policy.note(values(loss), judgement);
    return judgement.action;
  };
  t.deepEqual([1, 100, 2].map(see), ['update', 'update', 'update'], 'the window is not full');
  // Median of 1, 100, 2 is 2; of 100, 2, 6 is 6; of 2, 6, 18.1 is 6; of 6, 18.1, 18 is 18.
  t.deepEqual([6, 18.1, 18, 54].map(see), ['update', 'skip', 'update', 'update']);
  t.is(policy.skipped, 1);
  t.deepEqual(policy.state(), { losses: [18.1, 18, 54], skipsInARow: 0, skipped: 1 });
  const again = new StepPolicy({ ...plain, lossSpike: 'stop' });
  again.restore(policy.state());
  t.like(again.judge(values(54.4)), { action: 'stop', problem: 'spike', median: 18.1 });
  t.is(again.judge(values(54)).action, 'update');
  const even = new StepPolicy({ ...plain, spikeWindow: 4, lossSpike: 'warn' });
  even.restore({ losses: [1, 4, 2, 3], skipsInARow: 0, skipped: 0 });
  t.deepEqual(even.judge(values(7.6)), { action: 'update', problem: 'spike', median: 2.5 });
});

test('ten skipped steps in a row are the most', (t) => {
  const policy = new StepPolicy({ ...plain, nonFinite: 'skip' });
  for (let step = 0; step < 10; step++) {
    const judgement = policy.judge(values(2, Number.NaN));
    t.deepEqual(judgement, { action: 'skip', problem: 'non-finite' });
    policy.note(values(2, Number.NaN), judgement);
  }
  const judgement = policy.judge(values(Number.POSITIVE_INFINITY));
  t.is(judgement.action, 'stop');
  const error = policy.stopError(11, values(Number.POSITIVE_INFINITY), judgement, ['a:1', 'a:2']);
  t.true(error instanceof NonFiniteError);
  t.is(
    error.message,
    'train: the loss is Infinity at step 11 after 10 skipped steps in a row; its rows are a:1, a:2; lower the learning rate, or look at these rows',
  );
  policy.note(values(2), policy.judge(values(2)));
  t.is(policy.judge(values(Number.NaN)).action, 'skip', 'a good step begins the count again');
});

/** Makes the loss of some steps not a number, or far too high. */
function spoiled(tuned: TunedModel, factorOf: (step: number) => number): { tuned: TunedModel; calls: () => number } {
  let calls = 0;
  const model = new Proxy(tuned, {
    get(target, key) {
      if (key !== 'loss') {
        const value = Reflect.get(target, key, target) as unknown;
        return typeof value === 'function' ? value.bind(target) : value;
      }
      return (input: Parameters<TunedModel['loss']>[0]) => {
        calls++;
        const loss = target.loss(input);
        const factor = factorOf(calls);
        return factor === 1 ? loss : mul(loss, factor);
      };
    },
  });
  return { tuned: model, calls: () => calls };
}

const run = (training: TrainingOptions, factorOf: (step: number) => number, out?: string, resume = false, steps = 8) =>
  withTuned(
    async (tuned) => {
      const reports: StepReport[] = [];
      const skipped: string[] = [];
      const model = spoiled(tuned, factorOf).tuned;
      const options = { data, training: { ...short, steps, ...training }, out, resume };
      const training_ = train(model, { ...options, callbacks: { onSkip: ({ step, skipped: why }) => skipped.push(`${step} ${why}`) } });
      for await (const report of training_) reports.push(report);
      const weights = out === undefined ? undefined : readFileSync(join(out, 'adapter', 'adapter_model.safetensors'));
      return { reports, skipped, result: await training_, weights };
    },
    { dropout: 0.1 },
  );

test.serial('skip leaves the update out and counts it; the schedule goes on', async (t) => {
  const out = join(temporaryFolder(), 'run');
  const policy = { nonFinite: 'skip', lossSpike: 'skip', spikeWindow: 3, spikeFactor: 2 } as const;
  const bad = (call: number) => (call === 3 ? Number.NaN : call === 6 ? 50 : 1);
  const { reports, skipped, result } = await run({ policy }, bad, out);
  t.deepEqual(skipped, ['3 non-finite', '6 spike']);
  t.is(result.skippedSteps, 2);
  t.is(result.steps, 8);
  t.is(
    result.tokens,
    reports.reduce((sum, { tokens, skipped: why }) => sum + (why === undefined ? tokens : 0), 0),
  );
  const rows = readFileSync(join(out, 'metrics.jsonl'), 'utf8').trim().split('\n');
  const marks = rows.map((line) => JSON.parse(line) as { skipped?: string; loss: number | null });
  t.deepEqual(
    marks.map(({ skipped: why }) => why),
    [undefined, undefined, 'non-finite', undefined, undefined, 'spike', undefined, undefined],
  );
  t.is(marks[2]?.loss, null);
  t.regex(readFileSync(join(out, 'report.html'), 'utf8'), /2 steps? skipped/);
  const rates = reports.map(({ learningRate }) => learningRate);
  const expected = (await run({}, () => 1)).reports.map(({ learningRate }) => learningRate);
  t.deepEqual(rates, expected);
});

test.serial('a policy decides the same after a resume', async (t) => {
  const folder = temporaryFolder();
  const training = { policy: { lossSpike: 'skip', spikeWindow: 4, spikeFactor: 1.5 }, saveEvery: 1 } as const;
  const straight = await run(training, (call) => (call === 6 ? 9 : 1), join(folder, 'straight'));
  t.deepEqual(straight.skipped, ['6 spike']);
  const out = join(folder, 'resumed');
  const controller = new AbortController();
  await withTuned(
    async (tuned) => {
      const first = train(tuned, { data, training: { ...short, steps: 8, ...training }, out, signal: controller.signal });
      await t.throwsAsync(
        async () => {
          for await (const { step } of first) if (step === 4) controller.abort();
        },
        { code: 'cancelled' },
      );
    },
    { dropout: 0.1 },
  );
  const resumed = await run(training, (call) => (call === 2 ? 9 : 1), out, true);
  t.deepEqual(resumed.skipped, ['6 spike']);
  t.deepEqual(resumed.weights, straight.weights);
});

test.serial('stop ends with the state before the step saved; warn only tells', async (t) => {
  const out = join(temporaryFolder(), 'run');
  const spike = (call: number) => (call === 5 ? 9 : 1);
  const policy = { lossSpike: 'stop', spikeWindow: 4, spikeFactor: 2 } as const;
  const error = await t.throwsAsync(run({ policy }, spike, out), { instanceOf: LossSpikeError });
  t.regex(
    error?.message ?? '',
    /^train: the loss rose above 2 times the median of the last 4; got \S+, median \S+, at step 5; its rows are .*; ".*step-4" holds the state after step 4$/,
  );
  const { reports, skipped } = await run({ policy: { ...policy, lossSpike: 'warn' } }, (call) => (call === 1 ? 9 : 1), out, true);
  t.deepEqual(
    reports.map(({ step, spike: told }) => [step, told]),
    [
      [5, true],
      [6, undefined],
      [7, undefined],
      [8, undefined],
    ],
  );
  t.deepEqual(skipped, []);
});

test.serial('early stopping ends the run; resumed it is done at once', async (t) => {
  const out = join(temporaryFolder(), 'run');
  // With this rate nothing moves, so the first evaluation stays the best.
  const training = { ...short, learningRate: 1e-30, steps: 20, evalEvery: 2, earlyStopping: { patience: 3 } };
  const held = { ...data, eval: { rows: shippedRows(2) } };
  const first = await withTuned((tuned) => train(tuned, { data: held, training, out }).then());
  t.is(first.steps, 8);
  t.regex(first.stoppedEarly ?? '', /^held-out loss not below \d\.\d+ in 3 evaluations$/);
  t.is(first.best?.step, 2);
  await withTuned(async (tuned) => {
    const again = train(tuned, { data: held, training, out, resume: true });
    for await (const { step } of again) t.fail(`step ${step}`);
    const result = await again;
    t.is(result.stoppedEarly, first.stoppedEarly);
    t.is(result.steps, 8);
  });
  const more = await withTuned((tuned) =>
    train(tuned, { data: held, training: { ...training, earlyStopping: { patience: 4 } }, out, resume: true }).then(),
  );
  t.is(more.steps, 10);
  await withTuned(async (tuned) => {
    t.throws(() => train(tuned, { data, training }), {
      code: 'config',
      message: /training\.earlyStopping: needs held-out rows; expected data\.eval/,
    });
  });
});

test('a loss must be lower by more than minDelta', async (t) => {
  const { EarlyStopping } = await import('#dist/train/early-stopping.js');
  const stopping = new EarlyStopping({ patience: 2, minDelta: 0.1 });
  for (const loss of [3, 2.95, 2.85, 2.8]) stopping.note(loss);
  t.is(stopping.reason, undefined);
  const again = new EarlyStopping({ patience: 2, minDelta: 0.1 });
  again.restore(stopping.state());
  again.note(Number.NaN);
  t.is(again.reason, 'held-out loss not below 2.8500 by more than 0.1 in 2 evaluations');
});
