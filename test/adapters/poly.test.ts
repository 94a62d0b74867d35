// Poly and MHR beyond what every method promises: routing, gradients, draws, PEFT's files, few-shot training from an inventory, plain forms.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import {
  type AdapterConfig,
  type AdapterSet,
  adapterGroups,
  attach,
  generate,
  loadAdapter,
  loadModel,
  type PolyConfig,
  resizeTasks,
  restoreState,
  routing,
  saveState,
} from 'lorikeet';
import { Embedding, type ForwardContext, Linear, Module, ModuleList } from 'lorikeet/nn';
import { add, concat, matmul, mul, narrow, permute, reshape, select, square, sub, sum, tensor, transpose } from 'lorikeet/ops';
import { AdamW } from 'lorikeet/optim';
import type { PolyLinear } from '#dist/adapters/poly-linear.js';
import { PolyRouter } from '#dist/adapters/poly-router.js';
import { loadSafetensors } from '#dist/io/safetensors.js';
import { copyInto, fill } from '#dist/ops/shape.js';
import { RandomSource } from '#dist/random.js';
import { noGrad, scope } from '#dist/scope.js';
import type { DType, Tensor } from '#dist/tensor.js';
import { golden, loadTiny, relativeError, sameBits, temporaryFolder, valuesOf } from '../helpers/adapters.js';
import { centralDifferences } from '../helpers/gradient-check.js';
import { numbersOf, type OpCase, outputWeights } from '../helpers/op-case.js';
import { perturb } from '../helpers/perturb.js';
import { noise } from '../helpers/tiny-network.js';

const ids = [3, 17, 42, 5, 8, 80];

class Single extends Module {
  layer: Linear;

  constructor(inputs = 12, outputs = 8, dtype: DType = 'f32') {
    super();
    this.layer = new Linear(inputs, outputs, { dtype, seed: 3 });
    this.freeze();
  }
}

async function onSingle(network: Single, options: Partial<PolyConfig> = {}): Promise<{ module: PolyLinear; set: AdapterSet }> {
  const set = await attach(network, { type: 'poly', targets: ['layer'], ...options } as AdapterConfig, { seed: 5 });
  const module = set.get('default').placements[0]?.module as PolyLinear;
  return { module, set };
}

/** Moves factors and logits away from their starts, so that tasks and skills differ. */
function spread(set: AdapterSet): void {
  perturb(set, 0.8);
}

const values = (x: Tensor): number[] => scope(() => [...(x.dataSync() as Float32Array)]);
const run = (network: Single, x: Tensor, context: ForwardContext): number[] =>
  scope(() => noGrad(() => values(network.layer.forward(x, context))));
const ofTasks = (...tasks: (number | 'mean')[]): ForwardContext => ({ training: false, tasks });
const put = (slot: Tensor, value: Tensor): void => void noGrad(() => copyInto(slot, value));

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

for (const name of ['poly', 'mhr']) {
  test.serial(`${name}: PEFT's folder gives PEFT's logits, and is written back with the same bytes`, async (t) => {
    const folder = join(golden, 'poly', name);
    const { base, sequences } = JSON.parse(readFileSync(join(folder, 'reference.json'), 'utf8')) as {
      base: string;
      sequences: { ids: number[]; task: number; logits: number[][] }[];
    };
    const model = await loadModel(join(golden, base));
    const tuned = await loadAdapter(model, folder);
    for (const { ids: tokens, task, logits } of sequences)
      t.true(relativeError(await valuesOf(tuned.logits([tokens], { tasks: [task] })), logits.flat()) < 1e-5, `task ${task}`);
    const again = join(temporaryFolder(), name);
    await tuned.save(again, { baseModel: base });
    const [published, written] = await Promise.all([folder, again].map((each) => loadSafetensors(join(each, 'adapter_model.safetensors'))));
    t.deepEqual([...(written as Map<string, Tensor>).keys()].sort(), [...(published as Map<string, Tensor>).keys()].sort());
    for (const [key, value] of published as Map<string, Tensor>)
      t.true(sameBits(value.dataSync() as Float32Array, written?.get(key)?.dataSync() as Float32Array), key);
    const read = (each: string): object => JSON.parse(readFileSync(join(each, 'adapter_config.json'), 'utf8')) as object;
    t.deepEqual(read(again), read(folder));
    model.dispose();
  });
}

