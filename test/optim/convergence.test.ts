import test from 'ava';
import { memory, synchronize } from 'lorikeet';
import { add, mul, square, sum, tensor } from 'lorikeet/ops';
import { AdamW } from 'lorikeet/optim';
import { worstError } from '../helpers/values.js';

// Alone in its file, so that the count of tensors is its own.

test('it finds the minimum of a quadratic and leaks nothing', async (t) => {
  const before = memory().tensors;
  const target = tensor([1, -2, 3]);
  const x = tensor([0, 0, 0]).setRequiresGrad(true);
  const optimizer = new AdamW([x], { learningRate: 0.1, weightDecay: 0 });
  for (let step = 0; step < 300; step++) {
    const minus = mul(target, -1);
    const difference = add(x, minus);
    const squares = square(difference);
    const loss = sum(squares);
    loss.backward();
    optimizer.step();
    optimizer.zeroGrad();
    for (const y of [minus, difference, squares, loss]) y.dispose();
  }
  t.true(worstError(x.dataSync() as Float32Array, [1, -2, 3]) < 1e-2);
  optimizer.dispose();
  x.dispose();
  target.dispose();
  await synchronize();
  t.is(memory().tensors, before);
});
