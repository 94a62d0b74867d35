import type { Tensor } from 'lorikeet';
import { rope } from 'lorikeet/ops';
import type { Dense, OpCase } from '../helpers/battery.js';

function reference(x: Dense, cos: Dense, sin: Dense, positions: Dense): number[] {
  const [, , H = 0, K = 0] = x.shape;
  const half = cos.shape[1] ?? 0;
  return x.data.map((value, i) => {
    const k = i % K;
    if (k >= 2 * half) return value;
    const angle = (positions.data[Math.floor(i / (H * K))] ?? 0) * half + (k % half);
    const partner = x.data[k < half ? i + half : i - half] ?? 0;
    return value * (cos.data[angle] ?? 0) + (k < half ? -partner : partner) * (sin.data[angle] ?? 0);
  });
}

export const cases: OpCase[] = [
  [8, 4],
  [7, 2],
].map(([width = 0, half = 0]) => ({
  name: `rope of ${2 * half} in ${width}`,
  covers: ['rope'],
  inputs: [
    { shape: [2, 3, 2, width] },
    { shape: [9, half], dtype: 'f32', batched: false },
    { shape: [9, half], dtype: 'f32', batched: false },
    { shape: [2, 3], dtype: 'i64', values: (_: number, random: () => number) => Math.floor(random() * 9) },
  ],
  run: (x, cos, sin, positions) => rope(x as Tensor, cos as Tensor, sin as Tensor, positions as Tensor),
  reference: (x, cos, sin, positions) => reference(x as Dense, cos as Dense, sin as Dense, positions as Dense),
}));
