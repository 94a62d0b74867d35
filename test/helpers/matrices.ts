import type { Tensor } from 'lorikeet';
import { loadSafetensors } from 'lorikeet/io';
import { qr } from 'lorikeet/linalg';
import { matmul, mul, normal, sub, tensor, transpose, unsqueeze } from 'lorikeet/ops';

/** The largest magnitude in x; infinite when a value is not a number. */
export async function largest(x: Tensor): Promise<number> {
  let found = 0;
  for (const value of (await x.data()) as Float64Array) found = Math.max(found, Math.abs(value));
  return Number.isNaN(found) ? Number.POSITIVE_INFINITY : found;
}

/** The largest difference of two tensors of one shape and dtype. */
export const apart = (a: Tensor, b: Tensor): Promise<number> => largest(sub(a, b));

export const identity = (n: number): number[][] =>
  Array.from({ length: n }, (_, i) => Array.from({ length: n }, (_, j) => (i === j ? 1 : 0)));

/** How far the columns of q [M, N] are from orthonormal. */
export const unorthogonal = (q: Tensor): Promise<number> =>
  apart(matmul(transpose(q), q), tensor(identity(q.shape[1] ?? 0), { dtype: q.dtype }));

/** u diag(s) vᵀ. */
export const rebuilt = (u: Tensor, s: Tensor, v: Tensor): Tensor => matmul(mul(u, unsqueeze(s, -2)), transpose(v));

/** A matrix [rows, columns] with these singular values and random singular vectors. */
export function withSpectrum(rows: number, columns: number, values: readonly number[], dtype: 'f32' | 'f64' = 'f32'): Tensor {
  const u = qr(normal([rows, values.length], { dtype, seed: 11 })).q;
  const v = qr(normal([columns, values.length], { dtype, seed: 12 })).q;
  return rebuilt(u, tensor([...values], { dtype }), v);
}

/** What scripts/golden/linalg.py recorded. */
export const goldenMatrices = (): Promise<Map<string, Tensor>> => loadSafetensors('test/golden/linalg.safetensors');
