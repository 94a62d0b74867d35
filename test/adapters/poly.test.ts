// Poly and MHR beyond what every method promises: routing, gradients, draws.
import { join } from 'node:path';
import test from 'ava';
import { adapterGroups, attach, generate, restoreState, routing, saveState } from 'lorikeet';
import type { Linear } from 'lorikeet/nn';
import { add, concat, matmul, mul, narrow, permute, reshape, select, square, sub, sum, tensor, transpose } from 'lorikeet/ops';
import { AdamW } from 'lorikeet/optim';
import type { PolyLinear } from '#dist/adapters/poly-linear.js';
import { PolyRouter } from '#dist/adapters/poly-router.js';
import { fill } from '#dist/ops/shape.js';
import { RandomSource } from '#dist/random.js';
import { noGrad, scope } from '#dist/scope.js';
import type { Tensor } from '#dist/tensor.js';
import { loadTiny, relativeError, sameBits, temporaryFolder, valuesOf } from '../helpers/adapters.js';
import { centralDifferences } from '../helpers/gradient-check.js';
import { numbersOf, type OpCase, outputWeights } from '../helpers/op-case.js';
import { perturb } from '../helpers/perturb.js';
import { ids, ofTasks, onSingle, put, run, Single, spread, values } from '../helpers/poly.js';
import { noise } from '../helpers/tiny-network.js';

/** The layer's output by the definition: averaged factors of one task, then two products. */
function literal({ layer }: Single, module: PolyLinear, x: Tensor, task: number, scale: number): number[] {
  const [splits = 1, skills = 1, k = 1, rank = 1] = module.poly_lora_A.shape;
  const m = module.poly_lora_B.shape[3] ?? 1;
  const z = values(module.poly_router.module_logits).slice(task * splits * skills, (task + 1) * splits * skills);
  const gates = z.map((value) => 1 / (1 + Math.exp(-value)));
  const weight = (q: number, s: number): number =>
    (gates[q * skills + s] as number) / gates.slice(q * skills, (q + 1) * skills).reduce((total, gate) => total + gate, 0);
  const [a, b] = [values(module.poly_lora_A), values(module.poly_lora_B)];
  const input = values(x);
  const rows = x.shape[0] ?? 0;
  const base = scope(() => noGrad(() => values((layer as unknown as { base?: Linear }).base?.forward(x) ?? layer.forward(x))));
  const y: number[] = [...base];
  const n = splits * m;
  for (let row = 0; row < rows; row++) {
    const hidden = Array.from({ length: rank }, (_, r) => {
      let total = 0;
      for (let q = 0; q < splits; q++)
        for (let s = 0; s < skills; s++)
          for (let i = 0; i < k; i++)
            total += (input[row * splits * k + q * k + i] as number) * weight(q, s) * (a[((q * skills + s) * k + i) * rank + r] as number);
      return total;
    });
    for (let q = 0; q < splits; q++)
      for (let j = 0; j < m; j++)
        for (let s = 0; s < skills; s++)
          for (let r = 0; r < rank; r++)
            y[row * n + q * m + j] =
              (y[row * n + q * m + j] as number) +
              scale * weight(q, s) * (b[((q * skills + s) * rank + r) * m + j] as number) * (hidden[r] as number);
  }
  return y;
}

test.serial('starts as the base, bit for bit; with B random it does not', async (t) => {
  for (const randomB of [false, true]) {
    const network = new Single();
    const x = noise([4, 12], 1);
    const base = run(network, x, { training: false });
    await onSingle(network, { tasks: 2, splits: 4, randomB });
    const adapted = run(network, x, ofTasks(1));
    if (randomB) t.notDeepEqual(adapted, base);
    else t.deepEqual(adapted, base);
  }
});

for (const splits of [1, 4]) {
  test.serial(`computes the definition with ${splits} ${splits === 1 ? 'split (Poly)' : 'splits (MHR)'}`, async (t) => {
    const network = new Single(12, 8, 'f64');
    const { module, set } = await onSingle(network, { tasks: 3, skills: 5, splits, rank: 3, alpha: 2, gates: 'sigmoid' });
    spread(set);
    const x = noise([4, 12], 1, 'f64');
    for (const task of [0, 2]) t.true(relativeError(run(network, x, ofTasks(task)), literal(network, module, x, task, 2 / 3)) < 1e-12);
    // Rows of weights sum to 1.
    for (const { weights } of routing(set)) for (const row of weights) t.true(Math.abs(row.reduce((a, b) => a + b) - 1) < 1e-9);
  });
}