test.serial('one task is merged, and written as plain LoRA; so is the mean', async (t) => {
  const model = await loadTiny();
  const tuned = await attach(model, { type: 'poly', tasks: 3, splits: 2, alpha: 4, targets: ['q_proj', 'down_proj'] });
  perturb(tuned, 0.5);
  const folder = join(temporaryFolder(), 'plain');
  await t.throwsAsync(tuned.save(folder, { form: 'lora' }), { code: 'adapter', message: /holds one task of 3; got no task/ });
  await t.throwsAsync(tuned.merge(), { code: 'adapter', message: /got no task, expected task: 0 to 2/ });
  await t.throwsAsync(tuned.merge({ task: 3 }), { code: 'adapter', message: /no such task; got 3/ });
  for (const task of [2, 'mean'] as const) {
    const routed = await valuesOf(tuned.logits([ids], { tasks: [task] }));
    await tuned.merge({ task });
    t.true(relativeError(await valuesOf(tuned.logits([ids])), routed) < 1e-5);
    await tuned.unmerge();
    t.true(sameBits(await valuesOf(tuned.logits([ids], { tasks: [task] })), routed));
    await tuned.save(folder, { form: 'lora', task });
    const plain = await loadAdapter(model, folder, { name: 'plain' });
    t.like(JSON.parse(readFileSync(join(folder, 'adapter_config.json'), 'utf8')), { peft_type: 'LORA', r: 8, lora_alpha: 4 });
    t.true(relativeError(await valuesOf(plain.logits([ids])), routed) < 1e-5);
    plain.remove('plain');
    tuned.activate('default');
  }
  model.dispose();
});

test.serial('files: alpha goes into B for PEFT and stays in the native form; options that PEFT lacks are kept', async (t) => {
  const model = await loadTiny();
  const options = { tasks: 2, alpha: 3, gates: 'straight-through', granularity: 'blockwise', routerLearningRate: null } as const;
  const tuned = await attach(model, { type: 'poly', ...options });
  perturb(tuned, 0.5);
  const expected = await valuesOf(tuned.logits([ids], { tasks: [1] }));
  for (const form of ['published', 'native'] as const) {
    const folder = join(temporaryFolder(), form);
    await tuned.save(folder, { form });
    const file = JSON.parse(readFileSync(join(folder, 'adapter_config.json'), 'utf8')) as Record<string, unknown>;
    t.like(file, { module_logits: 'straight-through', router_granularity: 'blockwise', module_logits_learning_rate: null });
    t.is(file.lora_alpha, form === 'native' ? 3 : undefined);
    const loaded = await loadAdapter(model, folder, { name: form });
    t.true(relativeError(await valuesOf(loaded.logits([ids], { tasks: [1] })), expected) < 1e-6);
    // Written once more, the keys are those of the values that it has now.
    await loaded.save(join(folder, 'again'), { name: form });
    const again = JSON.parse(readFileSync(join(folder, 'again', 'adapter_config.json'), 'utf8')) as Record<string, unknown>;
    t.is(again.lora_alpha, undefined);
    loaded.remove(form);
    tuned.activate('default');
  }
  model.dispose();
});

test.serial('routers are shared as the granularity says, and trained once', async (t) => {
  const counts = { finegrained: 8, layerwise: 2, blockwise: 2, coderwise: 1, coarsegrained: 1 } as const;
  for (const [granularity, routers] of Object.entries(counts)) {
    const model = await loadTiny();
    const tuned = await attach(model, { type: 'poly', granularity: granularity as keyof typeof counts });
    t.is([...tuned.namedParameters()].filter(([name]) => name.endsWith('module_logits')).length, routers, granularity);
    t.is(new Set(tuned.parameters()).size, tuned.parameters().length);
    t.is(
      tuned.table().reduce((total, { parameters }) => total + parameters, 0),
      tuned.parameters().reduce((total, { size }) => total + size, 0),
    );
    model.dispose();
  }
  const model = await loadTiny();
  const tuned = await attach(model, { type: 'poly', granularity: 'layerwise', targets: ['q_proj', 'down_proj'] });
  t.is([...tuned.namedParameters()].filter(([name]) => name.endsWith('module_logits')).length, 4);
  model.dispose();
});

