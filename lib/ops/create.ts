import { InvalidArgumentError, ShapeError } from '../errors.js';
import { native, op } from '../native.js';
import { type Device, type DType, Tensor } from '../tensor.js';

const fullOp = op('full');
const arangeOp = op('arange');
const uniformOp = op('uniform');
const normalOp = op('normal');
const toDeviceOp = op('toDevice');

/** Numbers, nested to any depth (each level of equal length). */
export type NestedNumbers = readonly (number | boolean | NestedNumbers)[];

export interface CreateOptions {
  /** Default f32. */
  readonly dtype?: DType;
  /** Default cpu. */
  readonly device?: Device;
}

export interface TensorOptions extends CreateOptions {
  /** Sizes of the dimensions. Default: that of the nested arrays, or one dimension. */
  readonly shape?: readonly number[];
}

type AnyTypedArray = Float64Array | Float32Array | BigInt64Array | Int32Array | Uint8Array | Uint16Array;

function nativeArray(values: ArrayLike<number | bigint | boolean>, dtype: DType): AnyTypedArray | undefined {
  switch (dtype) {
    case 'f64':
      return Float64Array.from(values as ArrayLike<number>, Number);
    case 'f32':
      return Float32Array.from(values as ArrayLike<number>, Number);
    case 'i64':
      return int64Array(values);
    case 'i32':
      return Int32Array.from(values as ArrayLike<number>, Number);
    case 'u8':
      return Uint8Array.from(values as ArrayLike<number>, Number);
    case 'bool':
      return Uint8Array.from(values as ArrayLike<number>, (value) => (value ? 1 : 0));
    default:
      return undefined; // bf16 and f16 have no typed array: they are cast from f32
  }
}

/** Integers as i64, numbers without a bigint for each: as two words, the lower first. */
function int64Array(values: ArrayLike<number | bigint | boolean>): BigInt64Array {
  const array = new BigInt64Array(values.length);
  const words = new Int32Array(array.buffer);
  for (let i = 0; i < values.length; i++) {
    const value = values[i] as number | bigint | boolean;
    if (typeof value === 'number' && Number.isSafeInteger(value)) {
      words[2 * i] = value;
      words[2 * i + 1] = Math.floor(value / 2 ** 32);
    } else {
      array[i] = BigInt(value);
    }
  }
  return array;
}

/** What a typed array holds when no dtype is asked for. */
function dtypeOf(array: AnyTypedArray): DType {
  if (array instanceof Float64Array) return 'f64';
  if (array instanceof BigInt64Array) return 'i64';
  if (array instanceof Int32Array) return 'i32';
  if (array instanceof Uint8Array) return 'u8';
  if (array instanceof Float32Array) return 'f32';
  throw new InvalidArgumentError('tensor: a Uint16Array needs a dtype; expected bf16 or f16');
}

function shapeOf(data: NestedNumbers): number[] {
  const shape: number[] = [];
  let level: number | boolean | NestedNumbers | undefined = data;
  while (Array.isArray(level)) {
    shape.push(level.length);
    level = level[0];
  }
  return shape;
}

function flatten(data: NestedNumbers, shape: readonly number[], out: (number | boolean)[] = [], depth = 0): (number | boolean)[] {
  if (data.length !== shape[depth])
    throw new ShapeError(`tensor: rows have different lengths; got ${data.length}, expected ${shape[depth]}`);
  for (const item of data) {
    const nested = Array.isArray(item);
    if (nested !== depth + 1 < shape.length) throw new ShapeError(`tensor: nesting is uneven; expected ${shape.length} levels`);
    if (nested) flatten(item as NestedNumbers, shape, out, depth + 1);
    else out.push(item as number | boolean);
  }
  return out;
}

/**
 * A tensor from numbers, nested arrays or a typed array (copied). dtype: f32 for plain numbers, that of the typed array otherwise; a Uint16Array holds bf16 or
 * f16 patterns when the dtype says so. Throws a shape error for ragged rows or a wrong number of elements.
 */
export function tensor(data: NestedNumbers | AnyTypedArray, options: TensorOptions = {}): Tensor {
  const typed = ArrayBuffer.isView(data);
  const dtype = options.dtype ?? (typed ? dtypeOf(data) : 'f32');
  const ownShape = typed ? [data.length] : shapeOf(data);
  const shape = options.shape ?? ownShape;
  const bits = typed && data instanceof Uint16Array && (dtype === 'bf16' || dtype === 'f16');
  if (bits || (typed && !(data instanceof Uint16Array) && dtypeOf(data) === dtype)) {
    return toDevice(new Tensor(native.fromTypedArray(data, dtype, shape)), options.device ?? 'cpu');
  }
  const values = typed ? data : flatten(data, ownShape);
  const array = nativeArray(values, dtype);
  if (array) return toDevice(new Tensor(native.fromTypedArray(array, dtype, shape)), options.device ?? 'cpu');
  const wide = native.fromTypedArray(Float32Array.from(values as ArrayLike<number>, Number), 'f32', shape);
  const narrow = op('cast')(wide, dtype);
  wide.dispose();
  return toDevice(new Tensor(narrow), options.device ?? 'cpu');
}

/** x on another device: x itself when it is there already. Throws a device error that says why a device cannot be used. */
export function toDevice(x: Tensor, device: Device): Tensor {
  return x.device === device ? x : new Tensor(toDeviceOp(x.handle, device));
}

/** A tensor filled with one number. */
export function full(shape: readonly number[], value: number, options: CreateOptions = {}): Tensor {
  return toDevice(new Tensor(fullOp(shape, options.dtype ?? 'f32', value)), options.device ?? 'cpu');
}

export const zeros = (shape: readonly number[], options: CreateOptions = {}): Tensor => full(shape, 0, options);
export const ones = (shape: readonly number[], options: CreateOptions = {}): Tensor => full(shape, 1, options);

/** start, start + step, ... : `length` numbers. */
export function arange(length: number, options: CreateOptions & { readonly start?: number; readonly step?: number } = {}): Tensor {
  const x = new Tensor(arangeOp(length, options.dtype ?? 'f32', options.start ?? 0, options.step ?? 1));
  return toDevice(x, options.device ?? 'cpu');
}

export interface RandomOptions extends CreateOptions {
  /** 64 bits. Default 0. */
  readonly seed?: number | bigint;
  /** Separates draws of one seed. Default 0. */
  readonly stream?: number | bigint;
}

/** Uniform numbers in [low, high) (default [0, 1)); a pure function of seed, stream and element index. */
export function uniform(shape: readonly number[], options: RandomOptions & { readonly low?: number; readonly high?: number } = {}): Tensor {
  const { low = 0, high = 1, seed = 0, stream = 0 } = options;
  return toDevice(new Tensor(uniformOp(shape, options.dtype ?? 'f32', low, high, seed, stream)), options.device ?? 'cpu');
}

/** Normal numbers (default mean 0, deviation 1); a pure function of seed, stream and element index. */
export function normal(shape: readonly number[], options: RandomOptions & { readonly mean?: number; readonly std?: number } = {}): Tensor {
  const { mean = 0, std = 1, seed = 0, stream = 0 } = options;
  return toDevice(new Tensor(normalOp(shape, options.dtype ?? 'f32', mean, std, seed, stream)), options.device ?? 'cpu');
}
