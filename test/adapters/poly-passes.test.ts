// What Poly does by the number of passes in training: a branch that rises, and weights that go over to equal parts.
import { join } from 'node:path';
import test from 'ava';
import { attach, loadAdapter, restoreState, saveState } from 'lorikeet';
import { mul } from 'lorikeet/ops';
import { AdamW } from 'lorikeet/optim';
import type { PolyLinear } from '#dist/adapters/poly-linear.js';
import { PolyRouter } from '#dist/adapters/poly-router.js';
import { RandomSource } from '#dist/random.js';
import { noGrad, scope } from '#dist/scope.js';
import { loadTiny, relativeError, temporaryFolder, valuesOf } from '../helpers/adapters.js';
import { ids, ofTasks, onSingle, put, run, Single, spread, values } from '../helpers/poly.js';
import { noise } from '../helpers/tiny-network.js';

const kRising = { tasks: 2, skills: 2, splits: 2, gates: 'sigmoid', branchWarmup: 4 } as const;

test.serial('a branch starts at nothing with a random B, rises with each pass in training, and then is whole', async (t) => {
  const [network, whole] = [new Single(), new Single()];
  const x = noise([3, 12], 1);
  const base = run(network, x, ofTasks(0));
  const { module, set } = await onSingle(network, kRising);
  const { module: plain } = await onSingle(whole, { ...kRising, branchWarmup: 0, randomB: true });
  t.true(values(module.poly_lora_B).some((value) => value !== 0));
  t.deepEqual(values(plain.poly_lora_B), values(module.poly_lora_B));
  t.deepEqual(run(network, x, ofTasks(0)), base);
  spread(set);
  for (const name of ['poly_lora_A', 'poly_lora_B'] as const) put(plain[name], module[name]);
  put(plain.poly_router.module_logits, module.poly_router.module_logits);
  const change = run(whole, x, ofTasks(1)).map((value, i) => value - (base[i] as number));
  t.true(change.some((value) => Math.abs(value) > 0.1));
  const expected = (part: number): number[] => base.map((value, i) => value + part * (change[i] as number));
  for (const part of [0.25, 0.5, 0.75, 1, 1]) {
    t.true(relativeError(run(network, x, { training: true, tasks: [1] }), expected(part)) < 1e-5, `training at ${part}`);
    for (let again = 0; again < 2; again++) t.true(relativeError(run(network, x, ofTasks(1)), expected(part)) < 1e-5, `at ${part}`);
    t.true(relativeError(run(network, x, { training: false, tasks: [0, 1, 0] }).slice(8, 16), expected(part).slice(8, 16)) < 1e-5);
  }
  t.is(module.passes?.draws, 5);
});

test.serial('saved half-way it is a whole adapter that computes the same, in every form', async (t) => {
  const model = await loadTiny();
  const tuned = await attach(model, { type: 'poly', ...kRising, alpha: 2 });
  for (let pass = 0; pass < 3; pass++) scope(() => void tuned.forward([ids], { training: true, tasks: [1] }));
  const adapted = await valuesOf(tuned.logits([ids], { tasks: [1] }));
  const forms = { published: {}, native: { form: 'native' }, lora: { form: 'lora', task: 1 } } as const;
  const folders = Object.entries(forms).map(([name, options]) => [name, options, join(temporaryFolder(), name)] as const);
  for (const [, options, folder] of folders) await tuned.save(folder, options);
  await tuned.merge({ task: 1 });
  t.true(relativeError(await valuesOf(tuned.logits([ids])), adapted) < 1e-5);
  await tuned.unmerge();
  tuned.dispose();
  for (const [name, , folder] of folders) {
    const loaded = await loadAdapter(model, folder);
    const tasks = name === 'lora' ? {} : { tasks: [1] };
    t.true(relativeError(await valuesOf(loaded.logits([ids], tasks)), adapted) < 1e-5, name);
    loaded.dispose();
  }
  model.dispose();
});

test.serial('a checkpoint knows how far the branch has risen, and recomputed blocks do not count again', async (t) => {
  const model = await loadTiny();
  const tuned = await attach(model, { type: 'poly', tasks: 2, branchWarmup: 20, annealing: { after: 1, passes: 8 } });
  const optimizer = new AdamW(tuned.parameters(), { learningRate: 1e-2 });
  const step = (checkpointing: boolean): number[] =>
    scope(() => {
      const loss = tuned.loss({ ids: [ids, ids], tasks: [0, 1], training: true, checkpointing });
      loss.backward();
      optimizer.step();
      optimizer.zeroGrad();
      return [...values(loss), ...tuned.parameters().flatMap(values)];
    });
  step(false);
  step(true);
  const passes = (): (number | undefined)[] =>
    tuned.adapters.get('default').placements.map(({ module }) => (module as PolyLinear).passes?.draws);
  t.true(passes().every((count) => count === 2));
  const folder = join(temporaryFolder(), 'checkpoint');
  await saveState(folder, { model: tuned, optimizer });
  const straight = [step(false), step(false), step(false)];
  await restoreState(folder, { model: tuned, optimizer });
  t.true(passes().every((count) => count === 2));
  t.deepEqual([step(true), step(false), step(true)], straight);
  optimizer.dispose();
  model.dispose();
});

test.serial('weights go over to equal parts on a quarter of a cosine, in training alone', async (t) => {
  const network = new Single(12, 8, 'f64');
  const { module, set } = await onSingle(network, { tasks: 2, skills: 4, gates: 'sigmoid', annealing: { after: 2, passes: 3 } });
  spread(set);
  const x = noise([3, 12], 1, 'f64');
  const settled = run(network, x, ofTasks(1));
  const mean = run(network, x, ofTasks('mean'));
  t.true(relativeError(settled, mean) > 0.01);
  const trained = Array.from({ length: 7 }, () => run(network, x, { training: true, tasks: [1] }));
  t.deepEqual(trained[0], trained[1]);
  t.true(relativeError(trained[0] as number[], settled) < 1e-12);
  for (const last of trained.slice(4)) t.true(relativeError(last, mean) < 1e-12);
  t.true(relativeError(trained[2] as number[], mean) < relativeError(settled, mean));
  t.true(relativeError(run(network, x, ofTasks(1)), settled) < 1e-12);
  t.is(module.warmth, 1);

  const logits = noGrad(() => mul(noise([1, 4], 2, 'f64'), 3));
  const settings = { skills: 4, splits: 1, gates: 'sigmoid', gateDropout: 0, sharedSkill: false, averageCorrection: false } as const;
  const weightsAt = (evenness: number): number[] =>
    values(noGrad(() => new PolyRouter(logits, settings).weights([0], true, new RandomSource(1), evenness)));
  const third = 1 - Math.cos(Math.PI / 6);
  const expected = weightsAt(0).map((weight) => weight * (1 - third) + third / 4);
  t.true(relativeError(weightsAt(third), expected) < 1e-12);
  t.deepEqual(weightsAt(1), [0.25, 0.25, 0.25, 0.25]);
});
