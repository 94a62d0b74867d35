import { ConfigError } from '../errors.js';
import type { Conv } from '../nn/conv.js';
import type { Pair } from '../ops/conv.js';
import { normal, tensor, zeros } from '../ops/create.js';
import { cast, mul } from '../ops/elementwise.js';
import { matmul } from '../ops/linalg.js';
import { contiguous, transpose } from '../ops/shape.js';
import { noGrad, scope, unscoped } from '../scope.js';
import type { Tensor } from '../tensor.js';
import type { CreateContext } from './adapter.js';
import { randomOf, startUniform } from './named-start.js';

/** Starting values that need neither weights nor data. */
export type PlainInit = boolean | 'gaussian' | 'orthogonal';

/** The starting A [R, K] and B [N, R] of a pair, and its bias [N] when asked for. */
export interface StartingPair {
  readonly a: Tensor;
  readonly b: Tensor;
  readonly bias?: Tensor;
}

/** Makes trainable tensors out of starting values; nothing of it belongs to a scope. */
function parameters(make: () => StartingPair): StartingPair {
  const pair = unscoped(() => scope(() => noGrad(make)));
  for (const value of Object.values(pair) as Tensor[]) value.setRequiresGrad(true);
  return pair;
}

/** Starting values for a linear layer of `inputs` and `outputs`. */
export function startLinear(
  path: string,
  inputs: number,
  outputs: number,
  rank: number,
  init: PlainInit,
  bias: boolean,
  context: CreateContext,
): StartingPair {
  const { dtype } = context;
  return parameters(() => {
    if (init === 'orthogonal') return startOrthogonal(path, inputs, outputs, rank, context);
    const a =
      init === 'gaussian'
        ? normal([rank, inputs], { ...randomOf(context, path, 'lora_A.weight'), std: 1 / rank })
        : startUniform(context, path, 'lora_A.weight', [rank, inputs], 1 / Math.sqrt(inputs));
    const spread = 1 / Math.sqrt(rank);
    const b = init === false ? startUniform(context, path, 'lora_B.weight', [outputs, rank], spread) : zeros([outputs, rank], { dtype });
    if (!bias) return { a, b };
    return { a, b, bias: init === false ? startUniform(context, path, 'lora_B.bias', [outputs], spread) : zeros([outputs], { dtype }) };
  });
}

/** Starting values for a convolution: A [R, I, ...kernel] and B [O, R / groups, 1, ...]; the rank must be a multiple of the groups. */
export function startConv(
  path: string,
  layer: Conv<Pair>,
  rank: number,
  init: PlainInit,
  bias: boolean,
  context: CreateContext,
): StartingPair {
  const { inChannels, outChannels, kernel, groups } = layer;
  if (rank % groups !== 0)
    throw new ConfigError(
      `lora: the rank must be a multiple of the groups of a convolution; got rank ${rank} for "${path}" with ${groups} groups`,
    );
  if (init === 'orthogonal')
    throw new ConfigError(
      `lora: init "orthogonal" is not available for convolutions; got target "${path}", expected true, false or "gaussian"`,
    );
  const { dtype } = context;
  const aShape = [rank, inChannels, ...kernel];
  const bShape = [outChannels, rank / groups, ...kernel.map(() => 1)];
  const spread = 1 / Math.sqrt(rank / groups);
  return parameters(() => ({
    a:
      init === 'gaussian'
        ? normal(aShape, { ...randomOf(context, path, 'lora_A.weight'), std: 1 / rank })
        : startUniform(context, path, 'lora_A.weight', aShape, 1 / Math.sqrt(aShape.slice(1).reduce((x, y) => x * y, 1))),
    b: init === false ? startUniform(context, path, 'lora_B.weight', bShape, spread) : zeros(bShape, { dtype }),
    ...(bias
      ? { bias: init === false ? startUniform(context, path, 'lora_B.bias', [outChannels], spread) : zeros([outChannels], { dtype }) }
      : {}),
  }));
}

/** Starting values for an embedding [V, D]: A [R, V] zero (normal with init false), B [D, R] normal. */
export function startEmbedding(
  path: string,
  size: number,
  width: number,
  rank: number,
  init: PlainInit,
  context: CreateContext,
): StartingPair {
  if (init === 'orthogonal')
    throw new ConfigError(
      `lora: init "orthogonal" is not available for embeddings; got target "${path}", expected true, false or "gaussian"`,
    );
  const { dtype, seed } = context;
  const random = (name: string, shape: number[]): Tensor => normal(shape, { dtype, seed, stream: context.stream(path, name) });
  return parameters(() => ({
    a: init === false ? random('lora_embedding_A', [rank, size]) : zeros([rank, size], { dtype }),
    b: random('lora_embedding_B', [width, rank]),
  }));
}

/**
 * Q from the QR of a normal R x R matrix; A = (X Q_even)ᵀ / 10 and B = (Yᵀ Q_odd) / 10 with normal X [K, R/2] and Y [R/2, N]. B A = 0, as rows of Q with even
 * and odd numbers are orthogonal.
 */
function startOrthogonal(path: string, inputs: number, outputs: number, rank: number, context: CreateContext): StartingPair {
  if (rank % 2 !== 0) throw new ConfigError(`lora: init "orthogonal" needs an even rank; got ${rank} for "${path}"`);
  const { dtype, seed } = context;
  const random = (name: string, shape: number[]): Tensor => normal(shape, { dtype: 'f64', seed, stream: context.stream(path, name) });
  const q = orthogonalRows(random('orthogonal', [rank, rank]).dataSync() as Float64Array, rank);
  const half = (odd: number): Tensor => {
    const rows = Array.from({ length: rank / 2 }, (_, i) => q.subarray((2 * i + odd) * rank, (2 * i + odd + 1) * rank));
    return tensor(Float64Array.from(rows.flatMap((row) => [...row])), { shape: [rank / 2, rank], dtype: 'f64' });
  };
  const a = mul(transpose(matmul(random('lora_A.weight', [inputs, rank / 2]), half(0))), 0.1);
  const b = mul(matmul(transpose(random('lora_B.weight', [rank / 2, outputs])), half(1)), 0.1);
  return { a: contiguous(cast(a, dtype)), b: contiguous(cast(b, dtype)) };
}

/** The rows of a square matrix made orthonormal one after the other (Gram-Schmidt, twice for accuracy). */
export function orthogonalRows(values: Float64Array, n: number): Float64Array {
  const q = Float64Array.from(values);
  for (let row = 0; row < n; row++) {
    const own = q.subarray(row * n, (row + 1) * n);
    for (let pass = 0; pass < 2; pass++) {
      for (let before = 0; before < row; before++) {
        const other = q.subarray(before * n, (before + 1) * n);
        const overlap = dot(own, other);
        for (let i = 0; i < n; i++) own[i] = (own[i] ?? 0) - overlap * (other[i] ?? 0);
      }
    }
    const length = Math.sqrt(dot(own, own));
    for (let i = 0; i < n; i++) own[i] = (own[i] ?? 0) / length;
  }
  return q;
}

function dot(a: Float64Array, b: Float64Array): number {
  let total = 0;
  for (let i = 0; i < a.length; i++) total += (a[i] ?? 0) * (b[i] ?? 0);
  return total;
}
