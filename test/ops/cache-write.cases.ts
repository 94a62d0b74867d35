import { cacheWrite, clone } from 'lorikeet/ops';
import type { OpCase } from '../helpers/battery.js';

export const cases: OpCase[] = [
  {
    name: 'cacheWrite',
    covers: ['cacheWrite'],
    inputs: [
      { shape: [3, 6, 2, 5] },
      { shape: [3, 2, 2, 5] },
      { shape: [3], dtype: 'i64', values: (_, random) => Math.floor(random() * 5) },
    ],
    notDifferentiable: 'writes in place',
    tolerance: { f64: 0, f32: 0, bf16: 0, f16: 0 },
    run: (cache, x, positions) => {
      const written = clone(cache);
      cacheWrite(written, x, positions);
      return written;
    },
    reference: (cache, x, positions) =>
      cache.data.map((value, i) => {
        const [row, place] = [Math.floor(i / 60), Math.floor((i % 60) / 10)];
        const t = place - (positions.data[row] ?? 0);
        return t === 0 || t === 1 ? (x.data[row * 20 + t * 10 + (i % 10)] ?? 0) : value;
      }),
  },
];
