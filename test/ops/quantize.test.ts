import test, { type ExecutionContext } from 'ava';
import { type DType, InvalidArgumentError, memory, ShapeError, scope, synchronize, type Tensor } from 'lorikeet';
import {
  cast,
  contiguous,
  crossEntropy,
  dequantize,
  embedding,
  linear,
  lowRankLinear,
  narrow,
  normal,
  type PackedWeight,
  packQuantized,
  packWeight,
  quantizeInt8,
  quantizeNf4,
  tensor,
} from 'lorikeet/ops';
import { goldenFolder, readJson } from '../helpers/folders.js';
import { distance, numbers } from '../helpers/numbers.js';
import { atEveryLevel, sameBits } from '../helpers/products.js';
import { settledBytes } from '../helpers/settled-bytes.js';

interface Case {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: number[];
  readonly blockSize: number;
  readonly x: string;
  readonly codes: string;
  readonly scales: string;
  readonly scaleCodes: string;
  readonly scaleOffset: string;
  readonly values: string;
}

const golden = readJson<{ nf4: Case[]; double: Case[]; int8: Case[] }>(goldenFolder, 'quantize.json');

const bytesOf = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text, 'base64'));
const floatsOf = (text: string): Float32Array => new Float32Array(bytesOf(text).buffer);

/** The stored values as f32 numbers. */
function valuesOf(text: string, dtype: DType): Float32Array {
  if (dtype === 'f32') return floatsOf(text);
  return Float32Array.from(new Uint16Array(bytesOf(text).buffer), dtype === 'bf16' ? fromBf16 : fromHalf);
}

const fromBf16 = (bits: number): number => new Float32Array(Uint32Array.of(bits << 16).buffer)[0] as number;

function fromHalf(bits: number): number {
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  const size = exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15);
  return bits & 0x8000 ? -size : size;
}

const inputOf = ({ x, dtype, shape }: Case): Tensor => cast(tensor(valuesOf(x, dtype), { shape }), dtype);
/** Equal to the last bit but for the sign of zero. */
async function same(t: ExecutionContext, x: Tensor, expected: ArrayLike<number>, what: string): Promise<void> {
  t.is(distance(await numbers(x), expected), 0, what);
}

test('nf4 has the codes, scales and values of bitsandbytes', async (t) => {
  for (const item of golden.nf4) {
    await scope(async () => {
      const x = quantizeNf4(inputOf(item), { blockSize: item.blockSize });
      await same(t, x.codes, bytesOf(item.codes), `${item.name}: codes`);
      await same(t, x.scales, floatsOf(item.scales), `${item.name}: scales`);
      await same(t, dequantize(x, item.dtype), valuesOf(item.values, item.dtype), `${item.name}: values`);
    });
  }
});

test('double quantisation has the codes, scales and values of bitsandbytes', async (t) => {
  for (const item of golden.double) {
    await scope(async () => {
      const x = quantizeNf4(inputOf(item), { blockSize: item.blockSize, doubleQuantization: true });
      await same(t, x.codes, bytesOf(item.codes), 'codes');
      await same(t, x.scaleCodes as Tensor, bytesOf(item.scaleCodes), 'codes of scales');
      await same(t, x.scales, floatsOf(item.scales), 'scales');
      await same(t, x.scaleOffset as Tensor, floatsOf(item.scaleOffset), 'offset');
      await same(t, dequantize(x, item.dtype), floatsOf(item.values), 'values');
    });
  }
});

test('int8 has the codes, scales and values of bitsandbytes', async (t) => {
  for (const item of golden.int8) {
    await scope(async () => {
      const x = quantizeInt8(inputOf(item));
      await same(t, x.codes, bytesOf(item.codes), 'codes');
      await same(t, x.scales, floatsOf(item.scales), 'scales');
      await same(t, dequantize(x), floatsOf(item.values), 'values');
    });
  }
});

const formats = {
  nf4: (x: Tensor) => quantizeNf4(x),
  double: (x: Tensor) => quantizeNf4(x, { doubleQuantization: true }),
  int8: quantizeInt8,
};

/** Outputs, gradients and losses of products with a weight [70, 90]. */
function results(weight: PackedWeight, dtype: DType): Tensor[] {
  const x = normal([2, 21, 90], { seed: 2, dtype }).setRequiresGrad(true);
  const a = normal([3, 90], { seed: 3 }).setRequiresGrad(true);
  const b = normal([70, 3], { seed: 4 }).setRequiresGrad(true);
  const y = lowRankLinear(x, weight, { adapters: [{ a, b, scale: 2 }] });
  y.backward(normal(y.shape, { seed: 5, dtype }));
  const hidden = normal([40, 90], { seed: 6, dtype }).setRequiresGrad(true);
  const loss = crossEntropy(
    hidden,
    weight,
    tensor(
      Array.from({ length: 40 }, (_, i) => i),
      { dtype: 'i64' },
    ),
  );
  loss.backward();
  return [y, x.grad, a.grad, b.grad, linear(x, weight), loss, hidden.grad].map((value) => value as Tensor);
}

