import test from 'ava';
import { type AdapterConfig, type AdapterSet, attach } from '#dist/adapters/index.js';
import { Calibration, type CalibrationRuns } from '#dist/inits/calibration.js';
import { type LoraGaOptions, loraGa } from '#dist/inits/lora-ga.js';
import { weightGradients } from '#dist/inits/weight-gradients.js';
import { loadSafetensors } from '#dist/io/index.js';
import { readPeftConfig, writePeftConfig } from '#dist/io/peft-config.js';
import { svd } from '#dist/linalg/index.js';
import { Linear, Module } from '#dist/nn/index.js';
import { abs, add, cast, mul, relu, sqrt, square, sub } from '#dist/ops/elementwise.js';
import { matmul } from '#dist/ops/linalg.js';
import { logitsCrossEntropy } from '#dist/ops/loss.js';
import { max, mean, sum } from '#dist/ops/reduce.js';
import { narrow, transpose } from '#dist/ops/shape.js';
import { noGrad, scope } from '#dist/scope.js';
import type { DType, Tensor } from '#dist/tensor.js';
import { relativeError, sameBits } from '../helpers/adapters.js';
import { contextOf, startLayers } from '../helpers/init-context.js';

const kRank = 5;
const kAlpha = 15;
const kDirections = ['ArB2r', 'A2rBr', 'ArBr', 'random'] as const;
const kScales = ['stable', 'unit', 'gd', 'weightS'] as const;
const kPaths = ['fc1', 'fc2'] as const;

const golden = await loadSafetensors('test/golden/lora-ga.safetensors');
const recorded = (name: string): Tensor => golden.get(name) as Tensor;

class Mlp extends Module {
  fc1: Linear;
  fc2: Linear;

  constructor(dtype: DType = 'f32') {
    super();
    const layer = (name: string): Linear => {
      const weight = recorded(`weight.${name}`);
      const [outputs = 0, inputs = 0] = weight.shape;
      const linear = new Linear(inputs, outputs, { bias: false, init: 'none' });
      linear.assign('weight', cast(weight, dtype));
      return linear;
    };
    this.fc1 = layer('fc1');
    this.fc2 = layer('fc2');
  }

  forward(x: Tensor): Tensor {
    return this.fc2.forward(relu(this.fc1.forward(x)));
  }
}

const dataOf = (network: Mlp, dtype: DType = 'f32'): CalibrationRuns<number> => {
  const batches = [0, 1, 2].map((i) => cast(recorded(`batch.${i}`), dtype));
  return {
    batches: [0, 1, 2],
    forward: (i) => network.forward(batches[i] as Tensor),
    loss: (i) => logitsCrossEntropy(network.forward(batches[i] as Tensor), recorded(`labels.${i}`)),
  };
};

type Options = Partial<LoraGaOptions>;

const started = (network: Mlp, options: Options, config: object = {}, seed = 0, dtype: DType = 'f32'): Promise<AdapterSet> => {
  const whole = { type: 'lora', rank: kRank, alpha: kAlpha, targets: [...kPaths], init: { type: 'lora-ga', ...options }, ...config };
  return attach(network, whole as AdapterConfig, { data: dataOf(network, dtype) as CalibrationRuns, seed });
};

const factor = (set: AdapterSet, path: string, letter: 'A' | 'B'): Tensor =>
  ([...set.namedParameters()].find(([name]) => name === `${path}.lora_${letter}.weight`) as [string, Tensor])[1].detach();
const f64 = (x: Tensor): Tensor => cast(x, 'f64');
const read = (x: Tensor): number[] => [...(x.dataSync() as Float64Array)];
const largest = (x: Tensor): number => read(max(abs(x)))[0] as number;
const norm = (x: Tensor): number => Math.sqrt(read(sum(square(x)))[0] as number);
/** The scale of size: s = alpha / R. */
const kS = kAlpha / kRank;

/** The rows of `got` and `expected` agree up to their signs. */
function worstRow(got: Tensor, expected: Tensor): number {
  const width = got.shape[1] as number;
  const [a, b] = [read(got), read(expected)];
  const errors = Array.from({ length: got.shape[0] as number }, (_, row) => {
    const [mine, theirs] = [a.slice(row * width, (row + 1) * width), b.slice(row * width, (row + 1) * width)];
    return Math.min(
      relativeError(mine, theirs),
      relativeError(
        mine.map((value) => -value),
        theirs,
      ),
    );
  });
  return Math.max(...errors);
}

