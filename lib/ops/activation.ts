import { op } from '../native.js';
import { Tensor } from '../tensor.js';

const swiGluOp = op('swiGlu');

/** silu(gate) · up elementwise in one pass, rounded once. One shape, one floating dtype. Differentiable in both. */
export function swiGlu(gate: Tensor, up: Tensor): Tensor {
  return new Tensor(swiGluOp(gate.handle, up.handle));
}
