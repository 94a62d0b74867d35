import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { evaluate, memory, NonFiniteError, scope, train } from 'lorikeet';
import { loadDataset } from 'lorikeet/data';
import { languageTask } from '#dist/tasks/language.js';
import { stepGradients } from '#dist/train/step.js';
import { temporaryFolder } from '../helpers/command-line.js';
import { settledTensors } from '../helpers/settled-bytes.js';
import { shippedRows, shippedText, withTuned } from '../helpers/shipped.js';

const data = { train: { path: shippedText('train') } };
const short = { batch: 2, sequence: 48, learningRate: 5e-3 } as const;

test.serial('a run is iterable and awaitable, and the loss falls', async (t) => {
  await withTuned(async (tuned) => {
    const run = train(tuned, {
      data: { ...data, eval: { rows: shippedRows(4) } },
      training: { ...short, batch: 4, steps: 20, learningRate: 2e-2, evalEvery: 10 },
    });
    const reports = [];
    for await (const report of run) reports.push(report);
    const result = await run;
    t.deepEqual(
      reports.map(({ step }) => step),
      Array.from({ length: 20 }, (_, index) => index + 1),
    );
    t.deepEqual(
      reports.filter(({ evalLoss }) => evalLoss !== undefined).map(({ step }) => step),
      [10, 20],
    );
    t.true((reports.at(-1)?.loss ?? 9) < (reports[0]?.loss ?? 0) - 0.5, reports.map(({ loss }) => loss.toFixed(2)).join(' '));
    t.like(result, { steps: 20, loss: reports.at(-1)?.loss ?? 0, evalLoss: reports.at(-1)?.evalLoss ?? 0 });
    t.is(
      result.trainableParameters,
      tuned.parameters().reduce((sum, { size }) => sum + size, 0),
    );
    t.is(
      result.tokens,
      reports.reduce((sum, { tokens }) => sum + tokens, 0),
    );
    t.is(result.adapter, undefined);
  });
});

test.serial('without shuffle and packing, step k trains on rows (k-1) batch to k batch - 1, wrapping around', async (t) => {
  const rows = shippedRows(5);
  await withTuned(async (tuned) => {
    // With this learning rate nothing moves, so the loss of a step is that of its rows.
    const run = train(tuned, { data: { train: { rows } }, training: { ...short, steps: 4, learningRate: 1e-30, shuffle: false } });
    for (const taken of [
      [0, 1],
      [2, 3],
      [4, 0],
      [1, 2],
    ]) {
      const next = await run[Symbol.asyncIterator]().next();
      const expected = await evaluate(
        tuned,
        taken.map((index) => rows[index] as string),
        { maxLength: short.sequence },
      );
      t.true(Math.abs((next.done ? 0 : next.value.loss) - expected.nll) < 1e-5);
    }
    t.is((await run).steps, 4);
  });
});

test.serial('gradients are the same however the rows of a step are cut into batches', async (t) => {
  await withTuned(async (tuned) => {
    const dataset = await loadDataset({ rows: shippedRows(8).map((text, index) => text.slice(0, 30 + 40 * index)) }, tuned.tokenizer, {
      sequence: 256,
    });
    const rows = Array.from({ length: 8 }, (_, index) => dataset.at(index));
    const parameters = tuned.parameters();
    const gradients: Float32Array[][] = [];
    for (const batch of [8, 4, 1]) {
      const { loss } = await stepGradients(languageTask(tuned), parameters, { rows, batch, checkpointing: false });
      t.true(loss > 1);
      gradients.push(await Promise.all(parameters.map((parameter) => scope(async () => (await parameter.grad?.data()) as Float32Array))));
      for (const parameter of parameters) parameter.clearGrad();
    }
    const [whole = [], ...parts] = gradients;
    const largest = Math.max(...whole.map((values) => Math.max(...values.map(Math.abs))));
    for (const part of parts) {
      for (const [index, values] of part.entries()) {
        const worst = Math.max(...values.map((value, i) => Math.abs(value - (whole[index]?.[i] ?? 0))));
        t.true(worst <= 1e-6 * Math.max(1, largest), `${worst} of ${largest}`);
      }
    }
  });
});

test.serial('two runs at once do not disturb each other', async (t) => {
  const settings = { data, training: { ...short, steps: 6 } };
  const one = (seed: number) =>
    withTuned(async (tuned) => (await train(tuned, { ...settings, training: { ...settings.training, seed } })).loss, { dropout: 0.2 });
  const alone = [await one(1), await one(2)];
  t.deepEqual(await Promise.all([one(1), one(2)]), alone);
});

test.serial('LoRA+ trains B at a higher rate; with ratio 1 it is the plain optimizer', async (t) => {
  const lossWith = (training: object) =>
    withTuned(async (tuned) => (await train(tuned, { data, training: { ...short, steps: 3, warmup: 0, ...training } })).loss);
  const plain = await lossWith({});
  t.is(await lossWith({ loraPlusRatio: 1 }), plain);
  t.not(await lossWith({ loraPlusRatio: 4 }), plain);
  for (const optimizer of ['sgd', 'lion', 'adafactor', 'adamw-8bit']) {
    const alone = await lossWith({ optimizer });
    t.is(await lossWith({ optimizer, loraPlusRatio: 1 }), alone);
    t.not(await lossWith({ optimizer, loraPlusRatio: 4 }), alone);
    if (optimizer !== 'adamw-8bit') t.not(alone, plain);
  }
});

