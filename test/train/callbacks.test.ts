import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { CancelledError, memory, type TrainingCallbacks, type TrainingResult, train } from 'lorikeet';
import { temporaryFolder } from '../helpers/command-line.js';
import { settledTensors } from '../helpers/settled-bytes.js';
import { shippedRows, shippedText, withTuned } from '../helpers/shipped.js';

const root = temporaryFolder();
const data = { train: { path: shippedText('train') }, eval: { rows: shippedRows(2) } };
const training = { batch: 2, sequence: 32, learningRate: 5e-3, steps: 4, saveEvery: 2, evalEvery: 2 } as const;
const names = ['onStart', 'onStep', 'onSkip', 'onEvaluation', 'onCheckpoint', 'onEnd'] as const;

/** Callbacks that take a while and write down when they began and ended. */
function noting(): { callbacks: TrainingCallbacks; calls: string[] } {
  const calls: string[] = [];
  const callbacks = Object.fromEntries(
    names.map((name) => [
      name,
      async ({ step }: { step: number }) => {
        calls.push(`${name} ${step}`);
        await new Promise((resolve) => setTimeout(resolve, 1));
        calls.push('.');
      },
    ]),
  );
  return { callbacks, calls };
}

test.serial('each is called in its place and awaited', async (t) => {
  const { callbacks, calls } = noting();
  const out = join(root, 'order');
  await withTuned((tuned) => train(tuned, { data, training, out, callbacks }).then());
  const order = calls.join(' ');
  t.is(
    order,
    'onStart 0 . onStep 1 . onStep 2 . onEvaluation 2 . onCheckpoint 2 . onStep 3 . onStep 4 . onEvaluation 4 . onCheckpoint 4 . onEnd 4 .',
  );
});

test.serial('what they get', async (t) => {
  const out = join(root, 'values');
  const got: Record<string, unknown> = {};
  const callbacks: TrainingCallbacks = {
    onStart: (start) => {
      got.start = start;
    },
    onEvaluation: ({ isBest }) => {
      got.isBest ??= isBest;
    },
    onCheckpoint: ({ path }) => {
      got.whole = existsSync(join(path, 'state.json'));
    },
    onEnd: (end) => {
      got.end = end;
    },
  };
  const result = await withTuned((tuned) => train(tuned, { data, training, out, callbacks }).then());
  t.deepEqual(got.start, { step: 0, steps: 4, trainableParameters: result.trainableParameters, damaged: [] });
  t.deepEqual(got.end, { step: 4, result });
  t.true(got.isBest as boolean);
  t.true(got.whole as boolean);
  await withTuned((tuned) => train(tuned, { data, training, out, callbacks, resume: true }).then());
  t.like(got.start as object, { step: 4, checkpoint: join(out, 'checkpoints', 'step-4') });
});

const dropping = (out: string, more: { callbacks?: TrainingCallbacks; resume?: boolean } = {}): Promise<TrainingResult> =>
  withTuned((tuned) => train(tuned, { data, training, out, ...more }).then(), { dropout: 0.1 });

const straight = join(root, 'straight');
test.before(() => dropping(straight));

for (const name of ['onStart', 'onStep', 'onEvaluation', 'onCheckpoint', 'onEnd'] as const) {
  test.serial(`an error of ${name} ends the run, its state saved, and the resumed run has the same bits`, async (t) => {
    const before = await settledTensors();
    const out = join(root, name);
    let ended: unknown;
    let thrown = false;
    const own = new Error('mine');
    const callbacks: TrainingCallbacks = {
      onEnd: (end) => {
        ended = 'error' in end ? end.error : undefined;
      },
      [name]: async () => {
        await Promise.resolve();
        if (!thrown) {
          thrown = true;
          throw own;
        }
      },
    };
    const go = (more: { callbacks?: TrainingCallbacks; resume?: boolean }) => dropping(out, more);
    t.is(await t.throwsAsync(go({ callbacks })), own);
    if (name !== 'onEnd') t.is(ended, own);
    t.false(existsSync(join(out, 'lock')));
    t.is(memory().tensors, before);
    if (name !== 'onStart') t.true(readdirSync(join(out, 'checkpoints')).length > 0);
    await go({ resume: true });
    for (const folder of ['adapter', 'best']) {
      const [got, expected] = [out, straight].map((run) => readFileSync(join(run, folder, 'adapter_model.safetensors')));
      t.deepEqual(got, expected, folder);
    }
    const rows = (run: string) =>
      readFileSync(join(run, 'metrics.jsonl'), 'utf8').replaceAll(/"(seconds|peakBytes|residentBytes)":[^,}]+/g, '');
    t.is(rows(out), rows(straight));
  });
}

test.serial('a loop that is left tells onEnd of it', async (t) => {
  let error: unknown;
  await withTuned(async (tuned) => {
    const callbacks: TrainingCallbacks = {
      onEnd: (end) => {
        error = 'error' in end ? end.error : undefined;
      },
    };
    for await (const { step } of train(tuned, { data, training, callbacks })) if (step === 2) break;
  });
  t.true(error instanceof CancelledError);
});

test.serial('the first error is the one that is thrown', async (t) => {
  const first = new Error('first');
  const callbacks: TrainingCallbacks = {
    onStep: () => {
      throw first;
    },
    onCheckpoint: () => Promise.reject(new Error('second')),
    onEnd: () => {
      throw new Error('third');
    },
  };
  const out = join(root, 'first');
  t.is(await t.throwsAsync(withTuned((tuned) => train(tuned, { data, training, out, callbacks }).then())), first);
  t.deepEqual(readdirSync(join(out, 'checkpoints')), ['step-1']);
});
