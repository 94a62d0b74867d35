import test from 'ava';
import type { Tensor } from 'lorikeet';
import { ones, sum, swiGlu, tensor } from 'lorikeet/ops';
import { battery } from '../helpers/battery.js';
import { cases } from './activation.cases.js';

battery(test, cases);

test('large gates neither overflow nor vanish', async (t) => {
  const gate = tensor([-1000, -80, 80, 1000]).setRequiresGrad(true);
  const y = swiGlu(gate, ones([4]));
  // -80 / (1 + e^80) = -1.4438e-33
  const values = Array.from((await y.data()) as Float32Array);
  t.true(Object.is(values[0], -0) || values[0] === 0);
  t.true(Math.abs((values[1] as number) / -1.4438e-33 - 1) < 1e-3);
  t.deepEqual(values.slice(2), [80, 1000]);
  sum(y).backward();
  t.true(Array.from((await (gate.grad as Tensor).data()) as Float32Array).every(Number.isFinite));
});

test('errors', (t) => {
  t.throws(() => swiGlu(ones([2, 3]), ones([3, 2])), { message: /swiGlu: shapes differ; got gate \[2, 3\] and up \[3, 2\]/ });
  t.throws(() => swiGlu(ones([2]), ones([2], { dtype: 'f64' })), {
    message: /swiGlu: needs two floating tensors of one dtype; got f32 and f64/,
  });
});
