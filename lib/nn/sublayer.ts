import type { Tensor } from '../tensor.js';
import type { ForwardContext } from './context.js';

/** The parts of a block whose results are added to its residual stream. */
export type SublayerPoint = 'attention' | 'mlp';

/** What a sub-layer is given. */
export interface SublayerInput {
  /** The stream [B, T, D] that the block adds the result to; the very `input` in post-norm blocks. */
  readonly residual: Tensor;
  /** What the sub-layer reads [B, T, D]: the normed stream in pre-norm blocks. */
  readonly input: Tensor;
  readonly context: ForwardContext;
}

/** One run of a sub-layer, seen by what goes around it. */
export interface SublayerCall extends SublayerInput {
  readonly point: SublayerPoint;
  /** The sub-layer itself. */
  readonly next: (input: Tensor) => Tensor;
}

/** Computes a sub-layer in its place; returns what the block adds to the stream. */
export type SublayerHook = (call: SublayerCall) => Tensor;

/**
 * Runs one sub-layer of a block: what it returns is added to the residual stream. Every block computes its attention and MLP through this, so that adapters can go
 * around them whatever a model calls its modules, and read the stream as it is before the norm.
 */
export function sublayer(
  point: SublayerPoint,
  { residual, input, context }: SublayerInput,
  compute: (input: Tensor, context: ForwardContext) => Tensor,
): Tensor {
  if (context.sublayers === undefined) return compute(input, context);
  const { sublayers, ...inner } = context;
  return sublayers({ point, residual, input, context: inner, next: (x) => compute(x, inner) });
}
