import test from 'ava';
import { memory, synchronize, type Tensor } from 'lorikeet';
import { add, mul, square, sum, tensor } from 'lorikeet/ops';
import { Adafactor, AdamW, AdamW8bit, Lion, SGD } from 'lorikeet/optim';
import { settledTensors } from '../helpers/settled-bytes.js';
import { worstError } from '../helpers/values.js';

// Alone in its file, so that the count of tensors is its own.

/** Enough elements for packed states. */
const kSize = 4500;

// Lion moves by the rate in every step, so that it circles the minimum by some of its last ones.
for (const [name, tolerance, make] of [
  ['AdamW', 1e-2, (x: Tensor) => new AdamW([x], { learningRate: 0.1, weightDecay: 0 })],
  ['AdamW8bit', 1e-2, (x: Tensor) => new AdamW8bit([x], { learningRate: 0.1, weightDecay: 0 })],
  ['Lion', 5e-2, (x: Tensor) => new Lion([x], { learningRate: 0.03, betas: [0.9, 0.9] })],
  ['Adafactor', 1e-2, (x: Tensor) => new Adafactor([x], { learningRate: 0.1, beta1: 0.9 })],
  ['SGD', 1e-2, (x: Tensor) => new SGD([x], { learningRate: 0.05, momentum: 0.9 })],
] as const) {
  test.serial(`${name} finds the minimum of a quadratic and leaks nothing`, async (t) => {
    const before = await settledTensors();
    const aims = Array.from({ length: kSize }, (_, i) => [1, -2, 3][i % 3] as number);
    const target = tensor(aims);
    const x = tensor(aims.map(() => 0)).setRequiresGrad(true);
    const optimizer = make(x);
    for (let step = 0; step < 300; step++) {
      const minus = mul(target, -1);
      const difference = add(x, minus);
      const squares = square(difference);
      const loss = sum(squares);
      loss.backward();
      optimizer.step({ rateFactor: 1 - step / 300 });
      optimizer.zeroGrad();
      for (const y of [minus, difference, squares, loss]) y.dispose();
    }
    t.true(worstError(x.dataSync() as Float32Array, aims) < tolerance);
    optimizer.dispose();
    x.dispose();
    target.dispose();
    await synchronize();
    t.is(memory().tensors, before);
  });
}
