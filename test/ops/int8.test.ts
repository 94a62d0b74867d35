import test from 'ava';
import { type DType, InvalidArgumentError, ShapeError, type Tensor } from 'lorikeet';
import {
  cast,
  contiguous,
  crossEntropy,
  linear,
  lowRankLinear,
  mul,
  narrow,
  type PackedWeight,
  packInt8,
  packQuantized,
  packWeight,
  quantizeInt8,
  quantizeNf4,
  sum,
  tensor,
} from 'lorikeet/ops';
import { factors, lowRankReference } from '../helpers/low-rank.js';
import { atEveryLevel, near, numbers, random, sameBits, withThreads } from '../helpers/products.js';

const group = 128;

/** Rows [m, k] in 8-bit integers, a scale for every group of columns, as floats again. */
function rounded(x: ArrayLike<number>, k: number): Float64Array {
  const out = new Float64Array(x.length);
  for (let row = 0; row < x.length; row += k) {
    for (let first = row; first < row + k; first += group) {
      const values = Array.from(x).slice(first, Math.min(first + group, row + k));
      const scale = Math.max(...values.map(Math.abs)) / 127;
      for (const [i, value] of values.entries()) out[first + i] = scale === 0 ? 0 : roundEven(value / scale) * scale;
    }
  }
  return out;
}

function roundEven(value: number): number {
  const low = Math.floor(value);
  if (value - low !== 0.5) return Math.round(value);
  return low % 2 === 0 ? low : low + 1;
}

/** x [m, k] times w [n, k] transposed. */
function product(x: ArrayLike<number>, w: ArrayLike<number>, m: number, n: number, k: number): Float64Array {
  return Float64Array.from({ length: m * n }, (_, at) => {
    const [i, j] = [Math.floor(at / n), at % n];
    let total = 0;
    for (let c = 0; c < k; c++) total += (x[i * k + c] ?? 0) * (w[j * k + c] ?? 0);
    return total;
  });
}

const transposed = (w: ArrayLike<number>, n: number, k: number): Float64Array =>
  Float64Array.from({ length: n * k }, (_, at) => w[(at % n) * k + Math.floor(at / n)] ?? 0);

/** y = x wᵀ, and the gradient of x for dy. */
function bothWays(x: Tensor, weight: PackedWeight, dy: Tensor): [Tensor, Tensor] {
  const leaf = x.detach().setRequiresGrad(true);
  const y = linear(leaf, weight);
  sum(mul(y, dy)).backward();
  return [y, leaf.grad as Tensor];
}

test('y and dx are products of rounded rows with the codes of quantizeInt8', (t) => {
  atEveryLevel(t, (level) => {
    for (const dtype of ['f32', 'bf16', 'f16'] as const) {
      for (const [m, n, k] of [
        [1, 3, 5],
        [14, 67, 131],
        [3, 130, 256],
      ] as const) {
        const [x, w, dy] = [random([m, k], dtype), random([n, k], dtype), random([m, n], dtype)];
        using weight = packInt8(w);
        const values = numbers(packQuantized(quantizeInt8(w), 'f32').unpack());
        const scales = numbers(quantizeInt8(w).scales);
        const [y, dx] = bothWays(x, weight, dy);
        t.is(y.dtype, dtype);
        const tolerance = { f32: 1e-5, bf16: 8e-3, f16: 1e-3 }[dtype];
        const what = `${level} ${dtype} ${m}x${n}x${k}`;
        near(t, numbers(y), product(rounded(numbers(x), k), values, m, n, k), tolerance, `y ${what}`);
        // The scales of the weight's rows are folded into dy before it is rounded.
        const scaled = numbers(dy).map((value, i) => (value * (scales[i % n] ?? 0)) / 127);
        const codes = values.map((value, i) => (value * 127) / (scales[Math.floor(i / k)] ?? 1));
        near(t, numbers(dx), product(rounded(scaled, n), transposed(codes, n, k), m, k, n), tolerance, `dx ${what}`);
      }
    }
  });
});

test('adapters are added unrounded, on their segments, and take part in gradients', (t) => {
  const [m, n, k] = [19, 40, 150];
  atEveryLevel(t, (level) => {
    for (const dtype of ['f32', 'bf16'] as const) {
      const x = random([m, k], dtype);
      using weight = packInt8(random([n, k], dtype));
      const adapters = [factors(k, n, 8, 'f32'), factors(k, n, 3, 'f32', { dropout: 0.3, seed: 2 })];
      const segments = [
        { start: 2, end: 9, adapters: [0] },
        { start: 9, end: 18, adapters: [1, 0] },
      ];
      const base = numbers(linear(x, weight));
      const expected = lowRankReference(x, n, adapters, segments).map((value, i) => value + (base[i] ?? 0));
      near(t, numbers(lowRankLinear(x, weight, { adapters, segments })), expected, dtype === 'f32' ? 1e-5 : 1.6e-2, `${level} ${dtype}`);
      const bias = random([n], dtype);
      const biased = numbers(bias);
      near(
        t,
        numbers(linear(x, weight, bias)),
        base.map((value, i) => value + (biased[i % n] ?? 0)),
        dtype === 'f32' ? 1e-5 : 1e-2,
        `${level} ${dtype} bias`,
      );
    }
  });
});