test.serial('one skill is plain LoRA, whatever the logits', async (t) => {
  const network = new Single();
  const { module, set } = await onSingle(network, { tasks: 2, skills: 1, rank: 3, alpha: 6 });
  spread(set);
  const x = noise([5, 12], 1);
  const own = run(network, x, ofTasks(1));
  const { a, b } = module.factors(0);
  const factors = [values(a), values(b)] as const;
  set.dispose();
  const plain = await attach(network, { type: 'lora', rank: 3, alpha: 6, targets: ['layer'] });
  const [loraA, loraB] = plain.parameters() as [Tensor, Tensor];
  put(loraA, tensor(factors[0], { shape: [3, 12] }));
  put(loraB, tensor(factors[1], { shape: [8, 3] }));
  t.true(relativeError(own, run(network, x, { training: false })) < 1e-6);
});

test.serial('the order of the skills does not matter; equal logits are the mean', async (t) => {
  const network = new Single(12, 8, 'f64');
  const { module, set } = await onSingle(network, { tasks: 2, skills: 3, splits: 2 });
  spread(set);
  const x = noise([4, 12], 1, 'f64');
  const before = run(network, x, ofTasks(1));
  const turned = (value: Tensor, dim: number): Tensor => noGrad(() => concat([narrow(value, dim, 1, 2), narrow(value, dim, 0, 1)], dim));
  put(module.poly_lora_A, turned(module.poly_lora_A, 1));
  put(module.poly_lora_B, turned(module.poly_lora_B, 1));
  const { module_logits: z } = module.poly_router;
  put(z, reshape(turned(reshape(z, [2, 2, 3]), 2), [2, 6]));
  t.true(relativeError(run(network, x, ofTasks(1)), before) < 1e-6);
  noGrad(() => void fill(z, 0.7));
  t.true(relativeError(run(network, x, ofTasks(0)), run(network, x, ofTasks('mean'))) < 1e-12);
  for (const { weights } of routing(set, 'default', ['mean']))
    t.deepEqual(weights, [
      [1 / 3, 1 / 3, 1 / 3],
      [1 / 3, 1 / 3, 1 / 3],
    ]);
});

test.serial('with logits equal over the blocks, MHR is Poly with the blocks laid together', async (t) => {
  const [split, whole] = [new Single(12, 8, 'f64'), new Single(12, 8, 'f64')];
  const { module: mhr, set } = await onSingle(split, { tasks: 2, skills: 3, splits: 4, rank: 2 });
  const { module: poly } = await onSingle(whole, { tasks: 2, skills: 3, splits: 1, rank: 2 });
  spread(set);
  const z = noise([2, 1, 3], 9, 'f64');
  put(mhr.poly_router.module_logits, reshape(concat([z, z, z, z], 1), [2, 12]));
  put(poly.poly_router.module_logits, reshape(z, [2, 3]));
  put(poly.poly_lora_A, reshape(permute(mhr.poly_lora_A, [1, 0, 2, 3]), [1, 3, 12, 2]));
  put(poly.poly_lora_B, reshape(permute(mhr.poly_lora_B, [1, 2, 0, 3]), [1, 3, 2, 8]));
  const x = noise([4, 12], 1, 'f64');
  t.true(relativeError(run(split, x, ofTasks(1)), run(whole, x, ofTasks(1))) < 1e-6);
});

