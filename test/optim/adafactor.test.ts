// Adafactor against that of transformers, its states, and what it refuses.
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import type { Tensor } from 'lorikeet';
import { cast, full, mul, normal, ones, tensor, zeros } from 'lorikeet/ops';
import { Adafactor, type AdafactorOptions } from 'lorikeet/optim';
import { atLevel, machineLevels, withThreads } from '../helpers/engine.js';
import { sameBits, worstError } from '../helpers/values.js';
import { flat, type Nested } from './golden.js';

interface Golden {
  readonly shapes: readonly (readonly number[])[];
  readonly initial: readonly Nested[];
  readonly gradients: readonly (readonly Nested[])[];
  readonly runs: Readonly<
    Record<
      string,
      {
        readonly groups: readonly (Omit<AdafactorOptions, 'learningRate'> & { readonly learningRate: number | null })[];
        readonly parameters: readonly (readonly Nested[])[];
      }
    >
  >;
}

/** What transformers computed, see scripts/golden/adafactor.py. */
const golden = JSON.parse(readFileSync(fileURLToPath(new URL('../../../test/golden/adafactor.json', import.meta.url)), 'utf8')) as Golden;
const numbers = (x: Tensor): Float32Array => x.dataSync() as Float32Array;
const trained = (values: Tensor): Tensor => values.detach().setRequiresGrad(true);

for (const [name, { groups, parameters: expected }] of Object.entries(golden.runs)) {
  test(`${name}: follows transformers, at every level`, (t) => {
    for (const level of machineLevels) {
      atLevel(level, () => {
        const parameters = golden.initial.map((x, i) => trained(tensor(flat(x), { shape: golden.shapes[i] as number[] })));
        const optimizer = new Adafactor(
          groups.map(({ learningRate, ...settings }, g) => ({
            ...settings,
            learningRate: learningRate ?? 1,
            parameters: parameters.filter((_, i) => i % groups.length === g),
          })),
        );
        for (const [step, values] of expected.entries()) {
          for (const [i, x] of parameters.entries()) x.setGrad(tensor(flat(golden.gradients[step]?.[i] ?? []), { shape: x.shape }));
          optimizer.step();
          for (const [i, x] of parameters.entries()) {
            const error = worstError(numbers(x), flat(values[i] ?? []));
            t.true(error <= 3e-7, `${level}: parameter ${i} after step ${step + 1} is off by ${error}`);
          }
        }
      });
    }
  });
}

const kShapes = [[7, 5], [2, 3, 4, 6], [11]] as const;
const gradientsOf = (step: number): Tensor[] => kShapes.map((shape, i) => normal(shape, { seed: 20 + i, stream: step }));
const start = (): Tensor[] => kShapes.map((shape, i) => trained(normal(shape, { seed: i })));
function stepsOf(optimizer: Adafactor, parameters: readonly Tensor[], from: number, to: number): void {
  for (let step = from; step < to; step++) {
    for (const [i, gradient] of gradientsOf(step).entries()) parameters[i]?.setGrad(gradient);
    optimizer.step({ rateFactor: 1 / (step + 1), clipScale: full([], 0.5) });
  }
}

test('matrices keep the means of their rows and columns, and a saved state goes on with the same bits', (t) => {
  for (const options of [{}, { beta1: 0.8, scaleParameter: true, relativeStep: true, warmupInit: true, weightDecay: 0.1 }]) {
    const parameters = start();
    const optimizer = new Adafactor(parameters, options);
    stepsOf(optimizer, parameters, 0, 2);
    const state = optimizer.state();
    const middle = parameters.map((x) => cast(x.detach(), 'f64'));
    const shapes = Object.fromEntries(Object.entries(state.tensors).map(([key, { shape }]) => [key, shape]));
    const own = 'beta1' in options ? { '0.firstMoment': [7, 5], '1.firstMoment': [2, 3, 4, 6], '2.firstMoment': [11] } : {};
    t.deepEqual(shapes, {
      '0.rowSecondMoment': [7],
      '0.columnSecondMoment': [5],
      '1.rowSecondMoment': [2, 3, 4],
      '1.columnSecondMoment': [2, 3, 6],
      '2.secondMoment': [11],
      ...own,
    });
    stepsOf(optimizer, parameters, 2, 4);
    const again = middle.map((x) => trained(cast(x, 'f32')));
    const second = new Adafactor(again, options);
    second.loadState({ ...JSON.parse(JSON.stringify({ ...state, tensors: {} })), tensors: state.tensors });
    stepsOf(second, again, 2, 4);
    for (const [i, x] of parameters.entries()) t.true(sameBits(numbers(x), numbers(again[i] as Tensor)));
  }
});

