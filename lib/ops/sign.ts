import { InvalidArgumentError } from '../errors.js';
import { op } from '../native.js';
import { type DType, Tensor } from '../tensor.js';
import { linear, PackedWeight } from './linalg.js';

const signQuantizeOp = op('signQuantize');
const signUnpackOp = op('signUnpack');
const signValuesOp = op('signValues');
const packSignsOp = op('packSigns');
const fakeQuantizeOp = op('fakeQuantize');

/** Bits a value that {@link signQuantize} stores. */
export const kSignBits = [1, 2, 4, 8] as const;
export type SignBits = (typeof kSignBits)[number];

/** The code book of {@link SignTensor}, by the name that files give it. */
export const kSignCodeBook = 'normal-median-500';

/** A tensor in 1, 2, 4 or 8 bits a value, standardised as a whole: v[code] σ + μ. */
export interface SignTensor {
  readonly bits: SignBits;
  readonly shape: readonly number[];
  /** u8 [ceil(size bits / 8)]: codes in row-major order, the first one of a byte in its lowest bits; zeros fill the last byte. */
  readonly codes: Tensor;
  /** f32 [2]: mean μ and standard deviation σ (size - 1 in the denominator). */
  readonly meta: Tensor;
}

export interface SignOptions {
  /** Bits a value: 1 (default), 2, 4 or 8. */
  readonly bits?: SignBits;
  /** What errors call the tensor. */
  readonly name?: string;
}

/**
 * The values that codes of `bits` bits stand for, rising and symmetric, f64 [2^bits]: k-medians of a standard normal distribution, each
 * value the median of its cell and cells split half-way between values, after 500 rounds from zeros ("Revisiting the Parameter Efficiency
 * of Adapters from the Perspective of Precision Redundancy"). Throws for other numbers of bits.
 */
export function signCodeBook(bits: SignBits): Tensor {
  return new Tensor(signValuesOp(bits));
}

/**
 * A floating tensor in codes of {@link signCodeBook}: of z = (w - μ) / (σ + 1e-5) the nearer value, half-way between two the lower. Work
 * that fails with a non-finite error for NaN and infinity, and with an argument error for values that are all the same.
 */
export function signQuantize(w: Tensor, { bits = 1, name = '' }: SignOptions = {}): SignTensor {
  const [codes, meta] = signQuantizeOp(w.handle, bits, name).map((handle) => new Tensor(handle)) as [Tensor, Tensor];
  return { bits, shape: w.shape, codes, meta };
}

/** The values of a quantised tensor, in its shape. Computed in f32 and rounded once to `dtype`, default f32. */
export function signUnpack({ codes, meta, shape, bits }: SignTensor, dtype: DType = 'f32'): Tensor {
  return new Tensor(signUnpackOp(codes.handle, meta.handle, [...shape], bits, dtype));
}

/**
 * The values that quantising w and unpacking it gives, in its shape and dtype, for training with few bits. Differentiable: the values of
 * the code book count as z itself (straight through, nothing clipped), mean and deviation as functions of w. Half-way between two values
 * of the code book is their mean. Fails as {@link signQuantize}.
 */
export function fakeQuantize(w: Tensor, { bits = 1, name = '' }: SignOptions = {}): Tensor {
  return new Tensor(fakeQuantizeOp(w.handle, bits, name));
}

/**
 * A frozen weight [N, K] of one bit a value: products read the bits, and its values are written nowhere. Shares the memory of the codes,
 * which may be disposed afterwards. `dtype` (f32, bf16 or f16; default f32) is what it stands for: with bf16 the two values are rounded
 * to bf16. Throws for more bits.
 */
export function packSigns({ codes, meta, shape, bits }: SignTensor, dtype: DType = 'f32'): PackedWeight {
  if (bits !== 1)
    throw new InvalidArgumentError(`packSigns: products are made from codes of 1 bit; got ${bits} bits, expected signUnpack first`);
  return new PackedWeight(packSignsOp(codes.handle, meta.handle, [...shape], dtype));
}

/**
 * y [.., N] = x [.., K] Wᵀ + bias with a weight of one bit a value, in the dtype of x. Differentiable in x and bias. For many products
 * pack it once ({@link packSigns}).
 */
export function signLinear(x: Tensor, weight: SignTensor, bias?: Tensor): Tensor {
  using packed = packSigns(weight, x.dtype === 'f64' ? 'f32' : x.dtype);
  return linear(x, packed, bias);
}