test.serial('evaluation draws nothing; relaxed gates have the mean of their distribution', async (t) => {
  const network = new Single();
  const { module, set } = await onSingle(network, { tasks: 2 });
  spread(set);
  const x = noise([4, 12], 1);
  t.deepEqual(run(network, x, ofTasks(1)), run(network, x, ofTasks(1)));
  t.is(module.random.draws, 0);
  const training = { training: true, tasks: [0, 0, 1, 1] };
  const drawn = run(network, x, training);
  t.notDeepEqual(run(network, x, training), drawn);
  module.random.draws = 0;
  t.deepEqual(run(network, x, training), drawn);
  // With as many blocks as skills and the average correction, weights are the gates themselves.
  const rows = 6250;
  for (const z of [-1.5, 0, 2]) {
    const settings = { skills: 4, splits: 4, gates: 'relaxed', gateDropout: 0, sharedSkill: false, averageCorrection: true } as const;
    const router = new PolyRouter(
      noGrad(() => mul(add(mul(noise([1, 16], 1, 'f64'), 0), 1), z)),
      settings,
    );
    const gates = values(noGrad(() => router.weights(new Array<number>(rows).fill(0), true, new RandomSource(7, 'gates'))));
    t.is(gates.length, 1e5);
    const mean = gates.reduce((total, gate) => total + gate, 0) / gates.length;
    t.true(Math.abs(mean - expectedGate(z)) < 0.005, `${z}: ${mean}`);
    const soft = 1 / (1 + Math.exp(-z));
    t.is(Math.abs(expectedGate(z) - soft) < 1e-6, z === 0);
  }
});

/** The mean of sigmoid(z + log u - log(1 - u)) over u, by the midpoint rule. */
function expectedGate(z: number): number {
  const points = 200_000;
  let total = 0;
  for (let i = 0; i < points; i++) {
    const u = (i + 0.5) / points;
    total += 1 / (1 + Math.exp(-(z + Math.log(u) - Math.log(1 - u))));
  }
  return total / points;
}

test.serial('a batch of several tasks is each task by itself, recorded or not, alone and beside another adapter', async (t) => {
  const network = new Single(12, 8);
  const { set } = await onSingle(network, { tasks: 3, splits: 2, gates: 'sigmoid' });
  spread(set);
  const x = noise([6, 5, 12], 1);
  const tasks = [2, 0, 0, 1, 2, 'mean' as const];
  const compare = (): void => {
    const together = run(network, x, { training: false, tasks });
    const recorded = scope(() => values(network.layer.forward(x, { training: true, tasks })));
    for (const [row, task] of tasks.entries()) {
      const alone = run(network, narrow(x, 0, row, 1), ofTasks(task));
      t.deepEqual(together.slice(row * 40, (row + 1) * 40), alone);
      t.true(relativeError(recorded.slice(row * 40, (row + 1) * 40), alone) < 1e-6);
    }
    // Positions folded into the rows, and several rows of one entry.
    t.deepEqual(run(network, reshape(x, [30, 12]), { training: false, tasks }), together);
  };
  compare();
  const both = await attach(network, { type: 'lora', targets: ['layer'] }, { name: 'plain', seed: 3 });
  perturb(both);
  both.activate(['default', 'plain']);
  compare();
});

test.serial('with checkpointing a batch of several tasks has the same loss and gradients', async (t) => {
  const model = await loadTiny();
  const tuned = await attach(model, { type: 'poly', tasks: 3, skills: 2, gates: 'sigmoid' });
  perturb(tuned, 0.5);
  const pass = (training: boolean, checkpointing: boolean): number[] =>
    scope(() => {
      const loss = tuned.loss({ ids: [ids, ids, ids], tasks: [2, 0, 2], training, checkpointing });
      loss.backward();
      const all = [...values(loss), ...tuned.parameters().flatMap(({ grad }) => values(grad as Tensor))];
      for (const value of tuned.parameters()) value.clearGrad();
      return all;
    });
  for (const training of [true, false]) t.deepEqual(pass(training, true), pass(training, false));
  model.dispose();
});

test.serial('tasks that are not in the batch get a gradient of exactly zero', async (t) => {
  for (const gates of ['sigmoid', 'relaxed'] as const) {
    const network = new Single();
    const { module, set } = await onSingle(network, { tasks: 4, gates });
    spread(set);
    const x = noise([3, 12], 1);
    scope(() => sum(square(network.layer.forward(x, { training: true, tasks: [1, 3, 1] }))).backward());
    const gradient = values(module.poly_router.module_logits.grad as Tensor);
    for (const [i, value] of gradient.entries()) t.is(value !== 0, [1, 3].includes(Math.floor(i / 4)));
  }
});

