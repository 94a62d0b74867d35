// LoRA-SB on single layers and a tiny language model: what its start is, and what its steps are.
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { type AdapterConfig, attach, ConfigError, type TunedModel } from 'lorikeet';
import { svd } from 'lorikeet/linalg';
import { Linear, Module } from 'lorikeet/nn';
import { add, mul, narrow, square, sub, sum, tensor } from 'lorikeet/ops';
import { LoraXsLinear } from '#dist/adapters/lora-xs-linear.js';
import { firstRate, loraSbDefaults } from '#dist/inits/lora-sb.js';
import { matmul } from '#dist/ops/linalg.js';
import { fill, transpose } from '#dist/ops/shape.js';
import { noGrad, scope } from '#dist/scope.js';
import type { DType, Tensor } from '#dist/tensor.js';
import { loadTiny, logitsOf, relativeError, sameBits, temporaryFolder } from '../helpers/adapters.js';
import { noise } from '../helpers/tiny-network.js';

const kInputs = 20;
const kOutputs = 12;
const kRank = 4;
const kEta = 1e-3;

class Single extends Module {
  layer: Linear;

  constructor(dtype: DType = 'f32') {
    super();
    this.layer = new Linear(kInputs, kOutputs, { bias: false, dtype, seed: 3 });
    this.freeze();
  }

  forward(x: Tensor): Tensor {
    return this.layer.forward(x);
  }
}

const read = (x: Tensor): number[] => [...(x.dataSync() as Float32Array)].map(Number);
const norm = (x: Tensor): number => Math.hypot(...read(x));
const distance = (a: Tensor, b: Tensor): number => scope(() => norm(sub(a, b)) / norm(b));
const eye = (size: number): Tensor =>
  tensor(Array.from({ length: size }, (_, i) => Array.from({ length: size }, (__, j) => (i === j ? 1 : 0))));

/** Rows for the loss |y - target|² / 2 of the single layer; G = (y - target)ᵀ x. */
const x = noise([32, kInputs], 7);
const target = noise([32, kOutputs], 8);
const lossOf = (network: Single, inputs: Tensor, targets: Tensor): Tensor => mul(sum(square(sub(network.forward(inputs), targets))), 0.5);
const gradientOf = (network: Single): Tensor => noGrad(() => matmul(transpose(sub(network.forward(x), target)), x));

type Split = readonly (readonly [Tensor, Tensor])[];
const whole: Split = [[x, target]];

async function started(network: Single, init: object = {}, config: object = {}, split = whole, factor = 1): Promise<LoraXsLinear> {
  const data = {
    batches: split,
    forward: ([inputs]: Split[number]) => network.forward(inputs),
    loss: ([inputs, targets]: Split[number]) => mul(lossOf(network, inputs, targets), factor),
  };
  const full = { type: 'lora-xs', rank: kRank, targets: ['layer'], init: { type: 'lora-sb', eta: kEta, ...init }, ...config };
  const set = await attach(network, full as AdapterConfig, { data: data as never });
  return set.get('default').placements[0]?.module as LoraXsLinear;
}

/** The nearest matrix of rank R. */
function truncated(matrix: Tensor): Tensor {
  const { u, s, vt } = svd(matrix);
  return matmul(mul(narrow(u, 1, 0, kRank), narrow(s, 0, 0, kRank)), narrow(vt, 0, 0, kRank));
}

const stepOf = (network: Single): Tensor =>
  tensor(
    read(gradientOf(network)).map((value) => -kEta * Math.sign(value)),
    { shape: [kOutputs, kInputs] },
  );

test.serial('the factors are orthonormal, R_w is the singular values, and their product the truncated first step', async (t) => {
  for (const [alpha, scale] of [
    [null, 1],
    [2 * kRank, 2],
  ] as const) {
    for (const niter of [null, 10]) {
      const network = new Single();
      const step = stepOf(network);
      const exact = truncated(step);
      const module = await started(network, { niter }, { alpha });
      const [a, b, r] = [module.lora_A.weight, module.lora_B.weight, module.lora_latent_mapping.weight];
      t.is(module.scale, scale);
      t.false(a.requiresGrad || b.requiresGrad);
      t.true(
        distance(
          noGrad(() => matmul(transpose(b), b)),
          eye(kRank),
        ) < 1e-5,
      );
      t.true(
        distance(
          noGrad(() => matmul(a, transpose(a))),
          eye(kRank),
        ) < 1e-5,
      );
      const product = noGrad(() => module.delta());
      if (niter === null) t.true(distance(product, exact) < 1e-5);
      else t.true(norm(sub(product, step)) < 1.01 * norm(sub(exact, step)));
      const values = read(r);
      const diagonal = values.filter((_, i) => i % (kRank + 1) === 0);
      t.true(values.every((value, i) => i % (kRank + 1) === 0 || value === 0));
      t.true(diagonal.every((value, i) => value > 0 && value <= (diagonal[i - 1] ?? Number.POSITIVE_INFINITY)));
    }
  }
});