test('a clip scale is a factor of the gradients, and the bits do not depend on threads', (t) => {
  const run = (scale: number, threads: number): Float32Array[] =>
    withThreads(threads, () => {
      const parameters = [...start(), trained(normal([300, 400], { seed: 9 }))];
      const optimizer = new Adafactor(parameters, { learningRate: 0.1 });
      for (let step = 0; step < 2; step++) {
        for (const [i, x] of parameters.entries()) {
          const gradient = normal(x.shape, { seed: 50 + i, stream: step });
          x.setGrad(scale === 1 ? mul(gradient, 0.25) : gradient);
        }
        optimizer.step(scale === 1 ? {} : { clipScale: full([], scale) });
      }
      return parameters.map(numbers);
    });
  const [scaled, given, threaded] = [run(1, 1), run(0.25, 1), run(0.25, 2)];
  for (const [i, values] of scaled.entries()) {
    t.true(sameBits(values, given[i] as Float32Array));
    t.true(sameBits(values, threaded[i] as Float32Array));
  }
});

test('16-bit parameters keep f32 states, f64 ones f64, and zeros learn by the least scale', (t) => {
  for (const [dtype, own] of [
    ['bf16', 'f32'],
    ['f64', 'f64'],
  ] as const) {
    const x = trained(ones([2, 2], { dtype }));
    const optimizer = new Adafactor([x], { learningRate: 0.125 });
    x.setGrad(tensor([1, -1, -1, 1], { shape: [2, 2], dtype }));
    optimizer.step();
    t.deepEqual([...numbers(x)], [0.875, 1.125, 1.125, 0.875]);
    t.true(Object.values(optimizer.state().tensors).every((state) => state.dtype === own));
  }
  const x = trained(zeros([2, 2]));
  const optimizer = new Adafactor([x], { learningRate: 1, scaleParameter: true, eps: [1e-30, 0.25] });
  x.setGrad(tensor([1, -1, -1, 1], { shape: [2, 2] }));
  optimizer.step();
  t.deepEqual([...numbers(x)], [-0.25, 0.25, 0.25, -0.25]);
});

test('settings that cannot be are refused', (t) => {
  const refused: [AdafactorOptions, RegExp][] = [
    [{ learningRate: -1 }, /learningRate of group 0 is out of range; got -1/],
    [{ eps: [-1, 0] }, /eps\[0\]/],
    [{ eps: [0, 1e-3] }, /eps\[0\] of group 0 cannot be used; got 0, expected a number above 0/],
    [{ beta1: 1 }, /beta1 of group 0/],
    [{ decayRate: 0.8 }, /decayRate of group 0 cannot be used; got 0.8, expected a number below 0/],
    [{ clipThreshold: 0 }, /clipThreshold .*got 0/],
    [{ warmupInit: true }, /warmupInit .*expected false without relativeStep/],
  ];
  for (const [options, message] of refused)
    t.throws(() => new Adafactor([trained(ones([2]))], options), { code: 'invalid-argument', message });
});

test('a gradient of zeros leaves a parameter as it is', (t) => {
  const x = trained(ones([2, 2]));
  const optimizer = new Adafactor([x], { eps: [1e-45, 0] });
  x.setGrad(zeros([2, 2]));
  optimizer.step();
  t.deepEqual([...numbers(x)], [1, 1, 1, 1]);
});