for (const gates of ['sigmoid', 'relaxed', 'l2'] as const) {
  test.serial(`gradients of A, B, Z and the input are those of central differences, with ${gates} gates`, async (t) => {
    const network = new Single(6, 4, 'f64');
    const { module } = await onSingle(network, { tasks: 3, skills: 3, splits: 2, rank: 2, gates });
    const forward = (x: Tensor, a: Tensor, b: Tensor, z: Tensor): Tensor => {
      module.random.draws = 0;
      module.poly_lora_A = a;
      module.poly_lora_B = b;
      module.poly_router.module_logits = z;
      return network.layer.forward(x, { training: true, tasks: [2, 0, 2] });
    };
    const shapes = [[3, 2, 6], module.poly_lora_A.shape, module.poly_lora_B.shape, module.poly_router.module_logits.shape];
    const inputs = shapes.map((shape, i) => noise(shape, 20 + i, 'f64').setRequiresGrad(true)) as [Tensor, Tensor, Tensor, Tensor];
    const expected = centralDifferences({ name: 'poly', covers: [], inputs: [], run: forward } as unknown as OpCase, inputs);
    scope(() => {
      const y = forward(...inputs);
      sum(mul(y, tensor(outputWeights(y.shape, 0), { shape: y.shape, dtype: 'f64' }))).backward();
    });
    for (const [i, input] of inputs.entries())
      t.true(relativeError(numbersOf(input.grad as Tensor), expected[i] as number[]) < 1e-6, `input ${i}`);
  });
}

test.serial('gates: straight-through, shared skill, average correction, dropout', async (t) => {
  const logits = noGrad(() => tensor([[2, -1, 3, 0.5, -2, -4]], { shape: [1, 6], dtype: 'f64' }));
  const base = { skills: 3, splits: 2, gates: 'sigmoid', gateDropout: 0, sharedSkill: false, averageCorrection: false } as const;
  const weightsOf = (settings: object, training = false): number[] =>
    values(noGrad(() => new PolyRouter(logits, { ...base, ...settings }).weights([0], training, new RandomSource(1))));
  const sigmoid = (z: number): number => 1 / (1 + Math.exp(-z));
  t.deepEqual(
    weightsOf({ gates: 'straight-through' }).map((w) => Number(w.toFixed(9))),
    [0.5, 0, 0.5, 1, 0, 0],
  );
  const shared = weightsOf({ sharedSkill: true });
  t.true(Math.abs((shared[2] as number) - 1 / (1 + sigmoid(2) + sigmoid(-1))) < 1e-9);
  t.true(
    relativeError(
      weightsOf({ averageCorrection: true }),
      [2, -1, 3, 0.5, -2, -4].map((z) => sigmoid(z) * Math.sqrt(2 / 3)),
    ) < 1e-12,
  );
  const dropped = weightsOf({ gateDropout: 0.5 }, true);
  t.true(dropped.some((w) => w === 0) && dropped.some((w) => w > 0));
  t.deepEqual(weightsOf({ gateDropout: 0.5 }), weightsOf({}));
  const norm = weightsOf({ gates: 'l2' });
  t.true(Math.abs(norm.slice(0, 3).reduce((total, w) => total + w * w, 0) - 1) < 1e-9);

  // The gradient of a rounded gate is that of the soft one.
  const trained = (gates: 'sigmoid' | 'straight-through'): number[] => {
    const z = logits.detach().setRequiresGrad(true);
    const router = new PolyRouter(z, { ...base, gates, averageCorrection: true });
    scope(() => sum(router.weights([0], true, new RandomSource(1))).backward());
    return values(z.grad as Tensor);
  };
  t.deepEqual(trained('straight-through'), trained('sigmoid'));
});

test.serial('starts have the bounds of PEFT or of the reference implementation', async (t) => {
  for (const [init, bound] of [
    ['peft', 1 / Math.sqrt(64 / 4)],
    ['mttl', 1 / Math.sqrt(3 * 64)],
  ] as const) {
    const { module } = await onSingle(new Single(64, 64), { init, splits: 4 });
    const largest = Math.max(...values(module.poly_lora_A).map(Math.abs));
    t.true(largest <= bound && largest > 0.97 * bound, init);
    const logits = Math.max(...values(module.poly_router.module_logits).map(Math.abs));
    t.true(logits <= 1e-3 && logits > 5e-4);
  }
});

