// Weights of one bit a value: products against frozen bf16 and f32 weights in the same run, and how fast values become codes and codes values.
// npm run bench -- sign [--shapes 2048x2048,...] [--rows 1,4,512] [--dtype bf16,f32] [--bits 1,2,4,8] [--size 8388608] [--threads N] [--json]
import { parseArgs } from 'node:util';
import { type DType, scope, setThreads, synchronize, type Tensor } from 'lorikeet';
import { add, fakeQuantize, linear, normal, packSigns, packWeight, type SignBits, signQuantize, signUnpack } from 'lorikeet/ops';
import { gigabytes, measure, rounded, type Suite } from './harness.js';

interface ProductRow {
  readonly shape: string;
  readonly rows: number;
  readonly dtype: string;
  readonly ms: number;
  readonly dense_ms: number;
  /** Speed of one bit / speed of the dense weight, fastest runs. */
  readonly speedup: number;
  /** The same of dx = dy W alone (with its forward). */
  readonly speedup_training: number;
}

const finished = async (make: () => Tensor | readonly Tensor[]): Promise<void> => {
  const made = make();
  await synchronize();
  for (const x of Array.isArray(made) ? made : [made]) (x as Tensor).dispose();
};

const trained = async (x: Tensor, weight: ReturnType<typeof packWeight>, dy: Tensor): Promise<void> => {
  scope(() => linear(x, weight).backward(dy));
  await synchronize();
  x.clearGrad();
};

async function productRow(dtype: DType, m: number, n: number, k: number): Promise<ProductRow> {
  using values = normal([n, k], { seed: 2, std: 0.02 });
  using bits = scope(() => packSigns(signQuantize(values), dtype));
  using dense = scope(() => packWeight(bits.unpack()));
  using x = normal([m, k], { dtype, seed: 1 });
  using leaf = normal([m, k], { dtype, seed: 1 }).setRequiresGrad(true);
  using dy = normal([m, n], { dtype, seed: 3 });
  const [sign, plain, signTrained, plainTrained] = await measure([
    { name: 'one bit', run: () => finished(() => linear(x, bits)) },
    { name: 'dense', run: () => finished(() => linear(x, dense)) },
    { name: 'one bit, with dx', run: () => trained(leaf, bits, dy) },
    { name: 'dense, with dx', run: () => trained(leaf, dense, dy) },
  ]);
  if (!sign || !plain || !signTrained || !plainTrained) throw new Error('bench: nothing was measured');
  return {
    shape: `${n}x${k}`,
    rows: m,
    dtype,
    ms: rounded(sign.min, 3),
    dense_ms: rounded(plain.min, 3),
    speedup: rounded(plain.min / sign.min),
    speedup_training: rounded(plainTrained.min / signTrained.min),
  };
}

interface CodeRow {
  readonly bits: number;
  /** GB/s of values read, twice each (moments, codes), and codes written. */
  readonly pack_gbs: number;
  /** GB/s of codes read and values written. */
  readonly unpack_gbs: number;
  readonly fake_quantize_gbs: number;
  /** GB/s of reading and writing values, for comparison. */
  readonly memory_gbs: number;
}

async function codeRow(bits: SignBits, size: number): Promise<CodeRow> {
  using w = normal([size / 1024, 1024], { seed: 4 });
  const packed = signQuantize(w, { bits });
  const [pack, unpack, fake, copy] = await measure([
    {
      name: 'pack',
      run: () =>
        finished(() => {
          const { codes, meta } = signQuantize(w, { bits });
          return [codes, meta];
        }),
    },
    { name: 'unpack', run: () => finished(() => signUnpack(packed)) },
    { name: 'fakeQuantize', run: () => finished(() => fakeQuantize(w, { bits })) },
    { name: 'add', run: () => finished(() => add(w, 1)) },
  ]);
  packed.codes.dispose();
  packed.meta.dispose();
  if (!pack || !unpack || !fake || !copy) throw new Error('bench: nothing was measured');
  const codes = (size * bits) / 8;
  return {
    bits,
    pack_gbs: gigabytes(8 * size + codes, pack.min),
    unpack_gbs: gigabytes(4 * size + codes, unpack.min),
    fake_quantize_gbs: gigabytes(12 * size, fake.min),
    memory_gbs: gigabytes(8 * size, copy.min),
  };
}

export const suite: Suite = {
  description: 'weights of 1 to 8 bits by the code book of a normal distribution',
  async run(args, report) {
    const { values } = parseArgs({
      args: [...args],
      options: {
        shapes: { type: 'string', default: '768x768,2048x2048,8192x2048' },
        rows: { type: 'string', default: '1,4,512' },
        dtype: { type: 'string', default: 'bf16,f32' },
        bits: { type: 'string', default: '1,2,4,8' },
        size: { type: 'string', default: String(1 << 23) },
        threads: { type: 'string' },
      },
    });
    if (values.threads !== undefined) setThreads(Number(values.threads));
    const list = (text: string): string[] => text.split(',').filter((entry) => entry !== '');
    const products: ProductRow[] = [];
    for (const dtype of list(values.dtype) as DType[])
      for (const shape of list(values.shapes))
        for (const m of list(values.rows).map(Number)) {
          const [n = 0, k = 0] = shape.split('x').map(Number);
          products.push(await productRow(dtype, m, n, k));
        }
    const codes: CodeRow[] = [];
    for (const bits of list(values.bits).map(Number) as SignBits[]) codes.push(await codeRow(bits, Number(values.size)));
    report.line('speedup: time of the dense weight of that dtype / time of one bit, fastest runs; _training: forward and dx');
    report.table(products.map((row) => ({ ...row })));
    report.table(codes.map((row) => ({ ...row })));
    return { products, codes };
  },
};
