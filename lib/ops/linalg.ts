import { op } from '../native.js';
import type { PackedWeightHandle } from '../native-types.js';
import { type DType, Tensor } from '../tensor.js';

const matmulOp = op('matmul');
const packWeightOp = op('packWeight');
const packInt8Op = op('packInt8');
const unpackWeightOp = op('unpackWeight');
const unpackRowsOp = op('unpackRows');
const sharePackedOp = op('sharePacked');
const linearOp = op('linear');

/** Block formats of frozen weights: those of GGUF files, and what {@link quantizeInt8}, {@link quantizeNf4} and {@link signQuantize} (1 bit) make. */
export type Quantization = 'q4_0' | 'q4_1' | 'q5_0' | 'q5_1' | 'q8_0' | 'q4_k' | 'q5_k' | 'q6_k' | 'int8' | 'nf4' | 'sign';

/**
 * `retile`: one packed copy, from which every backward makes what it needs, a few panels at a time; `dual`: two copies, the second made by the first backward;
 * `native`: no copy, every product makes what it needs from the rows where they lie.
 */
export const kWeightLayouts = ['retile', 'dual', 'native'] as const;
export type WeightLayout = (typeof kWeightLayouts)[number];

export interface PackOptions {
  /** Default `retile`. The bits of products do not depend on it. */
  readonly layout?: WeightLayout;
}

/**
 * A frozen weight [N, K], laid out once for the kernels of y = x Wᵀ and dx = dy W. It never has a gradient, and an op on it
 * saves nothing for one. It owns its memory until `dispose()`; scopes leave it alone. Recorded products keep their own share, so disposing never
 * breaks a pending backward.
 */
export class PackedWeight {
  /** @internal */
  readonly handle: PackedWeightHandle;
  /** [outputs N, inputs K]. */
  readonly shape: readonly number[];
  /** The dtype it was packed from, or that its blocks stand for. */
  readonly dtype: DType;
  /** The format of a weight that is kept in few bits; undefined for one of floats. */
  readonly quantization: Quantization | undefined;

  /** @internal */
  constructor(handle: PackedWeightHandle) {
    this.handle = handle;
    this.shape = handle.shape;
    this.dtype = handle.dtype;
    this.quantization = handle.quantization as Quantization | undefined;
  }

  /** Bytes of native memory in its layouts so far, or in its blocks; 0 where its rows lie in a mapped file. */
  get bytes(): number {
    return this.handle.bytes;
  }

  /** Bytes of the mapped file that it reads: pages that the system reads when they are touched, shares between processes, and drops when memory runs short. */
  get mappedBytes(): number {
    return this.handle.mappedBytes;
  }

  /** The instruction level whose layout it has; its products run at that level. */
  get level(): string {
    return this.handle.level;
  }

  /**
   * A {@link WeightLayout}; or `blocks`: quantised, panels are made by every product; or `codes`: the same, but forward multiplies the codes with rows of 8-bit
   * integers; or `int8`: panels of codes, products multiply 8-bit integers.
   */
  get layout(): string {
    return this.handle.layout;
  }

  get disposed(): boolean {
    return this.handle.disposed;
  }

  /** The weight as it was given (of a quantised one, its values), row-major [N, K], in a new tensor. */
  unpack(): Tensor {
    return new Tensor(unpackWeightOp(this.handle));
  }

  /** Rows [start, start + count) of a weight with layout `blocks` or `codes`, [count, K] in a new tensor. */
  rows(start: number, count: number): Tensor {
    return new Tensor(unpackRowsOp(this.handle, start, count));
  }

  /** Another owner of the same memory. */
  share(): PackedWeight {
    return new PackedWeight(sharePackedOp(this.handle));
  }

  /** Releases this object's share of the memory; further use throws a disposed error. Idempotent. */
  dispose(): void {
    this.handle.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/**
 * Matrix product over the last two dimensions: a [.., M, K] · b [.., K, N] = [.., M, N]; leading dimensions broadcast. Operands of one floating dtype, of
 * any strides (transposed views are read in place); 16-bit types are summed in f32. Throws a shape error when the inner sizes differ.
 */
export function matmul(a: Tensor, b: Tensor): Tensor {
  return new Tensor(matmulOp(a.handle, b.handle));
}

/**
 * Packs a frozen weight [N, K] of dtype f32, bf16, f16 (widened to f32) or f64, also from a strided view. The tensor may be disposed afterwards. With layout
 * `native` a contiguous tensor is not copied: the weight shares its memory, or the mapped file that it is a view of, and throws when that was changed in place.
 * Throws a shape error for other ranks and an argument error for other dtypes.
 */
export function packWeight(weight: Tensor, { layout = 'retile' }: PackOptions = {}): PackedWeight {
  return new PackedWeight(packWeightOp(weight.handle, layout));
}

/**
 * A frozen weight [N, K] whose products multiply 8-bit integers: the weight in the codes of `quantizeInt8` (those of an int8 weight as they are; other values are
 * quantised), the rows of x, and of dy in backward, quantised on the fly in groups of 128 columns with a scale each. Integer sums are exact and are scaled in f32;
 * the result has the dtype of x. Half the bytes of bf16. `dtype` stays that of the given weight: f32, bf16 or f16. GGUF blocks stay what they are: forward
 * multiplies their codes with rows of x that are rounded to 8 bits in groups of 32 columns, and backward takes their values.
 */
export function packInt8(weight: Tensor | PackedWeight): PackedWeight {
  return new PackedWeight(packInt8Op(weight.handle));
}

/**
 * y [.., N] = x [.., K] Wᵀ + bias, in the dtype of x; sums in f32 (f64 for f64). With a {@link PackedWeight} only x and bias can have gradients and
 * nothing of x is kept for backward. With a dense weight [N, K] (trainable), it is packed in every call, and x is kept for its gradient.
 */
export function linear(x: Tensor, weight: PackedWeight | Tensor, bias?: Tensor): Tensor {
  return new Tensor(linearOp(x.handle, weight.handle, bias?.handle));
}