test.serial('the router has a learning rate of its own, and no weight decay', async (t) => {
  const { set } = await onSingle(new Single(), { tasks: 3 });
  const groups = adapterGroups(set, { learningRate: 5e-3, weightDecay: 0.01 });
  t.deepEqual(
    groups.map(({ learningRate, weightDecay, parameters }) => [learningRate, weightDecay, parameters.length]),
    [
      [5e-3, 0.01, 2],
      [0.1, 0, 1],
    ],
  );
  const { set: plain } = await onSingle(new Single(), { routerLearningRate: null });
  t.is(adapterGroups(plain, { learningRate: 1e-3 }).length, 1);
});

test.serial('a checkpoint goes on with the same draws', async (t) => {
  const model = await loadTiny();
  const tuned = await attach(model, { type: 'poly', tasks: 2 });
  perturb(tuned, 0.5);
  const optimizer = new AdamW(adapterGroups(tuned, { learningRate: 1e-3 }));
  const step = (): number =>
    scope(() => {
      const loss = tuned.loss({ ids: [ids, ids], tasks: [0, 1], training: true });
      loss.backward();
      optimizer.step();
      optimizer.zeroGrad();
      return Number(loss.dataSync()[0]);
    });
  step();
  const folder = join(temporaryFolder(), 'checkpoint');
  await saveState(folder, { model: tuned, optimizer });
  const rest = [step(), step()];
  await restoreState(folder, { model: tuned, optimizer });
  t.deepEqual([step(), step()], rest);
  // Recomputed blocks see the draws of the first time.
  const gradientOf = (checkpointing: boolean): number[] => {
    for (const { module } of tuned.adapters.get('default').placements) (module as PolyLinear).random.draws = 100;
    scope(() => tuned.loss({ ids: [ids, ids], tasks: [0, 1], training: true, checkpointing }).backward());
    const gradient = tuned.parameters().flatMap((parameter) => values(parameter.grad as Tensor));
    for (const parameter of tuned.parameters()) parameter.clearGrad();
    return gradient;
  };
  t.deepEqual(gradientOf(true), gradientOf(false));
  model.dispose();
});

test.serial('a model generates for a task, and rows of other adapters keep theirs', async (t) => {
  const model = await loadTiny();
  const tuned = await attach(model, { type: 'poly', tasks: 3, targets: 'all-linear' });
  perturb(tuned, 1);
  const sample = async (task: number | 'mean'): Promise<readonly number[]> =>
    (await generate(tuned, ids, { task, maxNewTokens: 6 }).sample()).ids;
  const alone = [await sample(0), await sample(2)];
  for (const [i, task] of [0, 2].entries()) {
    const grown = [...ids];
    for (const id of alone[i] as readonly number[]) {
      const logits = await valuesOf(tuned.logits([grown], { tasks: [task] }));
      const last = logits.slice(-97);
      t.is(last.indexOf(Math.max(...last)), id);
      grown.push(id);
    }
  }
  t.throws(() => tuned.logits([ids]), { code: 'adapter', message: /shared by 3 tasks; got no task/ });
  const other = await attach(model, { type: 'lora' }, { name: 'plain', activate: false });
  const rows = [['default'], [], ['default']];
  const mixed = await valuesOf(other.logits([ids, ids, ids], { rows, tasks: [2, 0, 1] }));
  const size = mixed.length / 3;
  for (const [row, task] of [2, undefined, 1].entries()) {
    const own = task === undefined ? other.logits([ids], { rows: [[]] }) : other.logits([ids], { tasks: [task] });
    t.true(sameBits(mixed.slice(row * size, (row + 1) * size), await valuesOf(own)));
  }
  model.dispose();
});

test.serial('selecting a row of the factors is what merging uses', async (t) => {
  const network = new Single(12, 8, 'f64');
  const { module, set } = await onSingle(network, { tasks: 2, splits: 2, gates: 'sigmoid' });
  spread(set);
  const { a, b } = noGrad(() => module.factors(1));
  const x = noise([3, 12], 1, 'f64');
  const base = scope(() =>
    noGrad(() => values(sub(network.layer.forward(x, ofTasks(1)), mul(matmul(matmul(x, transpose(a)), transpose(b)), module.scale)))),
  );
  set.disable();
  t.true(relativeError(base, run(network, x, { training: false })) < 1e-12);
  t.deepEqual(select(a, 0, 0).shape, [12]);
});
