// Adapters whose method has a loss of its own: what the trainer makes of it.
import test from 'ava';
import {
  type AdapterConfig,
  attach,
  evaluate,
  hiddenDistance,
  loadModel,
  manualSeed,
  scope,
  symmetricKl,
  type TrainingOptions,
  train,
} from 'lorikeet';
import type { DataSources } from 'lorikeet/data';
import { HiddenStates } from 'lorikeet/nn';
import { noGrad } from '#dist/scope.js';
import { taskOf } from '#dist/tasks/registry.js';
import { objectiveOf } from '#dist/train/objective.js';
import { relativeError } from '../helpers/adapters.js';
import { perturb } from '../helpers/perturb.js';
import { withTuned } from '../helpers/shipped.js';
import { opinions, tinyEncoder } from '../helpers/tiny-encoder.js';

const folder = tinyEncoder();
const kBoth: AdapterConfig = { type: 'mosa', style: 'houlsby', bottleneckSize: 8, experts: 2, consistency: { kl: 2, ce2: 0.5 } };
const tagged = opinions.map(({ text }) => {
  const tokens = text.trim().split(' ');
  return { tokens, tags: tokens.map((word) => (word === 'film' || word === 'play' ? 'B-WORK' : 'O')) };
});
const cases = {
  classification: { labels: ['contra', 'pro'], rows: opinions },
  'token-classification': { labels: ['O', 'B-WORK', 'I-WORK'], rows: tagged },
} as const;
const quick: TrainingOptions = { steps: 80, batch: 8, sequence: 24, learningRate: 2e-2, schedule: 'constant' };

for (const [task, { labels, rows }] of Object.entries(cases)) {
  test.serial(`${task}: the loss of a batch is that of two passes`, async (t) => {
    const model = await loadModel(folder, { task: task as keyof typeof cases, dtype: 'f32', labels });
    const consistency = { kl: 2, ce2: 0.5, deep: 3 };
    const tuned = await attach(model, { ...kBoth, consistency, targets: { roles: ['block'] } } as AdapterConfig, { seed: 1 });
    perturb(tuned);
    const learnt = taskOf(tuned);
    const set = await learnt.open({ rows } as DataSources, { sequence: 24 });
    const own = (await set.rows([0, 1, 2, 3, 4])).filter((row) => row !== undefined);
    const batch = learnt.batch(own, { seed: 0, step: 1, first: 0 });
    const draws = tuned.adapters.randomState('default');
    // The model itself drops elements too.
    const rewind = (): void => {
      tuned.adapters.restoreRandomState('default', draws);
      manualSeed(3);
    };
    rewind();
    const numberOf = (loss: () => ReturnType<typeof batch.loss>): number =>
      scope(() => noGrad(() => (loss().dataSync() as Float32Array)[0] as number));
    const got = numberOf(() => objectiveOf(tuned)(batch, { training: true }));
    t.notDeepEqual(tuned.adapters.randomState('default'), draws);
    rewind();
    const outputs = scope(() =>
      noGrad(() => {
        using first = new HiddenStates();
        using second = new HiddenStates();
        const [one, two] = [first, second].map((hidden) => batch.outputs?.({ training: true, hidden }));
        if (one === undefined || two === undefined) throw new Error('no outputs');
        const number = (x: typeof one.loss): number => (x.dataSync() as Float32Array)[0] as number;
        t.is(first.states.length, 2);
        return {
          shape: one.logits.shape,
          losses: [number(one.loss), number(two.loss)],
          kl: number(symmetricKl(one.logits, two.logits)),
          deep: number(hiddenDistance(first, second)),
        };
      }),
    );
    t.deepEqual(outputs.shape, [batch.targets, labels.length]);
    const [first = 0, second = 0] = outputs.losses;
    t.true(outputs.kl > 1e-4 && outputs.deep > 1e-4);
    t.true(Math.abs(got - (first + 0.5 * second + 2 * outputs.kl + 3 * outputs.deep)) < 1e-4 * got);
    const gradients = (checkpointing: boolean): number[] => {
      rewind();
      scope(() => objectiveOf(tuned)(batch, { training: true, checkpointing }).backward());
      const all = tuned.parameters().flatMap(({ grad }) => [...((grad?.dataSync() ?? []) as Float32Array)]);
      for (const parameter of tuned.parameters()) parameter.clearGrad();
      return all;
    };
    t.true(relativeError(gradients(true), gradients(false)) < 1e-6);
    // Its own loss is that of the task.
    rewind();
    t.true(Math.abs(numberOf(() => batch.loss({ training: true })) - first) < 1e-5 * first);
    model.dispose();
  });

  test.serial(`${task}: training lowers the loss of the merged experts`, async (t) => {
    const model = await loadModel(folder, { task: task as keyof typeof cases, dtype: 'f32', labels });
    const tuned = await attach(model, { ...kBoth, targets: { roles: ['block'] } }, { seed: 1 });
    const data = { rows } as DataSources;
    const before = await evaluate(tuned, data);
    await train(tuned, { data: { train: data }, training: quick });
    const after = await evaluate(tuned, data);
    t.log(before.loss, after.loss);
    t.true(after.loss < 0.9 * before.loss);
    model.dispose();
  });
}

test.serial('without classes to compare, and with two such adapters, training is refused', async (t) => {
  await withTuned(async ({ model }) => {
    const tuned = await attach(model, { type: 'mosa' }, { name: 'mosa' });
    const data = { train: { rows: ['To be, or not to be.'] } };
    await t.throwsAsync(train(tuned, { data, training: { steps: 1 } }), {
      code: 'config',
      message: /"mosa" \(mosa\) compares the classes/,
    });
    await attach(model, { type: 'mosa' }, { name: 'again' });
    tuned.activate(['mosa', 'again']);
    await t.throwsAsync(train(tuned, { data, training: { steps: 1 } }), { code: 'config', message: /"mosa" and "again" each have a loss/ });
    await attach(model, { type: 'mosa', consistency: null }, { name: 'single' });
    await t.notThrowsAsync(train(tuned, { data, training: { steps: 1 } }));
  });
});
