import { InvalidArgumentError } from '../errors.js';
import { op } from '../native.js';
import { noGrad, scope } from '../scope.js';
import { type DType, Tensor } from '../tensor.js';
import { PackedWeight } from './linalg.js';
import { reshape } from './shape.js';

const quantizeNf4Op = op('quantizeNf4');
const quantizeScalesOp = op('quantizeScales');
const quantizeInt8Op = op('quantizeInt8');
const packQuantizedOp = op('packQuantized');

/** How NF4 is laid out. */
export interface Nf4Options {
  /** Values that share a scale, along the flattened tensor: a power of two from 32 to 4096. Default 64. */
  readonly blockSize?: number;
  /** Store the scales themselves in 8 bits, 256 of them with a scale of their own. Default false. */
  readonly doubleQuantization?: boolean;
}

/** A tensor in NF4: 4 bits a value. */
export interface Nf4Tensor {
  readonly format: 'nf4';
  readonly shape: readonly number[];
  readonly blockSize: number;
  /** u8 [ceil(size / 2)]: two codes a byte, the first value in the high half. */
  readonly codes: Tensor;
  /** f32: the largest absolute value of every block; with `scaleCodes` that of every 256 scales. */
  readonly scales: Tensor;
  /** u8, one for each block: where the scale lies in the dynamic 8-bit map. */
  readonly scaleCodes?: Tensor;
  /** f32 [1]: the mean of the scales, which `scaleCodes` leave out. */
  readonly scaleOffset?: Tensor;
}

/** A matrix [N, K] in 8 bits a value, one scale a row. */
export interface Int8Tensor {
  readonly format: 'int8';
  readonly shape: readonly number[];
  /** The bytes of signed codes as u8 [N, K]. */
  readonly codes: Tensor;
  /** f32 [N]: the largest absolute value of every row. */
  readonly scales: Tensor;
}

/**
 * A floating tensor in the 4-bit NormalFloat type of "QLoRA: Efficient Finetuning of Quantized LLMs": the nearest of 16 quantiles of the normal distribution, of
 * equally near ones the lower, times the largest absolute value of its block. Codes equal those of bitsandbytes.
 */
export function quantizeNf4(x: Tensor, options: Nf4Options = {}): Nf4Tensor {
  const { blockSize = 64, doubleQuantization = false } = options;
  const [codes, scales] = tensors(quantizeNf4Op(x.handle, blockSize));
  const whole = { format: 'nf4', shape: x.shape, blockSize, codes, scales } as const;
  if (!doubleQuantization) return whole;
  const [scaleCodes, nested, scaleOffset] = tensors(quantizeScalesOp(scales.handle));
  scales.dispose();
  return { ...whole, scales: nested, scaleCodes, scaleOffset };
}

/** A weight [N, K] in 8 bits, round(127 w / the largest absolute value of the row), as "LLM.int8(): 8-bit Matrix Multiplication for Transformers at Scale". */
export function quantizeInt8(x: Tensor): Int8Tensor {
  const [codes, scales] = tensors(quantizeInt8Op(x.handle));
  return { format: 'int8', shape: x.shape, codes, scales };
}

/** The values of a quantised tensor, in its shape. `dtype` is f32 (default), bf16 or f16; values are computed in f32 and rounded once. */
export function dequantize(x: Nf4Tensor | Int8Tensor, dtype: DType = 'f32'): Tensor {
  return scope(() =>
    noGrad(() => {
      using packed = packQuantized(x.shape.length === 2 ? x : { ...x, shape: [1, x.shape.reduce((size, n) => size * n, 1)] }, dtype);
      return reshape(packed.unpack(), x.shape);
    }),
  );
}

/**
 * A frozen weight [N, K] that stays in its blocks: products make its values on the fly. `dtype` (f32, bf16 or f16; default f32) is what it stands for: with
 * bf16 its values are rounded to bf16. Shares the memory of the codes, which may be disposed afterwards.
 */
export function packQuantized(x: Nf4Tensor | Int8Tensor, dtype: DType = 'f32'): PackedWeight {
  if (x.shape.length !== 2)
    throw new InvalidArgumentError(`packQuantized: a weight has two dimensions [outputs, inputs]; got [${x.shape.join(', ')}]`);
  const { codes, scales } = x;
  const nested = x.format === 'nf4' ? x : undefined;
  return new PackedWeight(
    packQuantizedOp(
      x.format,
      [...x.shape],
      nested?.blockSize ?? 0,
      codes.handle,
      scales.handle,
      nested?.scaleCodes?.handle,
      nested?.scaleOffset?.handle,
      dtype,
    ),
  );
}

type Tensors = [Tensor, Tensor, Tensor];
const tensors = (handles: readonly ConstructorParameters<typeof Tensor>[0][]): Tensors =>
  handles.map((handle) => new Tensor(handle)) as Tensors;
