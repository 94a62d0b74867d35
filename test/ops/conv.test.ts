import test from 'ava';
import { scope, type Tensor } from 'lorikeet';
import { conv1d, conv2d, normal, ones } from 'lorikeet/ops';
import { battery } from '../helpers/battery.js';
import { withThreads } from '../helpers/engine.js';
import { sameBits } from '../helpers/values.js';
import { cases } from './conv.cases.js';

battery(test, cases);

test('large convolutions have the same bits on one thread and on two, weight gradients over several stretches too', (t) => {
  const run = (): ArrayBufferView[] =>
    scope(() => {
      const make = (shape: number[], seed: number) => normal(shape, { seed }).setRequiresGrad(true);
      const [x, weight, bias] = [make([2, 8, 52, 47], 1), make([40, 8, 3, 3], 2), make([40], 3)];
      const y = conv2d(x, weight, bias, { padding: 1 });
      y.backward(normal(y.shape, { seed: 4 }));
      return [y, x.grad, weight.grad, bias.grad].map((value) => value?.dataSync() as ArrayBufferView);
    });
  const [one, two] = [withThreads(1, run), withThreads(2, run)];
  for (const [i, bits] of one.entries()) t.true(sameBits(bits, two[i] as ArrayBufferView), String(i));
});

test('convolutions name what does not fit', (t) => {
  const x = ones([1, 4, 6, 6]);
  t.throws(() => conv2d(x, ones([2, 3, 3, 3])), {
    code: 'shape',
    message: /conv2d: the weight does not fit; got x \[1, 4, 6, 6\] and weight \[2, 3, 3, 3\]/,
  });
  t.throws(() => conv2d(ones([4, 6, 6]), ones([2, 4, 3, 3])), { code: 'shape', message: /conv2d: needs x \[B, C, H, W\]/ });
  t.throws(() => conv2d(x, ones([2, 4, 7, 3])), {
    code: 'shape',
    message: /kernel is larger than the padded input; got height 6 with padding 0 \+ 0 and kernel 7/,
  });
  t.throws(() => conv2d(x, ones([2, 4, 3, 3]), ones([3])), {
    code: 'shape',
    message: /conv2d: the bias does not fit; got \[3\], expected \[2\]/,
  });
  t.throws(() => conv2d(x, ones([3, 2, 3, 3]), undefined, { groups: 2 }), {
    code: 'invalid-argument',
    message: /groups must divide the channels/,
  });
  t.throws(() => conv2d(x, ones([2, 4, 3, 3], { dtype: 'f64' })), {
    code: 'invalid-argument',
    message: /dtypes do not fit; got x f32 and weight f64/,
  });
  t.throws(() => conv2d(x, ones([2, 4, 3, 3]), undefined, { stride: 0 }), { message: /stride must be two positive integers/ });
  t.throws(() => conv2d(x, ones([2, 4, 3, 3]), undefined, { padding: -1 }), { message: /padding must be four integers of at least 0/ });
  t.throws(() => conv2d(x, ones([2, 4, 3, 3]), undefined, { stride: 2, padding: 'same' }), {
    message: /padding "same" needs a stride of 1; got 2, 2/,
  });
  t.throws(() => conv1d(ones([4, 6]), ones([2, 4, 3])), { code: 'shape', message: /conv1d: needs x \[B, C, L\]; got \[4, 6\]/ });
  const line = (options: object, message: RegExp, weight = ones([4, 2, 3]), bias?: Tensor): void => {
    t.throws(() => conv1d(ones([1, 4, 6]), weight, bias, { groups: 2, ...options }), { message });
  };
  line({ groups: 3 }, /^conv1d: groups must divide the channels; got groups 3/);
  line({ groups: 1 }, /^conv1d: the weight does not fit; got x f32 \[1,4,6\] and weight f32 \[4,2,3\]/);
  line({}, /^conv1d: the bias does not fit/, undefined, ones([3]));
  line({}, /^conv1d: dtypes do not fit/, ones([4, 2, 3], { dtype: 'f64' }));
  line({ dilation: 3 }, /^conv1d: the kernel is larger than the padded input/);
  line({ stride: 0 }, /^conv1d: stride must be a positive integer; got 0/);
  line({ padding: -1 }, /^conv1d: padding must be an integer/);
  line({ padding: 'same', stride: 2 }, /^conv1d: padding "same" needs a stride of 1; got 2/);
});

test('a dilation whose product with the kernel no integer holds is refused', (t) => {
  const x = ones([1, 2, 4, 4]);
  for (const [taps, dilation] of [
    [4097, 2 ** 52],
    [2049, 2 ** 53 - 1],
  ] as const) {
    const refused = { code: 'shape', message: /the kernel is larger than the padded input; got width 4 / };
    t.throws(() => conv2d(x, ones([2, 1, 1, taps]), undefined, { dilation: [1, dilation], groups: 2 }), refused);
    t.throws(() => conv2d(x, ones([2, 2, 1, taps]), undefined, { dilation: [1, dilation] }), refused);
    t.throws(() => conv2d(x, ones([2, 1, 1, taps]), undefined, { dilation: [1, dilation], groups: 2, padding: 'same' }));
  }
  t.deepEqual(conv2d(x, ones([2, 1, 1, 1]), undefined, { dilation: 2 ** 53 - 1, groups: 2 }).shape, [1, 2, 4, 4]);
});