test.serial('with update gradient the start is the truncated gradient itself', async (t) => {
  const network = new Single();
  const exact = truncated(mul(gradientOf(network), -kEta));
  const module = await started(network, { update: 'gradient', niter: null });
  t.true(
    distance(
      noGrad(() => module.delta()),
      exact,
    ) < 1e-5,
  );
});

test.serial('a bf16 base has orthonormal factors in f32', async (t) => {
  const network = new Single('bf16');
  const module = await started(network);
  const { weight: b } = module.lora_B;
  t.is(b.dtype, 'f32');
  t.true(
    distance(
      noGrad(() => matmul(transpose(b), b)),
      eye(kRank),
    ) < 1e-5,
  );
});

test.serial('a step on R_w is the projection of the full gradient, and no other step of that form is nearer to it', async (t) => {
  const network = new Single();
  const full = gradientOf(network);
  const module = await started(network);
  const [a, b, r] = [module.lora_A.weight, module.lora_B.weight, module.lora_latent_mapping.weight];
  noGrad(() => fill(r, 0));
  scope(() => lossOf(network, x, target).backward());
  const product = (middle: Tensor): Tensor => noGrad(() => matmul(matmul(b, middle), a));
  const projected = noGrad(() => matmul(matmul(b, matmul(matmul(transpose(b), full), transpose(a))), a));
  const found = product(r.grad as Tensor);
  t.true(distance(found, projected) < 1e-5);
  const least = norm(sub(found, full));
  for (let seed = 0; seed < 20; seed++) {
    const moved = noGrad(() => add(r.grad as Tensor, mul(noise([kRank, kRank], seed), 0.1)));
    t.true(norm(sub(product(moved), full)) > least);
  }
});

test.serial('the start does not depend on the scale of the loss or on how rows are split into batches', async (t) => {
  const product = async (split: Split, factor: number): Promise<Float32Array> => {
    const module = await started(new Single(), {}, {}, split, factor);
    return noGrad(() => module.delta()).dataSync() as Float32Array;
  };
  const once = await product(whole, 1);
  t.true(sameBits(await product(whole, 1 / 1024), once));
  const halves = [0, 16].map((start) => [narrow(x, 0, start, 16), narrow(target, 0, start, 16)] as const);
  t.true(sameBits(await product(halves, 1), once));
});

const rows = [
  [3, 17, 42, 5, 8, 80, 12, 9],
  [7, 7, 30, 61, 2, 44, 10, 11],
];

test.serial('a language model starts below its loss by the first-order change', async (t) => {
  const model = await loadTiny();
  const lossAt = (tuned: { loss: TunedModel['loss'] }): number =>
    scope(() => noGrad(() => tuned.loss({ ids: rows })).dataSync()[0] as number);
  const before = lossAt(model);
  const drops: number[] = [];
  for (const eta of [1e-4, 2e-4]) {
    const tuned = await attach(model, { type: 'lora-xs', rank: 8, init: { type: 'lora-sb', eta } }, { data: [rows] });
    drops.push((before - lossAt(tuned)) / eta);
    tuned.dispose();
  }
  t.true(drops.every((drop) => drop > 0));
  t.true(Math.abs((drops[1] as number) / (drops[0] as number) - 1) < 0.1, drops.join());
  model.dispose();
});

