// Products with weights in blocks of few bits against the same products with dense panels, in the same run; and how fast blocks become floats.
// npm run bench -- quantize [--shapes 576x576,1536x576,...] [--rows 1,16,512,1024] [--formats nf4,int8,...] [--dtype bf16,f32] [--threads N] [--json]
import { parseArgs } from 'node:util';
import { type DType, scope, setThreads, synchronize, type Tensor } from 'lorikeet';
import { linear, normal, type PackedWeight, packQuantized, packWeight, quantizeInt8, quantizeNf4 } from 'lorikeet/ops';
import { measure, rounded, type Suite } from './harness.js';
import { randomBlocks } from './quantize/blocks.js';

/** Output features x input features: the layers of SmolLM2-135M. */
const defaultShapes = '576x576,1536x576,576x1536';

interface Row {
  readonly shape: string;
  readonly rows: number;
  readonly dtype: string;
  readonly format: string;
  readonly ms: number;
  readonly dense_ms: number;
  /** Time with blocks / time with dense panels, medians. */
  readonly ratio: number;
  /** The same of the fastest runs. */
  readonly ratio_best: number;
  /** Values made of blocks, counted as f32: GB a second in the fastest run. */
  readonly dequantize_gbs: number;
}

function weightOf(format: string, n: number, k: number, dtype: DType): PackedWeight {
  return scope(() => {
    const values = normal([n, k], { seed: 2 });
    if (format === 'int8') return packQuantized(quantizeInt8(values), dtype);
    if (format === 'nf4') return packQuantized(quantizeNf4(values), dtype);
    if (format === 'nf4-double') return packQuantized(quantizeNf4(values, { doubleQuantization: true }), dtype);
    return randomBlocks(format, n, k, dtype);
  });
}

const finished = async (make: () => Tensor): Promise<void> => {
  using _result = make();
  await synchronize();
};

async function rowOf(format: string, dtype: DType, m: number, n: number, k: number): Promise<Row> {
  using blocks = weightOf(format, n, k, dtype);
  using dense = scope(() => packWeight(blocks.unpack()));
  using x = normal([m, k], { dtype, seed: 1 });
  const [quantized, plain, made] = await measure([
    { name: `linear, ${format}`, run: () => finished(() => linear(x, blocks)) },
    { name: 'linear, dense', run: () => finished(() => linear(x, dense)) },
    { name: 'unpack', run: () => finished(() => blocks.unpack()) },
  ]);
  if (quantized === undefined || plain === undefined || made === undefined) throw new Error('bench: nothing was measured');
  return {
    shape: `${n}x${k}`,
    rows: m,
    dtype,
    format,
    ms: rounded(quantized.p50, 3),
    dense_ms: rounded(plain.p50, 3),
    ratio: rounded(quantized.p50 / plain.p50),
    ratio_best: rounded(quantized.min / plain.min),
    dequantize_gbs: rounded((n * k * 4) / made.min / 1e6),
  };
}

export const suite: Suite = {
  description: 'products with frozen weights in blocks of few bits',
  async run(args, report) {
    const { values } = parseArgs({
      args: [...args],
      options: {
        shapes: { type: 'string', default: defaultShapes },
        rows: { type: 'string', default: '1,16,512,1024' },
        formats: { type: 'string', default: 'nf4,int8,q4_1,q8_0,q4_k' },
        dtype: { type: 'string', default: 'bf16,f32' },
        threads: { type: 'string' },
      },
    });
    if (values.threads !== undefined) setThreads(Number(values.threads));
    const rows: Row[] = [];
    for (const dtype of values.dtype.split(',') as DType[]) {
      for (const format of values.formats.split(',')) {
        for (const shape of values.shapes.split(',')) {
          const [n = 0, k = 0] = shape.split('x').map(Number);
          if (format.endsWith('_k') && k % 256 !== 0) continue;
          for (const m of values.rows.split(',').map(Number)) rows.push(await rowOf(format, dtype, m, n, k));
        }
      }
    }
    report.line(
      'ratio: time with blocks / time with dense panels of the same dtype, medians and fastest runs; dequantize: f32 values a second',
    );
    report.table(rows.map((row) => ({ ...row })));
    return { rows };
  },
};
