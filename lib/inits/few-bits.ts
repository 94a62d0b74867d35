import { ConfigError } from '../errors.js';
import { cast, mul, sub } from '../ops/elementwise.js';
import { matmul, type PackedWeight } from '../ops/linalg.js';
import { packQuantized, quantizeInt8, quantizeNf4 } from '../ops/quantize.js';
import { scope } from '../scope.js';
import type { DType, Tensor } from '../tensor.js';
import type { StartLayer } from './init.js';

/** Few bits that a frozen weight can be kept in, as `loadModel` does: NF4 with a scale for 64 values, int8 with a scale a row. */
const kFewBits = ['nf4', 'int8'] as const;
export type FewBits = (typeof kFewBits)[number];

/** A [R, K] and B [N, R]. */
export interface Pair {
  readonly a: Tensor;
  readonly b: Tensor;
}

/** Throws `ConfigError` unless it is a name of such bits, or null for none. */
export function checkQuantize(init: string, quantize: FewBits | null): void {
  if (quantize !== null && !kFewBits.includes(quantize))
    throw new ConfigError(`${init}: quantize must be null or one of ${kFewBits.join(', ')}; got ${JSON.stringify(quantize)}`);
}

/** Throws `ConfigError` for a layer whose dtype blocks of few bits cannot stand for. */
export function checkFewBits(init: string, { path, layer }: StartLayer): void {
  if (layer.weight.dtype === 'f64') throw new ConfigError(`${init}: quantised weights stand for f32, bf16 or f16; got "${path}" in f64`);
}

/** A weight [N, K] in few bits, standing for values of `dtype`. The caller owns it. */
export function inFewBits(weight: Tensor, bits: FewBits, dtype: DType): PackedWeight {
  return scope(() => packQuantized(bits === 'nf4' ? quantizeNf4(weight) : quantizeInt8(weight), dtype));
}

/** W - s B A. */
export const rest = (weight: Tensor, { a, b }: Pair, scale: number): Tensor => sub(weight, mul(matmul(b, a), scale));

/** W - Q, in the dtype of W. */
export const lost = (weight: Tensor, base: PackedWeight): Tensor => sub(weight, cast(base.unpack(), weight.dtype));