test('a row has the same bits alone, from a strided view, and with any number of threads', (t) => {
  const [m, n, k] = [70, 96, 200];
  for (const dtype of ['f32', 'bf16'] as const) {
    const [x, dy] = [random([m, k], dtype), random([m, n], dtype)];
    using weight = packInt8(random([n, k], dtype));
    const [y, dx] = withThreads(2, () => bothWays(x, weight, dy));
    const [y1, dx1] = withThreads(1, () => bothWays(x, weight, dy));
    t.true(sameBits(y1, y), 'one thread');
    t.true(sameBits(dx1, dx), 'one thread, gradient');
    const [alone, aloneDx] = bothWays(narrow(x, 0, 33, 1), weight, narrow(dy, 0, 33, 1));
    t.true(sameBits(alone, narrow(y, 0, 33, 1)), 'alone');
    t.true(sameBits(aloneDx, narrow(dx, 0, 33, 1)), 'alone, gradient');
    const wide = random([m, 2 * k], dtype);
    t.true(sameBits(linear(narrow(wide, 1, k, k), weight), linear(contiguous(narrow(wide, 1, k, k)), weight)), 'view');
  }
});

test('what is packed: codes of an int8 weight as they are, values of others', (t) => {
  const w = random([33, 70], 'bf16');
  using direct = packInt8(w);
  using codes = packQuantized(quantizeInt8(w), 'bf16');
  using same = packInt8(codes);
  using panels = packInt8(packWeight(w));
  for (const weight of [same, panels]) t.true(sameBits(weight.unpack(), direct.unpack()), 'unpacked');
  t.true(sameBits(direct.unpack(), codes.unpack()), 'values of quantizeInt8');
  t.deepEqual([direct.layout, direct.quantization, direct.dtype, direct.shape], ['int8', 'int8', 'bf16', [33, 70]]);
  using nf4 = packQuantized(quantizeNf4(w), 'bf16');
  using fromNf4 = packInt8(nf4);
  using expected = packQuantized(quantizeInt8(packQuantized(quantizeNf4(w), 'f32').unpack()), 'bf16');
  t.true(sameBits(fromNf4.unpack(), expected.unpack()), 'values of nf4');
  using again = packInt8(direct);
  t.true(sameBits(again.unpack(), direct.unpack()), 'packed twice');
});

test('both layouts together take the bytes of one in bf16', (t) => {
  const w = random([1024, 1024], 'bf16');
  using weight = packInt8(w);
  using floats = packWeight(w);
  t.true(weight.bytes < 0.54 * floats.bytes, `${weight.bytes} of ${floats.bytes}`);
  bothWays(random([2, 1024], 'bf16'), weight, random([2, 1024], 'bf16'));
  t.true(weight.bytes < 1.08 * floats.bytes, `${weight.bytes} of ${floats.bytes}`);
});

test('a head in 8-bit integers gives a loss and its gradient', (t) => {
  const head = random([50, 64], 'f32', 0.2);
  const targets = tensor([3, 49, 0], { dtype: 'i64' });
  const x = random([3, 64]);
  const lossOf = (weight: PackedWeight): [Float64Array, Float64Array] => {
    const leaf = x.detach().setRequiresGrad(true);
    const losses = crossEntropy(leaf, weight, targets);
    sum(losses).backward();
    return [numbers(losses), numbers(leaf.grad as Tensor)];
  };
  using weight = packInt8(head);
  using floats = packWeight(head);
  const [got, expected] = [lossOf(weight), lossOf(floats)];
  near(t, got[0], expected[0], 0.02, 'loss');
  near(t, got[1], expected[1], 0.03, 'gradient');
});

test('what cannot be packed is refused', (t) => {
  t.throws(() => packInt8(random([4])), {
    instanceOf: ShapeError,
    message: /packInt8: a weight has two dimensions \[outputs, inputs\]; got \[4\]/,
  });
  for (const dtype of ['f64', 'i32'] as const satisfies DType[])
    t.throws(() => packInt8(cast(random([2, 4]), dtype)), {
      instanceOf: InvalidArgumentError,
      message: `packInt8: weights of this dtype are not multiplied in 8 bits; got ${dtype}, expected f32, bf16 or f16`,
    });
  using weight = packInt8(random([4, 8]));
  t.throws(() => weight.rows(0, 1), { message: /unpackRows: needs a weight in blocks; got layout int8/ });
  t.throws(() => linear(random([2, 8], 'f64'), weight), { message: /dtypes do not fit; got x f64 and weight f32/ });
  t.throws(() => linear(random([2, 7]), weight), { instanceOf: ShapeError });
});
