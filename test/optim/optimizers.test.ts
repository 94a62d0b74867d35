import test from 'ava';
import type { Tensor } from 'lorikeet';
import { cast, full, normal, ones, tensor } from 'lorikeet/ops';
import { Adafactor, AdamW, AdamW8bit, gradientNorm, Lion, type Optimizer, SGD } from 'lorikeet/optim';
import { atLevel, machineLevels, withThreads } from '../helpers/engine.js';
import { sameBits, worstError } from '../helpers/values.js';
import { flat, type GoldenRun, golden, runs } from './golden.js';

const numbers = (x: Tensor): Float32Array => x.dataSync() as Float32Array;

function optimizerOf(run: GoldenRun, parameters: readonly Tensor[]): Optimizer<never> {
  const groups = run.groups.map(({ epsilon, ...settings }, g) => ({
    ...settings,
    ...(epsilon !== undefined && { eps: epsilon }),
    parameters: parameters.filter((_, i) => i % run.groups.length === g),
  }));
  return (run.kind === 'adamw' ? new AdamW(groups as never) : new SGD(groups as never)) as unknown as Optimizer<never>;
}

for (const [name, run] of runs) {
  test(`${name} follows PyTorch, at every level`, (t) => {
    for (const level of machineLevels) {
      atLevel(level, () => {
        const parameters = golden.initial.map((x, i) => tensor(flat(x), { shape: golden.shapes[i] as number[] }).setRequiresGrad(true));
        const optimizer = optimizerOf(run, parameters);
        run.parameters.forEach((expected, step) => {
          for (const [i, x] of parameters.entries()) x.setGrad(tensor(flat(golden.gradients[step]?.[i] ?? []), { shape: x.shape }));
          optimizer.step();
          parameters.forEach((x, i) => {
            const error = worstError(numbers(x), flat(expected[i] ?? []));
            t.true(error <= 3e-7, `${level}: parameter ${i} after step ${step + 1} is off by ${error}`);
          });
        });
      });
    }
  });
}

test('stateBytes is what the states take once every parameter has stepped', (t) => {
  for (const make of [
    (x: Tensor[]) => new AdamW(x),
    (x: Tensor[]) => new AdamW8bit(x),
    (x: Tensor[]) => new Lion(x),
    (x: Tensor[]) => new SGD(x),
    (x: Tensor[]) => new SGD(x, { momentum: 0.9 }),
    (x: Tensor[]) => new Adafactor(x),
    (x: Tensor[]) => new Adafactor(x, { beta1: 0.9 }),
  ]) {
    const parameters = [ones([70, 100]), ones([30]), ones([3], { dtype: 'f64' })].map((x) => x.setRequiresGrad(true));
    const optimizer = make(parameters);
    const expected = optimizer.stateBytes;
    for (const x of parameters) x.setGrad(ones(x.shape, { dtype: x.dtype }));
    optimizer.step();
    const { tensors } = optimizer.state();
    const bytes = Object.values(tensors).reduce((sum, state) => sum + (state.dataSync() as Float32Array).byteLength, 0);
    t.is(bytes, expected, optimizer.kind);
    t.is(optimizer.stateBytes, expected, optimizer.kind);
  }
});

test('f64 parameters agree with the formulas in double', (t) => {
  const start = [0.5, -1.25, 3];
  const gradients = [
    [0.1, -0.2, 0],
    [1, 2, -3],
  ];
  const x = tensor(start, { dtype: 'f64' }).setRequiresGrad(true);
  const optimizer = new AdamW([x], { learningRate: 0.1, betas: [0.8, 0.9], eps: 1e-6, weightDecay: 0.2 });
  let [p, m, v] = [start, [0, 0, 0], [0, 0, 0]];
  gradients.forEach((g, step) => {
    x.setGrad(tensor(g, { dtype: 'f64' }));
    optimizer.step({ rateFactor: 0.5 });
    m = m.map((value, i) => 0.8 * value + 0.2 * (g[i] as number));
    v = v.map((value, i) => 0.9 * value + 0.1 * (g[i] as number) ** 2);
    p = p.map((value, i) => {
      const denominator = Math.sqrt(v[i] as number) / Math.sqrt(1 - 0.9 ** (step + 1)) + 1e-6;
      return value * (1 - 0.05 * 0.2) - ((0.05 / (1 - 0.8 ** (step + 1))) * (m[i] as number)) / denominator;
    });
    t.true(worstError(numbers(x), p) < 1e-14);
  });
});

test('16-bit parameters keep f32 states', (t) => {
  for (const dtype of ['bf16', 'f16'] as const) {
    const x = ones([3], { dtype }).setRequiresGrad(true);
    const optimizer = new AdamW([x], { learningRate: 0.125, weightDecay: 0 });
    x.setGrad(tensor([1, -1, 0], { dtype }));
    optimizer.step();
    t.deepEqual([...numbers(x)], [0.875, 1.125, 1]);
    t.deepEqual(
      Object.values(optimizer.state().tensors).map((state) => state.dtype),
      ['f32', 'f32'],
    );
  }
});

