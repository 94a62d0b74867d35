import test from 'ava';
import { layerNorm, ones, rmsNorm, tensor } from 'lorikeet/ops';
import { battery } from '../helpers/battery.js';
import { cases } from './norm.cases.js';

battery(test, cases);

test('rmsNorm rounds before the weight, as published models are evaluated', async (t) => {
  // x = [1, 3], mean of squares 5: x / sqrt(5) = 0.447213..., which is 0.447265625 in bf16; times 3 = 1.341796875, in bf16 1.34375.
  const y = rmsNorm(tensor([1, 3], { dtype: 'bf16' }), tensor([3, 1], { dtype: 'bf16' }), 0);
  t.is((await y.data())[0], 1.34375);
});

test('norms name what does not fit', (t) => {
  t.throws(() => rmsNorm(ones([2, 4]), ones([3])), { message: /rmsNorm: the weight does not fit; got x \[2, 4\] and weight \[3\]/ });
  t.throws(() => rmsNorm(ones([2, 4]), ones([4], { dtype: 'f64' })), {
    message: /rmsNorm: the weight must have x's dtype or be f32; got x f32 and weight f64/,
  });
  t.throws(() => layerNorm(ones([2, 4]), ones([4]), ones([5])), { message: /layerNorm: the bias does not fit/ });
  t.throws(() => layerNorm(ones([2], { dtype: 'i64' })), { message: /layerNorm: needs a floating tensor; got i64/ });
});