test.serial('checkpointing computes the same', async (t) => {
  const losses = [];
  for (const checkpointing of [false, true]) {
    losses.push(
      await withTuned(async (tuned) => (await train(tuned, { data, training: { ...short, steps: 3, checkpointing } })).loss, {
        dropout: 0.1,
      }),
    );
  }
  t.is(losses[0], losses[1]);
});

test.serial('an aborted run goes on with the same bits, dropout included', async (t) => {
  const folder = temporaryFolder();
  const training = { ...short, steps: 9, saveEvery: 4, accumulate: 2, warmup: 2 };
  await withTuned((tuned) => train(tuned, { data, training, out: join(folder, 'straight') }).then(), { dropout: 0.2 });
  const controller = new AbortController();
  await withTuned(
    async (tuned) => {
      const run = train(tuned, { data, training, out: join(folder, 'broken'), signal: controller.signal });
      await t.throwsAsync(
        async () => {
          for await (const { step } of run) if (step === 5) controller.abort();
        },
        { code: 'cancelled', message: /cancelled after step 5 of 9; saved ".*step-5"; .*--resume/ },
      );
      await t.throwsAsync(async () => await run, { code: 'cancelled' });
    },
    { dropout: 0.2 },
  );
  t.false(existsSync(join(folder, 'broken', 'lock')));
  const result = await withTuned((tuned) => train(tuned, { data, training, out: join(folder, 'broken'), resume: true }).then(), {
    dropout: 0.2,
  });
  t.is(result.steps, 9);
  const weights = (run: string) => readFileSync(join(folder, run, 'adapter', 'adapter_model.safetensors'));
  t.deepEqual(weights('broken'), weights('straight'));
  const metrics = readFileSync(join(folder, 'broken', 'metrics.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => (JSON.parse(line) as { step: number }).step);
  t.deepEqual(metrics, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
  t.deepEqual(readdirSync(join(folder, 'broken', 'checkpoints')).sort(), ['step-8', 'step-9']);
});

test.serial('a loop that is left early saves its last step', async (t) => {
  const out = join(temporaryFolder(), 'run');
  await withTuned(async (tuned) => {
    const run = train(tuned, { data, training: { ...short, steps: 9 }, out });
    for await (const { step } of run) if (step === 2) break;
    await t.throwsAsync(async () => await run, { code: 'cancelled', message: /left before the end/ });
  });
  t.deepEqual(readdirSync(join(out, 'checkpoints')), ['step-2']);
});

test.serial('a loss that is not finite stops the run with the last good state', async (t) => {
  const out = join(temporaryFolder(), 'run');
  await withTuned(async (tuned) => {
    const run = train(tuned, { data, training: { ...short, steps: 9, learningRate: 1e30, schedule: 'constant' }, out });
    const error = await t.throwsAsync(async () => await run, { instanceOf: NonFiniteError });
    t.regex(
      error?.message ?? '',
      /the (loss|gradient norm) is \S+ at step \d+; its rows are \S+train\.jsonl:\d+, \S+; .*holds the state after step \d+/,
    );
  });
  t.is(readdirSync(join(out, 'checkpoints')).length, 1);
});

test.serial('a run folder has one owner, and settings of a resumed run must agree', async (t) => {
  const out = join(temporaryFolder(), 'run');
  const training = { ...short, steps: 3 };
  await withTuned(async (tuned) => {
    const run = train(tuned, { data, training, out });
    await run[Symbol.asyncIterator]().next();
    t.throws(() => train(tuned, { data, training, out }), { message: /exists; resume its run/ });
    await t.throwsAsync(async () => await train(tuned, { data, training, out, resume: true }), { message: /is in use by process/ });
    await run;
    await t.throwsAsync(async () => await train(tuned, { data, training: { ...training, batch: 3 }, out, resume: true }), {
      code: 'config',
      message: /training\.batch differs.*got 3, expected 2/,
    });
  });
});

test.serial('wrong options throw at once', async (t) => {
  await withTuned(async (tuned) => {
    t.throws(() => train(tuned, { data, training: { stpes: 3 } as object }), {
      message: /unknown key "stpes" in "training"; did you mean "steps"/,
    });
    t.throws(() => train(tuned, { data, training: { sequence: 1000 } }), {
      message: /longer than the model's context; got 1000, expected at most 512/,
    });
    t.throws(() => train(tuned, { data, training: { packing: true, lengthGrouped: true } }), { message: /packs are filled already/ });
    t.throws(() => train(tuned, { data, training: { shuffle: false, lengthGrouped: true } }), { message: /rows are put in another order/ });
    await t.throwsAsync(async () => await train(tuned, { data: { ...data, badRows: 'skp' as 'skip' } }), {
      code: 'config',
      message: /data\.badRows: got "skp", expected error or skip/,
    });
    await t.throwsAsync(async () => await train(tuned, { data: { train: { rows: [] } } }), { message: /has no rows/ });
    await t.throwsAsync(async () => await train(tuned, { data, signal: AbortSignal.abort() }), { code: 'cancelled' });
  });
});

test.serial('a run shorter than its warm-up only rises', async (t) => {
  await withTuned(async (tuned) => {
    const rates: number[] = [];
    for await (const { learningRate } of train(tuned, { data, training: { ...short, steps: 2, warmup: 10 } })) rates.push(learningRate);
    t.deepEqual(rates, [0, short.learningRate / 10]);
  });
});

test.serial('a run leaves no tensors behind', async (t) => {
  const before = await settledTensors();
  await withTuned((tuned) => train(tuned, { data: { ...data, eval: { rows: shippedRows(2) } }, training: { ...short, steps: 2 } }).then());
  t.is(memory().tensors, before);
});
