import { kDtypeBytes } from '../dtype.js';
import type { ProfiledOp, ProfiledTensor } from '../profile.js';

/** What an op must do at least: floating-point operations by kind, and bytes read and written once. */
export interface OpWork {
  /** Products with frozen or dense weights, attention and the like. */
  readonly flops: number;
  /** The part of low-rank adapters. */
  readonly adapterFlops: number;
  readonly bytes: number;
  /** The precision that multiplies. */
  readonly dtype: 'f32' | 'bf16';
}

const elements = ({ shape }: ProfiledTensor): number => shape.reduce((product, size) => product * size, 1);
const bytesOf = (x: ProfiledTensor): number => elements(x) * kDtypeBytes[x.dtype];

/** x and what it is multiplied with to z..., y: 2mkn for the weight, which `sgmv` has not, 2r(k + n) a row for every adapter. */
function product({ name, inputs, outputs }: ProfiledOp): { flops: number; adapterFlops: number } {
  const [x] = inputs;
  const y = outputs.at(-1);
  if (!x) return { flops: 0, adapterFlops: 0 };
  const [m = 0, k = 0] = x.shape;
  const n = y?.shape.at(-1) ?? 0;
  let adapterFlops = 0;
  for (const z of outputs.slice(0, -1)) if (z) adapterFlops += 2 * elements(z) * (k + n);
  return { flops: name === 'sgmv' ? 0 : 2 * m * k * n, adapterFlops };
}

/**
 * The layers of one op: z..., y of each, with a gap between layers. Inputs begin with the x that they share and a gap; or with the dy of each, and the dx of all is
 * the last output.
 */
function products({ inputs, outputs, ...op }: ProfiledOp): { flops: number; adapterFlops: number } {
  const layers: (ProfiledTensor | undefined)[][] = [[]];
  for (const output of outputs) {
    if (output === undefined) layers.push([]);
    else layers.at(-1)?.push(output);
  }
  const isSum = inputs[1] !== undefined;
  const dx = isSum ? layers.at(-1)?.pop() : undefined;
  const total = { flops: 0, adapterFlops: 0 };
  for (const [i, own] of layers.entries()) {
    const one = product({ ...op, inputs: [inputs[isSum ? i : 0]], outputs: isSum ? [...own, dx] : own });
    total.flops += one.flops;
    total.adapterFlops += one.adapterFlops;
  }
  return total;
}

/** q [B, T, H, K] and k [B, S, G, K]: two products forward, five backward; half of each where T = S, as the mask is then taken to be causal. */
function attention({ inputs, name }: ProfiledOp): number {
  const [q, k] = inputs;
  if (!q || !k) return 0;
  const keys = k.shape[1] ?? 0;
  const causal = q.shape[1] === keys && keys > 1 ? 0.5 : 1;
  return (name === 'attention' ? 4 : 10) * elements(q) * keys * causal;
}

/**
 * hidden [..., width], bias, targets, weights, the head: 2 · rows · values of the head, twice where the gradient of hidden is computed too. The head comes as bytes
 * of panels, counted with their padding, or as blocks [vocabulary, bytes].
 */
function crossEntropy({ inputs, outputs }: ProfiledOp): number {
  const [hidden, , , , head] = inputs;
  if (!hidden || !head) return 0;
  const width = hidden.shape.at(-1) ?? 1;
  const values = head.shape.length === 2 ? (head.shape[0] ?? 0) * width : bytesOf(head) / kDtypeBytes[hidden.dtype];
  return (outputs[1] ? 4 : 2) * (elements(hidden) / width) * values;
}

/** Counts the work of one op from its name and shapes. Ops that are not listed count as moving bytes only. */
export function opWork(op: ProfiledOp): OpWork {
  const [first, second] = op.inputs;
  let flops = 0;
  let adapterFlops = 0;
  if (op.name === 'lowRankLinears') ({ flops, adapterFlops } = products(op));
  else if (op.name === 'linear' || op.name === 'lowRankLinear' || op.name === 'sgmv') ({ flops, adapterFlops } = product(op));
  else if (op.name === 'sumOverRows') adapterFlops = first && second ? 2 * elements(first) * (second.shape[1] ?? 1) : 0;
  else if (op.name === 'matmul') flops = 2 * (op.outputs[0] ? elements(op.outputs[0]) : 0) * (first?.shape.at(-1) ?? 0);
  else if (op.name === 'attention' || op.name === 'attention backward') flops = attention(op);
  else if (op.name === 'crossEntropy') flops = crossEntropy(op);
  let bytes = 0;
  // A look-up reads the rows that it gives, not the table.
  const read = op.name === 'embedding' && !op.backward ? [second, ...op.outputs] : op.inputs;
  for (const x of [...read, ...op.outputs]) if (x) bytes += bytesOf(x);
  return { flops, adapterFlops, bytes, dtype: first?.dtype === 'bf16' ? 'bf16' : 'f32' };
}