const gradients = async (network: Mlp, dtype: DType = 'f32'): Promise<Map<string, Tensor>> => {
  const found = new Map<string, Tensor>();
  const context = contextOf(network, new Calibration(dataOf(network, dtype) as CalibrationRuns), { dtype });
  for await (const { path, gradient } of weightGradients(startLayers(network), context, { reduce: 'mean' })) found.set(path, gradient);
  return found;
};

test.serial("mode peft has PEFT's gradients and factors, up to signs", async (t) => {
  const network = new Mlp();
  for (const [path, gradient] of await gradients(network)) t.true(relativeError(read(gradient), read(recorded(`gradient.${path}`))) < 1e-5);
  const names = { stable: 'stable', unit: 'unit', gd: 'gd_scale', weightS: 'weight_svd' } as const;
  for (const direction of ['ArB2r', 'A2rBr', 'ArBr'] as const) {
    for (const scale of kScales) {
      const set = await started(network, { mode: 'peft', direction, scale });
      for (const path of kPaths) {
        const key = `${direction}.${names[scale]}.${path}`;
        t.true(worstRow(factor(set, path, 'A'), recorded(`${key}.A`)) < 1e-4, `${key}.A`);
        t.true(worstRow(transpose(factor(set, path, 'B')), transpose(recorded(`${key}.B`))) < 1e-4, `${key}.B`);
      }
      set.dispose();
    }
  }
  // One set for both factors: B = c U S = c G Aᵀ.
  const set = await started(network, { mode: 'peft', direction: 'random', scale: 'stable' });
  for (const path of kPaths) {
    const [a, b] = [factor(set, path, 'A'), factor(set, path, 'B')];
    const c = (b.shape[0] as number) ** 0.25 / 4;
    t.true(relativeError(read(b), read(mul(matmul(recorded(`gradient.${path}`), transpose(a)), c))) < 1e-4);
  }
  set.dispose();
});

for (const mode of ['official', 'peft'] as const) {
  test.serial(`${mode}: for every direction and scale the first output is that of the base`, async (t) => {
    const network = new Mlp();
    const x = recorded('batch.0');
    const base = read(noGrad(() => network.forward(x)));
    for (const direction of kDirections) {
      for (const scale of kScales) {
        const set = await started(network, { mode, direction, scale }, { rsLora: true });
        t.true(relativeError(read(noGrad(() => network.forward(x))), base) < 1e-5, `${direction} ${scale}`);
        set.dispose();
      }
    }
    t.true(relativeError(read(noGrad(() => network.forward(x))), base) < 1e-5);
  });
}

test.serial('A Aᵀ = Bᵀ B = c² I, and no singular vector starts both', async (t) => {
  const network = new Mlp();
  const found = await gradients(network);
  const sizes = Object.fromEntries(
    kPaths.map((path) => {
      const weight = recorded(`weight.${path}`);
      const roots = scope(() => read(mean(sqrt(mul(narrow(svd(weight).s, 0, 0, kRank), 1 / kS)))));
      return [path, { stable: (weight.shape[0] as number) ** 0.25 / 4, unit: 1, gd: 1 / kS, weightS: roots[0] as number }];
    }),
  );
  for (const direction of kDirections) {
    for (const scale of kScales) {
      const set = await started(network, { direction, scale });
      for (const path of kPaths) {
        const c = sizes[path]?.[scale] as number;
        const [a, b] = [f64(factor(set, path, 'A')), f64(factor(set, path, 'B'))];
        for (const [name, product] of [
          ['A', matmul(a, transpose(a))],
          ['B', matmul(transpose(b), b)],
        ] as const) {
          const off = read(product).map((value, i) => value - (i % (kRank + 1) === 0 ? c * c : 0));
          t.true(Math.max(...off.map(Math.abs)) < 1e-4 * c * c, `${direction} ${scale} ${path} ${name}`);
        }
        // The left singular vectors that belong to A's right ones.
        const left = matmul(f64(found.get(path) as Tensor), transpose(a));
        const unit = read(sqrt(sum(square(left), 0)));
        const overlaps = read(matmul(transpose(b), left)).map((value, i) => Math.abs(value) / (unit[i % kRank] as number));
        t.true(Math.max(...overlaps) < 1e-4 * c, `${direction} ${scale} ${path}`);
      }
      set.dispose();
    }
  }
});

/** cos of the first step's direction and the gradient. */
function alignment(a: Tensor, b: Tensor, g: Tensor): number {
  const step = add(matmul(matmul(b, transpose(b)), g), matmul(g, matmul(transpose(a), a)));
  return (read(sum(mul(step, g)))[0] as number) / (norm(step) * norm(g));
}

