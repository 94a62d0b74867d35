import { glu, mul, narrow, quickGelu, sigmoid } from 'lorikeet/ops';
import type { OpCase } from '../helpers/battery.js';

export const cases: OpCase[] = [
  {
    name: 'quickGelu',
    covers: [],
    inputs: [{ shape: [3, 7] }],
    run: (x) => quickGelu(x),
    reference: (x) => x.data.map((v) => v / (1 + Math.exp(-1.702 * v))),
    tolerance: { bf16: 3e-2 },
  },
  {
    name: 'glu',
    covers: [],
    inputs: [{ shape: [3, 8, 5] }],
    run: (x) => glu(x, 1),
    composite: (x) => mul(narrow(x, 1, 0, 4), sigmoid(narrow(x, 1, 4, 4))),
  },
];
