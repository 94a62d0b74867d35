import { cubicKernel, filterRows } from '../filters.js';
import { tensor } from '../ops/create.js';
import { cast } from '../ops/elementwise.js';
import { concat } from '../ops/join.js';
import { matmul } from '../ops/linalg.js';
import { narrow, reshape } from '../ops/shape.js';
import type { Tensor } from '../tensor.js';

/**
 * How a grid of position embeddings is brought to another size: `linear` and `cubic` (a = -0.75) between the nearest places, as transformers does it; `smooth`,
 * cubic (a = -0.5) over a wider reach where the grid shrinks, as timm does it; `middle`: linear where the grid grows, and its middle where it shrinks, as AST was
 * published. Outside the grid its edge goes on.
 */
export type Interpolation = 'linear' | 'cubic' | 'smooth' | 'middle';

export type Grid = readonly [rows: number, columns: number];

/** Row-major [to, from]: what each old place counts for in each new one; rows add up to 1. */
export function resampling(from: number, to: number, how: Interpolation): Float32Array {
  const weights = new Float32Array(to * from);
  if (how === 'smooth') {
    for (const [i, row] of filterRows(from, to, 'cubic').entries()) weights.set(row.weights, i * from + row.first);
    return weights;
  }
  for (let i = 0; i < to; i++) {
    const row = weights.subarray(i * from, (i + 1) * from);
    if (how === 'middle' && to < from) row[Math.floor(from / 2) - Math.floor(to / 2) + i] = 1;
    else nearRow(row, ((i + 0.5) * from) / to - 0.5, how === 'cubic' ? 'cubic' : 'linear');
  }
  return weights;
}

function nearRow(row: Float32Array, place: number, how: 'linear' | 'cubic'): void {
  const base = Math.floor(how === 'linear' ? Math.max(0, place) : place);
  const part = (how === 'linear' ? Math.max(0, place) : place) - base;
  const put = (at: number, value: number): void => {
    const inside = Math.min(Math.max(at, 0), row.length - 1);
    row[inside] = (row[inside] as number) + value;
  };
  if (how === 'linear') {
    put(base, 1 - part);
    put(base + 1, part);
    return;
  }
  for (let offset = -1; offset <= 2; offset++) put(base + offset, cubicKernel(offset - part, -0.75));
}

/**
 * Position embeddings [P, prefix + rows * columns, D] for another grid: those of the first `prefix` tokens as they are, those of the patches resampled along both
 * axes. The same tensor where the grids are equal. Differentiable.
 */
export function resizePositions(
  positions: Tensor,
  prefix: number,
  from: Grid,
  to: Grid,
  how: Interpolation | readonly [Interpolation, Interpolation],
): Tensor {
  if (from[0] === to[0] && from[1] === to[1]) return positions;
  const [down, across] = typeof how === 'string' ? [how, how] : how;
  const [count = 1, , width = 0] = positions.shape;
  const patches = cast(narrow(positions, 1, prefix, from[0] * from[1]), 'f32');
  const columnsSame = matmul(matrix(from[0], to[0], down), reshape(patches, [count, from[0], from[1] * width]));
  const resized = matmul(matrix(from[1], to[1], across), reshape(columnsSame, [count * to[0], from[1], width]));
  const flat = cast(reshape(resized, [count, to[0] * to[1], width]), positions.dtype);
  return prefix === 0 ? flat : concat([narrow(positions, 1, 0, prefix), flat], 1);
}

const matrix = (from: number, to: number, how: Interpolation): Tensor => tensor(resampling(from, to, how), { shape: [to, from] });