test.serial('the first step goes along the gradient as far as rank 2 R reaches', async (t) => {
  const network = new Mlp();
  const found = await gradients(network);
  for (const direction of kDirections) {
    const set = await started(network, { direction });
    for (const path of kPaths) {
      const g = f64(found.get(path) as Tensor);
      const { s } = svd(g);
      const best = norm(narrow(s, 0, 0, 2 * kRank)) / norm(s);
      t.true(Math.abs(alignment(f64(factor(set, path, 'A')), f64(factor(set, path, 'B')), g) - best) < 1e-3, `${direction} ${path}`);
    }
    set.dispose();
  }
  const plain = await attach(network, { type: 'lora', rank: kRank, targets: [...kPaths] });
  for (const path of kPaths) {
    const g = f64(found.get(path) as Tensor);
    t.true(alignment(f64(factor(plain, path, 'A')), f64(factor(plain, path, 'B')), g) < 0.8, 'plain LoRA');
  }
  plain.dispose();
});

test.serial('one small step of SGD moves the weight by the best matrix of rank 2 R', async (t) => {
  const network = new Mlp('f64');
  const found = await gradients(network, 'f64');
  const set = await started(network, {}, {}, 0, 'f64');
  const data = dataOf(network, 'f64');
  for (const i of [0, 1, 2]) scope(() => data.loss?.(i).backward());
  const rate = 1e-4;
  const stepped = (x: Tensor, gradient: Tensor): Tensor => sub(x, mul(gradient, rate / 3));
  const gradientOf = (path: string, letter: string): Tensor =>
    ([...set.namedParameters()].find(([name]) => name === `${path}.lora_${letter}.weight`) as [string, Tensor])[1].grad as Tensor;
  for (const path of kPaths) {
    const [a, b] = [factor(set, path, 'A'), factor(set, path, 'B')];
    const [nextA, nextB] = [stepped(a, gradientOf(path, 'A')), stepped(b, gradientOf(path, 'B'))];
    const moved = mul(sub(matmul(nextB, nextA), matmul(b, a)), kS / rate);
    const { u, s, vt } = svd(found.get(path) as Tensor);
    const c2 = Math.sqrt(b.shape[0] as number) / 16;
    const n = 2 * kRank;
    const best = matmul(mul(narrow(u, 1, 0, n), narrow(s, 0, 0, n)), narrow(vt, 0, 0, n));
    t.true(norm(add(moved, mul(best, kS * kS * c2))) < 1e-2 * norm(mul(best, kS * kS * c2)), path);
  }
  set.dispose();
});

test.serial('normClip keeps s B A within the largest entry of the weight', async (t) => {
  const network = new Mlp();
  const largestOf = async (options: Options): Promise<number[]> => {
    const set = await started(network, { scale: 'unit', ...options }, { alpha: 60 });
    const found = kPaths.map((path) => largest(mul(matmul(factor(set, path, 'B'), factor(set, path, 'A')), 60 / kRank)));
    set.dispose();
    return found;
  };
  const weights = kPaths.map((path) => largest(recorded(`weight.${path}`)));
  const [free, clipped] = [await largestOf({}), await largestOf({ normClip: true })];
  for (const [i, weight] of weights.entries()) {
    t.true((free[i] as number) > 1.1 * weight);
    t.true(Math.abs((clipped[i] as number) / weight - 1) < 1e-5);
  }
});

test.serial('batches limits what is looked at, and the seed decides what is random', async (t) => {
  const values = async (options: Options, seed = 0): Promise<Float32Array> => {
    const set = await started(new Mlp(), options, {}, seed);
    const found = factor(set, 'fc1', 'A').dataSync() as Float32Array;
    set.dispose();
    return found;
  };
  t.true(sameBits(await values({ batches: 3 }), await values({})));
  t.false(sameBits(await values({ batches: 1 }), await values({})));
  const random = { direction: 'random' } as const;
  t.true(sameBits(await values(random, 7), await values(random, 7)));
  t.true(relativeError(await values(random, 7), await values(random, 8)) > 1e-2);
});

test.serial('layers of another rank by pattern; a rank beyond half the smaller side is an error', async (t) => {
  const network = new Mlp();
  const set = await started(network, {}, { rank: 10, rankPattern: { fc2: 2 } });
  t.deepEqual(factor(set, 'fc1', 'A').shape, [10, 20]);
  t.deepEqual(factor(set, 'fc2', 'B').shape, [18, 2]);
  set.dispose();
  await t.throwsAsync(started(network, {}, { rank: 10 }), {
    code: 'config',
    message: /"fc2" needs 2 R singular vectors of its gradient \[18, 24\]; got rank 10, expected at most 9/,
  });
});