test.serial('few-shot from an inventory: what is trained, what stays, and the mean', async (t) => {
  const model = await loadTiny();
  const targets = ['q_proj', 'v_proj'];
  const pretrained = await attach(model, { type: 'poly', tasks: 5, skills: 3, rank: 2, splits: 2, alpha: 2, targets });
  perturb(pretrained, 0.5);
  const inventory = join(temporaryFolder(), 'inventory');
  await pretrained.save(inventory);
  const mean = await valuesOf(pretrained.logits([ids], { tasks: ['mean'] }));
  const skills = new Map([...pretrained.namedParameters()].map(([name, value]) => [name, values(value)]));
  pretrained.dispose();
  const trainedEnds = { full: ['A', 'B', 'Z'], z: ['Z'], mu: ['A', 'B'], rand: ['A', 'B', 'Z'] } as const;
  for (const [finetune, trained] of Object.entries(trainedEnds)) {
    const tuned = await attach(model, { type: 'poly', inventory, finetune: finetune as keyof typeof trainedEnds, targets });
    t.like(tuned.adapters.get('default').config, { rank: 2, skills: 3, splits: 2, tasks: 1 });
    const ends = { poly_lora_A: 'A', poly_lora_B: 'B', module_logits: 'Z' } as const;
    for (const [name, value] of tuned.namedParameters()) {
      const [end, letter] = Object.entries(ends).find(([each]) => name.endsWith(each)) as [string, 'A' | 'B' | 'Z'];
      t.is(value.requiresGrad, (trained as readonly string[]).includes(letter), `${finetune} ${name}`);
      if (letter === 'Z') t.deepEqual(value.shape, [1, 6]);
      else if (finetune === 'rand') t.notDeepEqual(values(value), skills.get(name));
      else if (end === 'poly_lora_A') t.deepEqual(values(value), skills.get(name));
    }
    if (finetune !== 'rand') {
      const error = relativeError(await valuesOf(tuned.logits([ids])), mean);
      t.true(error < (finetune === 'mu' ? 1e-6 : 1e-2), `${finetune} ${error}`);
    }
    if (finetune === 'mu') {
      // PEFT computes the same from equal logits.
      const folder = join(temporaryFolder(), 'mu');
      await tuned.save(folder);
      const loaded = await loadAdapter(model, folder, { name: 'again' });
      t.true(relativeError(await valuesOf(loaded.logits([ids])), mean) < 1e-6);
      loaded.remove('again');
    }
    tuned.dispose();
  }
  await t.throwsAsync(attach(model, { type: 'poly', inventory, targets: ['q_proj'] }), {
    code: 'config',
    message: /skills for ".*v_proj", which is no target/,
  });
  await t.throwsAsync(attach(model, { type: 'poly', inventory, targets: ['q_proj', 'v_proj', 'k_proj'] }), {
    code: 'config',
    message: /no skills for ".*k_proj"/,
  });
  t.deepEqual((await attach(model, { type: 'lora' })).names, ['default']);
  model.dispose();
});