test('products, their gradients and the loss have the bits of dense weights with the same values', (t) => {
  for (const [name, quantize] of Object.entries(formats)) {
    for (const dtype of ['f32', 'bf16'] as const) {
      atEveryLevel(t, (level) => {
        using blocks = packQuantized(quantize(normal([70, 90], { seed: 1 })), dtype);
        using dense = packWeight(blocks.unpack());
        const expected = results(dense, dtype);
        for (const [i, got] of results(blocks, dtype).entries())
          t.true(sameBits(got, expected[i] as Tensor), `${name} ${dtype} ${level}: value ${i}`);
      });
    }
  }
});

test('a row has the same bits alone and in a batch', (t) => {
  scope(() => {
    using weight = packQuantized(quantizeNf4(normal([33, 70], { seed: 1 })));
    const x = normal([50, 70], { seed: 2 });
    const all = linear(x, weight);
    for (const row of [0, 17, 49]) t.true(sameBits(linear(narrow(x, 0, row, 1), weight), contiguous(narrow(all, 0, row, 1))), `row ${row}`);
  });
});

test('an embedding reads its rows from blocks', async (t) => {
  await scope(async () => {
    const table = packQuantized(quantizeInt8(normal([9, 70], { seed: 1 })), 'bf16');
    const values = await numbers(table.unpack());
    const ids = tensor([8, 0, 8], { dtype: 'i64' });
    t.deepEqual(
      await numbers(embedding(table, ids)),
      [8, 0, 8].flatMap((id) => values.slice(id * 70, (id + 1) * 70)),
    );
    await t.throwsAsync(embedding(table, tensor([9], { dtype: 'i64' })).data(), { message: /id 9 .* outside the vocabulary/ });
    table.dispose();
  });
});

test.serial('a weight takes the bytes of its blocks, and products take none beside them', async (t) => {
  const product = () =>
    scope(async () => {
      const x = normal([4, 512], { seed: 2 }).setRequiresGrad(true);
      using weight = packQuantized(quantizeNf4(normal([256, 512], { seed: 1 })));
      linear(x, weight).backward(normal([4, 256], { seed: 3 }));
      await synchronize();
      return memory().bytes;
    });
  await product(); // the scratch memory of products stays
  const before = await settledBytes();
  const weight = scope(() => packQuantized(quantizeNf4(normal([256, 512], { seed: 1 }))));
  await synchronize();
  const bytes = (256 * 512) / 2 + ((256 * 512) / 64) * 4;
  t.is(weight.bytes, bytes);
  t.is(weight.layout, 'blocks');
  t.is(memory().bytes - before, bytes);
  const shared = weight.share();
  weight.dispose();
  await synchronize();
  t.is(memory().bytes - before, bytes);
  shared.dispose();
  // The dense matrix of this product, its x, dx, y and dy, and some scratch memory; panels of it would be 512 KiB more.
  t.true((await product()) - before < bytes + (256 * 512 + 4 * 4 * 512) * 4 + 128 * 1024);
});

test('what cannot be quantised is refused', (t) => {
  scope(() => {
    const x = normal([4, 6]);
    t.throws(() => quantizeNf4(x, { blockSize: 48 }), {
      instanceOf: InvalidArgumentError,
      message: /blockSize must be a power of two from 32 to 4096; got 48/,
    });
    t.throws(() => quantizeNf4(tensor([1, 2], { dtype: 'i64' })), { message: /quantizeNf4: needs a floating tensor; got i64/ });
    t.throws(() => quantizeInt8(normal([4])), { instanceOf: ShapeError, message: /quantizeInt8: a weight has two dimensions/ });
    t.throws(() => packQuantized(quantizeNf4(normal([4]))), {
      message: /packQuantized: a weight has two dimensions \[outputs, inputs\]; got \[4\]/,
    });
    t.throws(() => packQuantized(quantizeInt8(x), 'f64'), { message: /computed in f32, bf16 or f16; got f64/ });
    t.throws(() => packQuantized({ ...quantizeInt8(x), shape: [4, 7] }), { message: /codes do not fit; got 24 of u8, expected 28 of u8/ });
    t.throws(() => packWeight(x).rows(0, 1), { message: /unpackRows: needs a weight in blocks; got layout retile/ });
    const weight = packQuantized(quantizeInt8(x));
    t.throws(() => weight.rows(3, 2), { message: /rows 3 to 5 are not in a weight of 4/ });
  });
});