test('options that cannot work are errors', (t) => {
  const wrong: [Options, RegExp][] = [
    [{ direction: 'ArB' as never }, /unknown direction; got "ArB", expected one of ArB2r, A2rBr, ArBr, random; did you mean "ArBr"/],
    [{ scale: 'gd_scale' as never }, /unknown scale; got "gd_scale"/],
    [{ mode: 'legacy' as never }, /unknown mode/],
    [{ stableGamma: 0 }, /stableGamma must be a number above 0; got 0/],
    [{ stableGamma: Number.NaN }, /stableGamma/],
    [{ batchSize: 0 }, /batchSize must be a positive whole number; got 0/],
    [{ batches: 0.5 }, /batches must be a positive whole number; got 0.5/],
    [{ sketch: 'yes' as never }, /sketch must be true or false/],
    [{ normClip: 1 as never }, /normClip must be true or false/],
    [{ normClip: true, mode: 'peft' }, /PEFT clips no norms/],
  ];
  for (const [options, message] of wrong) {
    t.throws(() => loraGa.check({ ...loraGa.defaults, ...options }), { code: 'config', message });
  }
});

test.serial('data that cannot work are errors, and leave the network alone', async (t) => {
  const network = new Mlp();
  const before = read(noGrad(() => network.forward(recorded('batch.0'))));
  const config = { type: 'lora', rank: 2, targets: [...kPaths], init: 'lora-ga' } as const;
  const data = dataOf(network);
  await t.throwsAsync(attach(network, config), { code: 'config', message: /looks at data; expected batches in the option "data"/ });
  await t.throwsAsync(attach(network, config, { data: { ...data, batches: [] } as CalibrationRuns }), { code: 'invalid-argument' });
  const { loss: _, ...withoutLoss } = data;
  await t.throwsAsync(attach(network, config, { data: withoutLoss as CalibrationRuns }), { code: 'config', message: /with a "loss"/ });
  const apart = { ...data, loss: () => sum(network.fc1.forward(recorded('batch.0'))) } as CalibrationRuns;
  await t.throwsAsync(attach(network, config, { data: apart }), { code: 'config', message: /"fc2" got none/ });
  const infinite = { ...data, loss: (i: number) => mul(data.loss?.(i) as Tensor, Infinity) } as CalibrationRuns;
  await t.throwsAsync(attach(network, config, { data: infinite }), { code: 'non-finite', message: /"fc1" is not finite/ });
  t.deepEqual(read(noGrad(() => network.forward(recorded('batch.0')))), before);
});

test('files spell the options as PEFT and the authors do', (t) => {
  const { read: readFile, write } = loraGa.peft;
  const options = { ...loraGa.defaults, mode: 'peft', direction: 'ArBr', scale: 'weightS', stableGamma: 64 } as const;
  const file = write(options);
  t.deepEqual(file, { init_lora_weights: 'lora_ga', lora_ga_config: { direction: 'ArBr', scale: 'weight_svd', stable_gamma: 64 } });
  t.deepEqual({ ...loraGa.defaults, ...readFile('lora_ga', file as never) }, options);
  t.deepEqual(readFile('lora_ga', { lora_ga_config: null }), { mode: 'peft' });
  t.is(readFile('pissa', {}), undefined);
  const official = {
    peft_type: 'LORAGA',
    bsz: 2,
    iters: 8,
    direction: 'A2rBr',
    scale: 'gd',
    stable_gamma: 16,
    dtype: 'fp32',
    max_length: 1024,
  };
  t.deepEqual(readFile('lora_ga', official), {
    mode: 'official',
    direction: 'A2rBr',
    scale: 'gd',
    stableGamma: 16,
    batches: 8,
    batchSize: 2,
  });
  t.throws(() => readFile('lora_ga', { lora_ga_config: { scale: 'huge' } }), { code: 'config', message: /unknown scale; got "huge"/ });
});

test('files of the authors are read as LoRA, and written as such', (t) => {
  const own = { bsz: 2, iters: 64, direction: 'ArB2r', max_length: 1024, dtype: 'fp32', scale: 'stable', stable_gamma: 16 };
  const file = { peft_type: 'LORAGA', r: 16, lora_alpha: 32, init_lora_weights: true, target_modules: ['q_proj'], ...own };
  const { method, config, unknownKeys } = readPeftConfig(file);
  t.is(method.name, 'lora');
  t.like(config, { rank: 16, alpha: 32, init: true, targets: ['q_proj'] });
  t.deepEqual(unknownKeys, []);
  const written = JSON.parse(writePeftConfig({ method, config, targets: ['q_proj'], file }));
  t.like(written, { peft_type: 'LORA', r: 16, lora_alpha: 32 });
  t.deepEqual(
    Object.keys(own).filter((key) => key in written),
    [],
  );
});
