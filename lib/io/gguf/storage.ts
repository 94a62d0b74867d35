import { InvalidArgumentError } from '../../errors.js';
import { cast } from '../../ops/elementwise.js';
import { contiguous } from '../../ops/shape.js';
import { noGrad, scope } from '../../scope.js';
import type { Tensor } from '../../tensor.js';
import { tensorBytes } from '../safetensors.js';

/** The tensor types that can be written: their number, values per block, bytes per block, and the `general.file_type` of a file made of them. */
export const writableTypes = {
  F32: { id: 0, block: 1, bytes: 4, fileType: 0 },
  F16: { id: 1, block: 1, bytes: 2, fileType: 1 },
  BF16: { id: 30, block: 1, bytes: 2, fileType: 32 },
  Q8_0: { id: 8, block: 32, bytes: 34, fileType: 7 },
} as const;

export type WritableType = keyof typeof writableTypes;

/** Bytes of a tensor in a file. Throws `InvalidArgumentError` for rows that are no whole number of blocks. */
export function storedBytes(name: string, type: WritableType, shape: readonly number[]): number {
  const { block, bytes } = writableTypes[type];
  const width = shape.at(-1) ?? 1;
  if (width % block !== 0)
    throw new InvalidArgumentError(
      `writeGguf: the rows of "${name}" are no whole number of ${type} blocks; got ${width}, expected a multiple of ${block}`,
    );
  return (shape.reduce((product, size) => product * size, 1) / block) * bytes;
}

/** A half-precision pattern, rounded to nearest even; for numbers from 0 to 65504. */
function halfBits(value: number): number {
  if (value < 2 ** -24 / 2) return 0;
  const exponent = Math.max(Math.floor(Math.log2(value)), -14);
  // One step of the mantissa at this exponent; rounding up across a power of two carries into the exponent by itself.
  const steps = value / 2 ** (exponent - 10);
  const floor = Math.floor(steps);
  const rest = steps - floor;
  const rounded = rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor;
  return rounded + ((exponent + 14) << 10);
}

const halfValue = (bits: number): number => (bits >> 10 === 0 ? bits * 2 ** -24 : (1024 + (bits & 1023)) * 2 ** ((bits >> 10) - 25));

/** Blocks of 32 values: a half-precision scale d, then 32 signed bytes q, standing for d q, with d the largest size / 127. */
export function quantizeQ8(values: Float32Array): Uint8Array {
  const out = Buffer.alloc((values.length / 32) * 34);
  for (let block = 0; block < values.length / 32; block++) {
    let largest = 0;
    for (let i = 0; i < 32; i++) largest = Math.max(largest, Math.abs(values[block * 32 + i] ?? 0));
    const scale = Math.fround(largest / 127);
    const inverse = scale === 0 ? 0 : Math.fround(1 / scale);
    if (!(scale <= 65504)) throw new InvalidArgumentError(`writeGguf: a value is too large for Q8_0; got ${largest}`);
    out.writeUInt16LE(halfBits(scale), block * 34);
    for (let i = 0; i < 32; i++) {
      const exact = Math.fround((values[block * 32 + i] ?? 0) * inverse);
      out.writeInt8(Math.sign(exact) * Math.floor(Math.abs(exact) + 0.5), block * 34 + 2 + i);
    }
  }
  return out;
}

/** The values of a Q8_0 block scale, for tests of the rounding. */
export const halfRoundTrip = (value: number): number => halfValue(halfBits(value));

/** The bytes of a tensor in a type. */
export async function encodeTensor(value: Tensor, type: WritableType): Promise<Uint8Array> {
  return scope(async () => {
    const dtype = type === 'F16' ? 'f16' : type === 'BF16' ? 'bf16' : 'f32';
    const dense = noGrad(() => contiguous(cast(value, dtype)));
    return type === 'Q8_0' ? quantizeQ8((await dense.data()) as Float32Array) : tensorBytes(dense);
  });
}
