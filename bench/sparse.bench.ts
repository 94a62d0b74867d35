// Masked updates of one tensor. Bytes: those that must move at least, whole tensors where the mask is spread over them, with 64-byte lines of which one entry is
// owned counted whole.
// npm run bench -- sparse [--only TEXT] [--threads N] [--json]
import type { Tensor } from 'lorikeet';
import { abs, greater, maskedGather, maskedScatter, maskIndices, mul, topK, topKMask, where } from 'lorikeet/ops';
import { AdamW, type Optimizer, SparseAdamW } from 'lorikeet/optim';
import { type Case, leaf, random, runCases } from './cases.js';
import type { Suite } from './harness.js';

const kSize = 16_777_216;
const densities = [0.01, 0.1, 0.5] as const;
const kLine = 16;

/** Bytes of the lines of an f32 tensor that hold an owned entry, when the mask is random. */
const touched = (density: number): number => kSize * 4 * (1 - (1 - density) ** kLine);

interface Masked {
  readonly count: number;
  readonly mask: Tensor;
}

function maskOf(density: number, form: 'bits' | 'indices'): Masked {
  const count = Math.round(kSize * density);
  const bits = topKMask(random([kSize], 'f32'), count);
  return { count, mask: form === 'bits' ? bits : maskIndices(bits, kSize, count) };
}

/** A parameter with a gradient and its optimizer. */
function trained(size: number, make: (x: Tensor) => Optimizer<never>): { x: Tensor; optimizer: Optimizer<never> } {
  const x = leaf([size], 'f32', 0.1);
  mul(x, 1).backward(random([size], 'f32', 0.01));
  return { x, optimizer: make(x) };
}

const adamw = (x: Tensor): Optimizer<never> => new AdamW([x], { learningRate: 1e-6 }) as unknown as Optimizer<never>;
const sparse =
  ({ mask, count }: Masked) =>
  (x: Tensor): Optimizer<never> =>
    new SparseAdamW([x], new Map([[x, { mask, count }]]), { learningRate: 1e-6 }) as unknown as Optimizer<never>;

const dense = 'AdamW of the whole tensor';

function compactCase(density: number): Case {
  const count = Math.round(kSize * density);
  return {
    name: `AdamW on the compact arrays, ${density * 100} %`,
    dtype: 'f32',
    work: { bytes: count * 28 },
    baseline: dense,
    prepare() {
      const [own, whole] = [trained(count, adamw).optimizer, trained(kSize, adamw).optimizer];
      return { run: () => own.step(), baseline: () => whole.step(), owned: [own, whole] };
    },
  };
}

function copyCase(direction: 'gather' | 'scatter', form: 'bits' | 'indices', density: number): Case {
  const count = Math.round(kSize * density);
  const lines = touched(density) * (direction === 'gather' ? 1 : 2);
  return {
    name: `${direction} by ${form}, ${density * 100} %`,
    dtype: 'f32',
    work: { bytes: lines + 4 * count + (form === 'bits' ? kSize / 8 : 4 * count) },
    baseline: 'where of the whole tensor',
    prepare() {
      const { mask } = maskOf(density, form);
      const [x, other] = [random([kSize], 'f32'), random([kSize], 'f32')];
      const values = random([count], 'f32');
      const condition = greater(random([kSize], 'f32'), 0);
      return {
        run: () => (direction === 'gather' ? maskedGather(x, mask, count) : maskedScatter(x, mask, values)),
        baseline: () => where(condition, x, other),
      };
    },
  };
}

function stepCase(form: 'bits' | 'indices', density: number): Case {
  const count = Math.round(kSize * density);
  return {
    name: `SparseAdamW in place by ${form}, ${density * 100} %`,
    dtype: 'f32',
    work: { bytes: 3 * touched(density) + 16 * count + (form === 'bits' ? kSize / 4 : 8 * count) },
    baseline: dense,
    prepare() {
      const [own, whole] = [trained(kSize, sparse(maskOf(density, form))).optimizer, trained(kSize, adamw).optimizer];
      return { run: () => own.step(), baseline: () => whole.step(), owned: [own, whole] };
    },
  };
}

function selectCase(density: number): Case {
  const count = Math.round(kSize * density);
  return {
    name: `topKMask, ${density * 100} %`,
    dtype: 'f32',
    // Three digits, the keys equal to the limit, and the bits.
    work: { bytes: 5 * kSize * 4 },
    baseline: 'topK of magnitudes',
    prepare() {
      const x = random([kSize], 'f32');
      return { run: () => topKMask(x, count), baseline: () => topK(abs(x), count) };
    },
  };
}

const forms = ['bits', 'indices'] as const;
const cases = [
  ...densities.map(compactCase),
  ...(['gather', 'scatter'] as const).flatMap((direction) =>
    forms.flatMap((form) => densities.map((density) => copyCase(direction, form, density))),
  ),
  ...forms.flatMap((form) => densities.map((density) => stepCase(form, density))),
  ...densities.map(selectCase),
];

export const suite: Suite = {
  description: 'masked updates: top-k masks, gather, scatter, AdamW of the owned entries',
  run: (args, report) => runCases(args, report, cases),
};