test.serial('a saved adapter stands for the look at data, as when a run is resumed', async (t) => {
  const model = await loadTiny();
  const ids = rows[0] as number[];
  const config = { type: 'lora-xs', rank: 4, init: { type: 'lora-sb', eta: 1e-3 }, modulesToSave: ['lm_head'] } as const;
  const first = await attach(model, config, { data: [rows] });
  const started = await logitsOf(first, ids);
  const folder = join(temporaryFolder(), 'adapter');
  await first.save(folder);
  first.dispose();
  const again = await attach(model, config, { initial: folder });
  t.is(again.adapters.get('default').method.name, 'lora-xs');
  t.true(relativeError(await logitsOf(again, ids), started) < 1e-6);
  for (const { module } of again.adapters.get('default').placements) {
    if (!(module instanceof LoraXsLinear)) continue;
    const { weight: b } = module.lora_B;
    t.true(
      distance(
        noGrad(() => matmul(transpose(b), b)),
        eye(4),
      ) < 1e-5,
    );
  }
  again.dispose();
  const other = { ...config, rank: 5 };
  await refused(t, attach(model, other, { initial: folder }), 'adapter', /got rank 4, expected 5/);
  await refused(t, attach(model, { type: 'lora-xs', rank: 4 }, { initial: folder }), 'config', /expected no "initial"/);
  model.dispose();
});

test('the rate of the first update comes from the settings of the training', (t) => {
  const rate = (options: object): number => firstRate({ ...loraSbDefaults, ...options });
  t.is(rate({ learningRate: 1e-3, warmup: 10 }), 1e-4);
  t.is(rate({ learningRate: 1e-3, warmup: 0.02, steps: 500 }), 1e-4);
  t.is(rate({ eta: 3e-4, learningRate: 1, warmup: 1 }), 3e-4);
  for (const [options, message] of [
    [{}, /expected eta, or learningRate and warmup/],
    [{ learningRate: 1e-3, warmup: 0 }, /without warm-up/],
    [{ learningRate: 1e-3, warmup: 0.1 }, /expected steps as well/],
  ] as const)
    t.throws(() => rate(options), { instanceOf: ConfigError, message });
});

async function refused(t: ExecutionContext, work: Promise<unknown>, code: string, message: RegExp): Promise<void> {
  await t.throwsAsync(work, { code, message } as never);
}

test.serial('options and data that cannot work are errors', async (t) => {
  const network = new Single();
  await refused(
    t,
    attach(network, { type: 'lora-xs', rank: 2, targets: ['layer'], init: { type: 'lora-sb', eta: 1 } }),
    'config',
    /looks at data/,
  );
  await refused(t, started(network, { batches: 0 }), 'config', /batches must be null or a positive whole number; got 0/);
  await refused(t, started(network, { eta: -1 }), 'config', /eta must be a positive number; got -1/);
  await refused(t, started(network, { update: 'sgn' }), 'config', /update must be "sign" or "gradient"; got "sgn"/);
  await refused(t, started(network, { etta: 1 }), 'config', /has no option "etta".*eta/);
  await refused(t, started(network, {}, { rank: 13 }), 'config', /rank 13; its weight is \[12, 20\], expected at most 12/);
  await refused(t, started(network, {}, {}, []), 'invalid-argument', /no batch/);
  await refused(t, started(network, {}, {}, whole, 0), 'invalid-argument', /gradient of "layer" is zero everywhere/);
  await refused(t, started(network, {}, {}, whole, Number.NaN), 'non-finite', /"layer" is not finite/);
  await refused(t, started(network, {}, { alpha: 0 }), 'config', /scale of 0; got alpha 0 on "layer"/);
  const elsewhere = {
    batches: [0],
    forward: () => undefined,
    loss: () => mul(sum(square(network.forward(x).detach())), 1),
  };
  const config = { type: 'lora-xs', rank: 2, targets: /^layer$/, init: { type: 'lora-sb', eta: 1 } } as const;
  await refused(t, attach(network, config, { data: elsewhere }), 'config', /"layer" got none/);
});

test.serial('another scale than 1 is warned of', async (t) => {
  const warnings: string[] = [];
  const listen = (warning: Error): void => void warnings.push(warning.message);
  process.on('warning', listen);
  await started(new Single(), {}, { alpha: 8 });
  await started(new Single());
  await new Promise((resolve) => setImmediate(resolve));
  process.off('warning', listen);
  t.deepEqual(warnings.filter((warning) => warning.includes('scale of 1')).length, 1);
  t.regex(warnings.join(), /got alpha 8 and rank 4 on "layer"/);
});