test.serial('the mean of the copies of mu is one adapter trained from the mean', async (t) => {
  const skills = 4;
  const network = new Single(12, 8, 'f64');
  const { set: first } = await onSingle(network, { tasks: 2, skills, rank: 2, alpha: 2, randomB: true });
  spread(first);
  const names = ['poly_lora_A', 'poly_lora_B'] as const;
  const module = first.get('default').placements[0]?.module as PolyLinear;
  const starts = names.map((name) => noGrad(() => module[name].detach()));
  const means = starts.map((start) => noGrad(() => mul(sum(start, [0, 1]), 1 / skills)));
  const x = noise([6, 12], 3, 'f64');
  const target = noise([6, 8], 4, 'f64');
  const lossOf = (on: Single): Tensor => sum(square(sub(on.layer.forward(x, { training: true }), target)));
  const settings = { learningRate: 1e-2, weightDecay: 0, eps: 1e-30 };
  first.dispose();

  const { module: copies, set } = await onSingle(network, { skills, rank: 2, alpha: 2 });
  for (const [i, name] of names.entries()) put(copies[name], starts[i] as Tensor);
  // What `finetune: 'mu'` makes of a router.
  (copies as { poly_router: PolyRouter }).poly_router = new PolyRouter(
    noGrad(() => mul(copies.poly_router.module_logits, 0)),
    copies.poly_router.settings,
    true,
  );
  const single = new Single(12, 8, 'f64');
  const plain = await attach(single, { type: 'lora', rank: 2, alpha: 2, targets: ['layer'] });
  const [loraA, loraB] = plain.parameters() as [Tensor, Tensor];
  put(loraA, transpose(means[0] as Tensor));
  put(loraB, transpose(means[1] as Tensor));
  const optimizers = [
    new AdamW(
      names.map((name) => copies[name]),
      settings,
    ),
    new AdamW([loraA, loraB], settings),
  ];
  for (let step = 0; step < 50; step++) {
    for (const [i, on] of [network, single].entries()) {
      scope(() => lossOf(on).backward());
      optimizers[i]?.step();
      optimizers[i]?.zeroGrad();
    }
  }
  const meanOf = (name: (typeof names)[number]): number[] => values(noGrad(() => transpose(mul(sum(copies[name], [0, 1]), 1 / skills))));
  t.true(relativeError(meanOf('poly_lora_A'), values(loraA)) < 1e-4);
  t.true(relativeError(meanOf('poly_lora_B'), values(loraB)) < 1e-4);
  t.truthy(set);
});

/** The linear layers of T5-XL (24 blocks of an encoder with 7, 24 of a decoder with 11); without weights. */
class T5 extends Module {
  layers: ModuleList<Linear>;

  constructor() {
    super();
    const wide = 5120;
    const attention: [number, number][] = new Array<[number, number]>(4).fill([2048, 2048]);
    const mlp: [number, number][] = [
      [2048, wide],
      [2048, wide],
      [wide, 2048],
    ];
    const block = [...attention, ...mlp];
    const shapes = Array.from({ length: 24 }, () => [...block, ...attention, ...block]).flat();
    this.layers = new ModuleList(shapes.map(([inputs, outputs]) => new Linear(inputs, outputs, { init: 'none', role: 'mlp' })));
  }
}

