// Fused optimizer steps on many parameters. Bytes a parameter: AdamW reads 16 and writes 12, SGD with momentum reads 12 and writes 8.
// npm run bench -- optimizer [--only TEXT] [--threads N] [--peer PYTHON] [--json]
import type { Tensor } from 'lorikeet';
import { clone, mul } from 'lorikeet/ops';
import { AdamW, SGD } from 'lorikeet/optim';
import { type Case, leaf, random, runCases } from './cases.js';
import type { Suite } from './harness.js';

const kinds = {
  adamw: { bytes: 28, make: (parameters: Tensor[]) => new AdamW(parameters, { learningRate: 1e-6 }) },
  'sgd momentum': { bytes: 20, make: (parameters: Tensor[]) => new SGD(parameters, { learningRate: 1e-6, momentum: 0.9 }) },
} as const;

function stepCase(kind: keyof typeof kinds, count: number, each: number): Case {
  return {
    name: `${kind} ${count} x ${each}`,
    dtype: 'f32',
    work: { bytes: count * each * kinds[kind].bytes },
    baseline: 'clone of the parameters',
    peer: { op: 'optimizer', kind, count, each },
    prepare() {
      const parameters = Array.from({ length: count }, () => leaf([each], 'f32', 0.1));
      for (const parameter of parameters) mul(parameter, 1).backward(random([each], 'f32', 0.01));
      const optimizer = kinds[kind].make(parameters);
      return { run: () => optimizer.step(), baseline: () => parameters.map((parameter) => clone(parameter)), owned: [optimizer] };
    },
  };
}

const cases = (['adamw', 'sgd momentum'] as const).flatMap((kind) => [stepCase(kind, 420, 16 * 724), stepCase(kind, 20, 1_000_000)]);

export const suite: Suite = { description: 'fused optimizer steps', run: (args, report) => runCases(args, report, cases) };
