// Matrix products: a frozen weight in its packed layout against the same product from plain tensors, against OpenBLAS and oneDNN where they are installed and,
// with --peer, against PyTorch. Small products are timed in queues of several, as a model queues them, and so are those of the libraries, which run just before and
// after ours.
// npm run bench -- gemm [--shapes 512x4096x4096,...] [--dtype f32,bf16] [--threads N] [--peer PYTHON] [--json]
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { type DType, scope, setThreads, type Tensor, threads } from 'lorikeet';
import { linear, matmul, normal, packWeight, transpose } from 'lorikeet/ops';
import { interleaved } from './cases.js';
import { gigaflops, rounded, type Suite } from './harness.js';
import { libraryRows } from './roofline/libraries.js';
import { calibrate, peakFlops, percentOf, rooflineOf } from './roofline/roofline.js';

/** Rows x output features x input features: decode, and the layers of SmolLM2-135M, Qwen2.5-0.5B and a 7B model. */
const defaultShapes = '1x4096x4096,128x768x768,1024x576x576,1024x1536x576,1024x4864x896,512x4096x4096';

/** Products in one timed run: enough for 16 GFLOP, at most 128, so that the wait for JavaScript at the ends of the queue does not count. */
const callsOf = (flops: number): number => Math.min(128, Math.max(1, Math.round(16e9 / flops)));

interface Row {
  readonly shape: string;
  readonly dtype: string;
  /** Products queued in one timed run; times are of one product. */
  readonly calls: number;
  readonly ms: number;
  readonly ms_min: number;
  readonly gflops: number;
  readonly gflops_best: number;
  /** Of the milliseconds that arithmetic peak and memory bandwidth allow, the larger. */
  readonly percent_of_roofline: number;
  readonly percent_at_best: number;
  readonly matmul_ms: number;
  readonly ratio_matmul: number;
  readonly ratio_min_matmul: number;
  readonly openblas_ms?: number;
  readonly ratio_openblas?: number;
  readonly onednn_ms?: number;
  readonly ratio_onednn?: number;
  readonly torch_ms?: number;
  readonly ratio_torch?: number;
}

const mean = (values: readonly number[]): number | undefined =>
  values.length === 0 ? undefined : values.reduce((sum, value) => sum + value, 0) / values.length;

interface PeerRow {
  readonly shape: string;
  readonly dtype: string;
  readonly ms: number;
}

function peerRows(python: string, shapes: readonly string[], dtypes: readonly string[]): readonly PeerRow[] {
  const script = join('bench', 'peers', 'gemm.py');
  const text = execFileSync(python, [script, '--shapes', shapes.join(), '--dtype', dtypes.join(), '--threads', String(threads())], {
    encoding: 'utf8',
  });
  return JSON.parse(text.trim().split('\n').at(-1) ?? '[]') as PeerRow[];
}

export const suite: Suite = {
  description: 'matrix products with packed frozen weights',
  async run(args, report) {
    const { values } = parseArgs({
      args: [...args],
      options: {
        shapes: { type: 'string', default: defaultShapes },
        dtype: { type: 'string', default: 'f32,bf16' },
        threads: { type: 'string' },
        peer: { type: 'string' },
      },
    });
    if (values.threads !== undefined) setThreads(Number(values.threads));
    const shapes = values.shapes.split(',');
    const dtypes = values.dtype.split(',');
    const figures = calibrate(report);
    const peers = values.peer === undefined ? [] : peerRows(values.peer, shapes, dtypes);
    const rows: Row[] = [];
    for (const dtype of dtypes) {
      for (const shape of shapes) {
        const [m = 0, n = 0, k = 0] = shape.split('x').map(Number);
        await scope(async () => {
          const x = normal([m, k], { dtype: dtype as DType, seed: 1 });
          const dense = normal([n, k], { dtype: dtype as DType, seed: 2 });
          const weight = packWeight(dense);
          const flops = 2 * m * n * k;
          const calls = callsOf(flops);
          // Each result goes as soon as it is there, so that the next product writes where the last one did, as those of the libraries do.
          const queued = (run: () => Tensor) => () => {
            for (let call = 0; call < calls; call++) run().dispose();
          };
          const before = libraryRows(shape, dtype, rows.length === 0 ? report : undefined);
          const timings = await interleaved([queued(() => linear(x, weight)), queued(() => matmul(x, transpose(dense, 0, 1)))]);
          const [packed, plain] = timings.map(({ p50, min }) => ({ p50: p50 / calls, min: min / calls }));
          const libraries = [...before, ...libraryRows(shape, dtype)];
          weight.dispose();
          if (packed === undefined || plain === undefined) throw new Error('bench: nothing was measured');
          const peer = peers.find((row) => row.shape === shape && row.dtype === dtype);
          const ofLibrary = (library: string) => mean(libraries.filter((row) => row.library === library).map((row) => row.ms));
          const [openblas, onednn] = [ofLibrary('OpenBLAS'), ofLibrary('oneDNN')];
          const bytes = (dtype === 'bf16' ? 2 : 4) * (m * k + n * k + m * n);
          const floor = Math.max(flops / peakFlops(figures, dtype), bytes / rooflineOf(figures).gigabytesPerSecond) / 1e6;
          rows.push({
            shape,
            dtype,
            calls,
            ms: rounded(packed.p50, 3),
            ms_min: rounded(packed.min, 3),
            gflops: gigaflops(flops, packed.p50),
            gflops_best: gigaflops(flops, packed.min),
            percent_of_roofline: percentOf(floor, packed.p50),
            percent_at_best: percentOf(floor, packed.min),
            matmul_ms: rounded(plain.p50, 3),
            ratio_matmul: rounded(plain.p50 / packed.p50),
            ratio_min_matmul: rounded(plain.min / packed.min),
            ...(openblas !== undefined && { openblas_ms: rounded(openblas, 3), ratio_openblas: rounded(openblas / packed.p50) }),
            ...(onednn !== undefined && { onednn_ms: rounded(onednn, 3), ratio_onednn: rounded(onednn / packed.p50) }),
            ...(peer && { torch_ms: rounded(peer.ms, 3), ratio_torch: rounded(peer.ms / packed.p50) }),
          });
        });
      }
    }
    report.line(
      'ratio: time of the other / time of the packed linear, medians; ratio_min_matmul: fastest runs. Above 1 the packed linear is faster',
    );
    report.table(rows.map((row) => ({ ...row })));
    return { roofline: figures, rows };
  },
};
