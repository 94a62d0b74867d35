import { repetitionPenalty, sample } from 'lorikeet/ops';
import type { Dense, OpCase } from '../helpers/battery.js';

function greedy(logits: Dense): number[][] {
  const [ids, chosen, raw]: number[][] = [[], [], []];
  const width = logits.shape[1] ?? 1;
  for (let start = 0; start < logits.data.length; start += width) {
    const row = logits.data.slice(start, start + width);
    const most = Math.max(...row);
    ids?.push(row.indexOf(most));
    chosen?.push(0);
    raw?.push(-Math.log(row.reduce((sum, value) => sum + Math.exp(value - most), 0)));
  }
  return [ids ?? [], chosen ?? [], raw ?? []];
}

export const cases: OpCase[] = [
  {
    name: 'sample at temperature 0',
    covers: ['sample'],
    inputs: [{ shape: [3, 37] }],
    notDifferentiable: 'a draw',
    tolerance: { f64: 1e-6, bf16: 1e-5, f16: 1e-5 }, // computed in f32 whatever the logits are
    run: (logits) => {
      const { ids, logProbabilities, rawLogProbabilities } = sample(logits, { temperature: 0 });
      return [ids, logProbabilities, rawLogProbabilities];
    },
    reference: greedy,
  },
  {
    name: 'repetitionPenalty',
    covers: ['repetitionPenalty'],
    inputs: [{ shape: [3, 9] }, { shape: [3, 5], dtype: 'i64', values: (_, random) => Math.floor(random() * 10) - 1 }],
    notDifferentiable: 'for sampling only',
    run: (logits, ids) => repetitionPenalty(logits, ids, 1.7),
    reference: (logits, ids) =>
      logits.data.map((value, i) => {
        const row = Math.floor(i / 9);
        if (!ids.data.slice(row * 5, row * 5 + 5).includes(i % 9)) return value;
        return value < 0 ? value * 1.7 : value / 1.7;
      }),
  },
];
