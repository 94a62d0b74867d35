import type { DType, Tensor } from 'lorikeet';
import { type LowRankFactors, narrow, type RowSegment, tensor, uniform } from 'lorikeet/ops';
import { numbers, random } from './products.js';

/** Random factors of one adapter; `extra` adds a bias, a dropout and so on. */
export function factors(k: number, n: number, rank: number, dtype: DType, extra: Partial<LowRankFactors> = {}): LowRankFactors {
  return {
    a: random([rank, k], dtype, 1 / Math.sqrt(k)),
    b: random([n, rank], dtype, 1 / Math.sqrt(rank)),
    scale: 0.5 + rank / 64,
    ...extra,
  };
}

/** The contribution of adapters on segments to y [M, N], in double: scale (drop(x) Aᵀ) Bᵀ + scale bias, written down one sum after the other. */
export function lowRankReference(x: Tensor, n: number, adapters: readonly LowRankFactors[], segments: readonly RowSegment[]): Float64Array {
  const k = x.shape.at(-1) ?? 0;
  const values = numbers(x);
  const y = new Float64Array((k === 0 ? 0 : values.length / k) * n);
  const localRows = adapters.map(() => 0);
  const read = adapters.map(({ a, b, bias }) => ({ a: numbers(a), b: numbers(b), bias: bias && numbers(bias) }));
  for (const segment of segments) {
    for (const index of segment.adapters) {
      const adapter = adapters[index] as LowRankFactors;
      const { a, b, bias } = read[index] as (typeof read)[number];
      const rank = adapter.a.shape[0] ?? 0;
      const p = adapter.dropout ?? 0;
      const first = localRows[index] ?? 0;
      const rows = segment.end - segment.start;
      localRows[index] = first + rows;
      const mask = numbers(uniform([(first + rows) * k], { seed: adapter.seed ?? 0, stream: adapter.stream ?? 0 }));
      for (let t = 0; t < rows; t++) {
        const row = segment.start + t;
        for (let j = 0; j < n; j++) y[row * n + j] = (y[row * n + j] ?? 0) + adapter.scale * (bias?.[j] ?? 0);
        for (let r = 0; r < rank; r++) {
          let z = 0;
          for (let c = 0; c < k; c++) {
            if ((mask[(first + t) * k + c] ?? 0) >= p) z += ((values[row * k + c] ?? 0) * (a[r * k + c] ?? 0)) / (1 - p);
          }
          for (let j = 0; j < n; j++) y[row * n + j] = (y[row * n + j] ?? 0) + adapter.scale * z * (b[j * rank + r] ?? 0);
        }
      }
    }
  }
  return y;
}

/** The same numbers in another dtype, as leaves of their own. */
export function copyOf(x: Tensor, dtype: DType): Tensor {
  return tensor(numbers(x), { shape: x.shape, dtype });
}

export function copyFactors(adapter: LowRankFactors, dtype: DType, trainable = false): LowRankFactors {
  const leaf = (x: Tensor): Tensor => copyOf(x, dtype).setRequiresGrad(trainable);
  const { a, b, bias, ...rest } = adapter;
  return { ...rest, a: leaf(a), b: leaf(b), ...(bias && { bias: leaf(bias) }) };
}

/** Rows [start, end) of a matrix as a leaf of their own. */
export function rowsOf(x: Tensor, start: number, end: number): Tensor {
  return copyOf(narrow(x, 0, start, end - start), x.dtype);
}
