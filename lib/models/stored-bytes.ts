import { InvalidArgumentError } from '../errors.js';
import { ggufTypeNamed } from '../io/gguf/types.js';
import type { Nf4Options } from '../ops/quantize.js';
import type { DType } from '../tensor.js';

/** How a weight may be kept: a floating dtype, NF4 (with options), int8, one bit (`sign`), or a GGUF block type such as `q4_1`. */
export type StoredAs =
  | Extract<DType, 'f64' | 'f32' | 'bf16' | 'f16'>
  | 'nf4'
  | ({ readonly type: 'nf4' } & Nf4Options)
  | 'int8'
  | 'sign'
  | `q${string}`;

const floatBytes: { readonly [dtype: string]: number } = { f64: 8, f32: 4, bf16: 2, f16: 2 };

/**
 * Bytes of the values of a weight [N, K] as they are kept: codes and scales, without the panels that dense weights are packed in beside or instead of them.
 * Throws `InvalidArgumentError` for an unknown storage, and for rows that are no whole number of blocks.
 */
export function storedBytes(shape: readonly [number, number], stored: StoredAs): number {
  const [rows, columns] = shape;
  const size = rows * columns;
  if (typeof stored === 'object') return nf4Bytes(size, stored);
  if (stored === 'nf4') return nf4Bytes(size, {});
  if (stored === 'int8') return size + 4 * rows;
  if (stored === 'sign') return Math.ceil(size / 8) + 8;
  const perValue = floatBytes[stored];
  if (perValue !== undefined) return size * perValue;
  const type = ggufTypeNamed(stored.toUpperCase());
  if (type === undefined || !type.readable) throw new InvalidArgumentError(`storedBytes: unknown storage "${stored}"`);
  if (columns % type.blockSize !== 0)
    throw new InvalidArgumentError(
      `storedBytes: rows are no whole number of ${stored} blocks; got [${rows}, ${columns}], expected a multiple of ${type.blockSize}`,
    );
  return (size / type.blockSize) * type.typeSize;
}

function nf4Bytes(size: number, { blockSize = 64, doubleQuantization = false }: Nf4Options): number {
  const blocks = Math.ceil(size / blockSize);
  return Math.ceil(size / 2) + (doubleQuantization ? blocks + 4 * Math.ceil(blocks / 256) + 4 : 4 * blocks);
}