test('one step over many tensors has the same bits for every thread count', (t) => {
  const run = (threads: number): ArrayBufferView[] =>
    withThreads(threads, () => {
      const shapes = [[50_001], [3], [0], [257, 130]];
      const parameters = shapes.map((shape, i) => normal(shape, { seed: i }).setRequiresGrad(true));
      const optimizer = new AdamW(parameters, { learningRate: 0.01 });
      for (let step = 0; step < 2; step++) {
        for (const [i, x] of parameters.entries()) x.setGrad(normal(x.shape, { seed: 100 + i, stream: step }));
        optimizer.step({ clipScale: full([], 0.5) });
      }
      return [...parameters.map(numbers), numbers(gradientNorm(parameters))];
    });
  const [one, two] = [run(1), run(2)];
  for (const [i, x] of one.entries()) t.true(sameBits(x, two[i] as ArrayBufferView));
});

test('a saved state continues exactly', (t) => {
  for (const make of [
    (x: Tensor) => new AdamW([x], { learningRate: 0.1 }),
    (x: Tensor) => new AdamW8bit([x], { learningRate: 0.1 }),
    (x: Tensor) => new Lion([x], { learningRate: 0.1 }),
    (x: Tensor) => new SGD([x], { learningRate: 0.1, momentum: 0.9 }),
    (x: Tensor) => new Adafactor([x], { learningRate: 0.1, beta1: 0.9 }),
  ]) {
    const gradient = (step: number): Tensor => normal([4500], { seed: 9, stream: step });
    const whole = normal([4500], { seed: 8 }).setRequiresGrad(true);
    const first = make(whole);
    let saved: { state: ReturnType<typeof first.state>; values: Tensor } | undefined;
    for (let step = 0; step < 4; step++) {
      if (step === 2) saved = { state: first.state(), values: cast(whole.detach(), 'f64') };
      whole.setGrad(gradient(step));
      first.step();
    }
    if (!saved) throw new Error('no state');
    const again = cast(saved.values, 'f32').setRequiresGrad(true);
    const second = make(again) as typeof first;
    // Through JSON, as a checkpoint file would hold it; tensors apart.
    second.loadState({ ...JSON.parse(JSON.stringify({ ...saved.state, tensors: {} })), tensors: saved.state.tensors });
    for (let step = 2; step < 4; step++) {
      again.setGrad(gradient(step));
      second.step();
    }
    t.true(sameBits(numbers(whole), numbers(again)));
  }
});

test('parameters without a gradient stay; their bias correction starts with their first one', (t) => {
  const a = ones([2]).setRequiresGrad(true);
  const b = ones([2]).setRequiresGrad(true);
  const optimizer = new AdamW([a, b], { learningRate: 0.1, weightDecay: 0 });
  a.setGrad(ones([2]));
  optimizer.step();
  t.deepEqual([...numbers(b)], [1, 1]);
  optimizer.zeroGrad();
  t.is(a.grad, undefined);
  b.setGrad(ones([2]));
  optimizer.step();
  // The first step of AdamW moves by the learning rate, whatever the gradient.
  t.true(Math.abs((numbers(b)[0] as number) - 0.9) < 1e-6);
  t.deepEqual(optimizer.state().steps, [1, 1]);
});

test('errors', (t) => {
  const x = ones([2]).setRequiresGrad(true);
  t.throws(() => new AdamW([]), { message: /AdamW: there is no parameter to train/ });
  t.throws(() => new AdamW([x, x]), { message: /AdamW: a parameter of shape \[2\] is in the list twice/ });
  t.throws(() => new AdamW([x], { betas: [1, 0.9] }), { message: /AdamW: betas\[0\] of group 0 is out of range; got 1/ });
  t.throws(() => new AdamW([{ parameters: [x], name: 'head', learningRate: -1 }]), {
    message: /AdamW: learningRate of group head is out of range; got -1/,
  });
  t.throws(() => new AdamW([{ parameters: [x], momentum: 1 } as never]), { message: /AdamW: group 0 has an unknown setting "momentum"/ });
  t.throws(() => new SGD([x], { nesterov: true }), { message: /SGD: nesterov of group 0 needs momentum and no dampening/ });
  const optimizer = new AdamW([x]);
  t.throws(() => optimizer.loadState(new SGD([ones([2])]).state()), {
    message: /adamw: this state belongs to another optimizer; got "sgd"/,
  });
  t.throws(() => optimizer.loadState({ ...optimizer.state(), steps: [1, 2] }), {
    message: /adamw: the state does not fit; got 2 parameters/,
  });
  t.throws(() => optimizer.loadState({ ...optimizer.state(), steps: [1] }), {
    message: /adamw: the state lacks the tensor "0.firstMoment"/,
  });
});