test.serial('numbers on T5-XL are those of the published inventories', async (t) => {
  const counts = async (options: Partial<PolyConfig>): Promise<{ factors: number; logits: number }> => {
    using set = await attach(new T5(), { type: 'poly', rank: 1, targets: 'all-linear', ...options } as AdapterConfig);
    const count = (end: RegExp): number =>
      [...set.namedParameters()].filter(([name]) => end.test(name)).reduce((total, [, { size }]) => total + size, 0);
    return { factors: count(/lora_[AB]$/), logits: count(/logits$/) };
  };
  t.is(new T5().layers.length, 432);
  t.is((await counts({ skills: 1 })).factors, 2_211_840);
  t.deepEqual(await counts({ skills: 8 }), { factors: 17_694_720, logits: 3456 });
  t.deepEqual(await counts({ skills: 8, splits: 64 }), { factors: 17_694_720, logits: 221_184 });
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

test.serial('resizeTasks keeps the first tasks', async (t) => {
  const model = await loadTiny();
  const tuned = await attach(model, { type: 'poly', tasks: 2 });
  perturb(tuned, 0.5);
  const before = await valuesOf(tuned.logits([ids], { tasks: [1] }));
  resizeTasks(tuned, 'default', 4);
  t.true(sameBits(await valuesOf(tuned.logits([ids], { tasks: [1] })), before));
  t.notThrows(() => tuned.logits([ids], { tasks: [3] }).dispose());
  t.is(routing(tuned, 'default').length, 8 * 4);
  t.like(tuned.adapters.get('default').config, { tasks: 4 });
  const folder = join(temporaryFolder(), 'more');
  await tuned.save(folder);
  t.like(JSON.parse(readFileSync(join(folder, 'adapter_config.json'), 'utf8')), { n_tasks: 4 });
  tuned.dispose();
  // A file whose logits are of another number of tasks than it says is refused.
  const config = JSON.parse(readFileSync(join(folder, 'adapter_config.json'), 'utf8')) as object;
  writeFileSync(join(folder, 'adapter_config.json'), JSON.stringify({ ...config, n_tasks: 3 }));
  await t.throwsAsync(loadAdapter(model, folder), { code: 'adapter', message: /module_logits: got \[4, 4\], expected \[3, 4\]/ });
  model.dispose();
});

test.serial('wrong options, tasks and files are errors', async (t) => {
  const network = new Single(12, 8);
  const refused: [Partial<PolyConfig>, RegExp][] = [
    [{ splits: 3 }, /splits must divide inputs and outputs of "layer"; got 3 for 12 inputs and 8 outputs/],
    [{ rank: 0 }, /rank .*got 0/],
    [{ skills: 0 }, /skills .*got 0/],
    [{ splits: 0.5 }, /splits .*got 0.5/],
    [{ tasks: -1 }, /tasks .*got -1/],
    [{ gates: 'hard' as never }, /gates .*"hard".*"relaxed"/],
    [{ gates: 'l2', sharedSkill: true }, /gates .*"l2"/],
    [{ gateDropout: 1 }, /gateDropout .*got 1/],
    [{ granularity: 'fine' as never }, /granularity .*"fine"/],
    [{ finetune: 'z' }, /finetune .*"z".*without "inventory"/],
    [{ routerLearningRate: 0 }, /routerLearningRate .*got 0/],
    [{ inventory: 'x', finetune: 'mu', gates: 'l2' }, /finetune .*"mu".*count alike/],
    [{ inventory: 'x', finetune: 'mu', gates: 'straight-through' }, /finetune .*"mu".*count alike/],
    [{ inventory: 'x', finetune: 'mu', sharedSkill: true }, /finetune .*"mu".*count alike/],
    [{ inventory: 'x', finetune: 'mu', averageCorrection: true }, /finetune .*"mu".*count alike/],
  ];
  for (const [options, message] of refused) await t.throwsAsync(onSingle(network, options), { code: 'config', message });

  class Words extends Module {
    layer = new Embedding(5, 4);
  }
  await t.throwsAsync(attach(new Words(), { type: 'poly', targets: ['layer'] }), {
    code: 'config',
    message: /Embedding, expected a linear layer/,
  });

  const { set } = await onSingle(network, { tasks: 2 });
  const x = noise([4, 12], 1);
  const failing: [ForwardContext, RegExp][] = [
    [{ training: false }, /shared by 2 tasks; got no task/],
    [ofTasks(2), /no such task; got 2, expected 0 to 1/],
    [ofTasks(-1), /no such task; got -1/],
    [ofTasks(0, 1, 0), /tasks of 3 rows for a batch of 4/],
    [{ training: false, tasks: [] }, /tasks of 0 rows/],
  ];
  for (const [context, message] of failing) t.throws(() => network.layer.forward(x, context), { code: 'adapter', message });
  await t.throwsAsync(set.merge(), { code: 'adapter', message: /got no task/ });
  t.throws(() => routing(set, 'other'), { code: 'adapter' });

  const model = await loadTiny();
  t.throws(() => model.logits([ids], { tasks: [0, 1] }), {
    code: 'shape',
    message: /"tasks" must name the task of every row; got 2 entries, expected 1/,
  });
  const folder = join(temporaryFolder(), 'strange');
  const tuned = await attach(model, { type: 'poly' });
  await tuned.save(folder);
  tuned.dispose();
  const config = JSON.parse(readFileSync(join(folder, 'adapter_config.json'), 'utf8')) as object;
  writeFileSync(join(folder, 'adapter_config.json'), JSON.stringify({ ...config, poly_type: 'mixture' }));
  await t.throwsAsync(loadAdapter(model, folder), { code: 'config', message: /unknown "poly_type"; got "mixture"/ });
  await t.throwsAsync(attach(model, { type: 'poly', inventory: join(golden, 'adapters', 'plain'), targets: ['q_proj'] }), {
    code: 'adapter',
    message: /holds another kind of adapter; got "lora"/,
  });
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
