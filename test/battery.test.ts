import test from 'ava';
import { customGrad, keep, type Tensor } from 'lorikeet';
import { add, mean, mul, ones, square } from 'lorikeet/ops';
import { checksFor, type Dense, type OpCase } from './helpers/battery.js';

// The battery itself: a sound case passes, and each kind of fault is found by the check that looks for it.

const sound: OpCase = {
  name: 'square',
  covers: [],
  inputs: [{ shape: [3, 4] }],
  run: (x) => square(x),
  reference: (x) => x.data.map((v) => v * v),
};

const faults = (opCase: OpCase): string[] =>
  Object.entries(checksFor(opCase))
    .filter(([, check]) => check() !== undefined)
    .map(([name]) => name);

test('a sound case passes', (t) => t.deepEqual(faults(sound), []));

test('wrong values are found', (t) => {
  t.true(faults({ ...sound, reference: (x: Dense) => x.data.map((v) => v * v * 1.001 + 0.05) }).includes('values'));
});

test('a wrong gradient is found', (t) => {
  const run = (x: Tensor): Tensor =>
    customGrad(
      [x],
      (v) => square(v),
      ([dy]) => [mul(dy as Tensor, x.detach())],
    )[0] as Tensor;
  t.true(faults({ ...sound, run }).includes('gradients'));
});

test('a row that depends on its batch is found', (t) => {
  const run = (x: Tensor): Tensor => add(square(x), mul(mean(x), 1e-12));
  t.true(faults({ ...sound, run, dtypes: ['f64'], tolerance: { f64: 1e-6 } }).includes('rows'));
});

test('a leak is found', (t) => {
  const run = (x: Tensor): Tensor => {
    keep(ones([1]));
    return square(x);
  };
  t.deepEqual(faults({ ...sound, run }), ['nothing leaks']);
});
