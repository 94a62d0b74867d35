import { swiGlu } from 'lorikeet/ops';
import type { OpCase } from '../helpers/battery.js';

export const cases: OpCase[] = [
  ...[1, 17, 40].map(
    (width): OpCase => ({
      name: `swiGlu of ${width}`,
      covers: ['swiGlu'],
      inputs: [{ shape: [3, width] }, { shape: [3, width] }],
      run: (gate, up) => swiGlu(gate, up),
      reference: (gate, up) => gate.data.map((g, i) => (g / (1 + Math.exp(-g))) * (up.data[i] as number)),
    }),
  ),
];
