import { FormatError } from '../errors.js';
import type { SafetensorsDtype } from './safetensors-header.js';

/** The memory of tensors, a file of its own in the archive. */
export interface PickledStorage {
  readonly dtype: SafetensorsDtype;
  /** Name of its file. */
  readonly key: string;
  /** How many elements it has. */
  readonly elements: number;
}

/** A tensor in its storage; offset and strides count elements. */
export class PickledTensor {
  readonly storage: PickledStorage;
  readonly offset: number;
  readonly shape: readonly number[];
  readonly strides: readonly number[];

  constructor(storage: PickledStorage, offset: number, shape: readonly number[], strides: readonly number[]) {
    this.storage = storage;
    this.offset = offset;
    this.shape = shape;
    this.strides = strides;
  }
}

/** A function or class that the file names. */
class Global {
  readonly name: string;

  constructor(name: string) {
    this.name = name;
  }
}

/** A storage on the stack. */
class Storage implements PickledStorage {
  readonly dtype: SafetensorsDtype;
  readonly key: string;
  readonly elements: number;

  constructor(dtype: SafetensorsDtype, key: string, elements: number) {
    this.dtype = dtype;
    this.key = key;
    this.elements = elements;
  }
}

/** What stands on the stack while a file is read. */
type Value = null | boolean | number | string | readonly Value[] | Map<Value, Value> | Global | Storage | PickledTensor;

/** Element types by the class of their storage. */
const storages: Readonly<Record<string, SafetensorsDtype>> = {
  'torch.FloatStorage': 'F32',
  'torch.DoubleStorage': 'F64',
  'torch.HalfStorage': 'F16',
  'torch.BFloat16Storage': 'BF16',
  'torch.LongStorage': 'I64',
  'torch.IntStorage': 'I32',
  'torch.ShortStorage': 'I16',
  'torch.CharStorage': 'I8',
  'torch.ByteStorage': 'U8',
  'torch.BoolStorage': 'BOOL',
};

/** A pickle that makes more values is not that of an adapter: a tensor takes some 25, and each takes far more memory than file. */
const kMaxValues = 1 << 22;

const kDict = 'collections.OrderedDict';
const kTensor = 'torch._utils._rebuild_tensor_v2';
const kParameter = 'torch._utils._rebuild_parameter';

/** All that a file may name; none of it is looked up anywhere. */
const known: ReadonlySet<string> = new Set([kDict, kTensor, kParameter, ...Object.keys(storages)]);

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
/** No tensor has more dimensions. */
const kMaxRank = 16;
const areSizes = (value: unknown): value is readonly number[] => Array.isArray(value) && value.length <= kMaxRank && value.every(isCount);

/**
 * The dictionary of tensors that torch.save wrote, from the pickle in its archive. Reads the few instructions that such a dictionary takes and builds plain data:
 * nothing of the file is run. Throws `FormatError` for every other instruction, and for any function or class but those of tensors, by its name.
 */
export function readTensorPickle(bytes: Uint8Array, file: string): Map<string, PickledTensor> {
  const found = new TensorUnpickler(bytes, file).read();
  if (!(found instanceof Map)) throw new FormatError(`${file}: holds no dictionary of tensors; got ${describe(found)}`);
  const tensors = new Map<string, PickledTensor>();
  for (const [name, value] of found) {
    if (typeof name !== 'string' || !(value instanceof PickledTensor))
      throw new FormatError(
        `${file}: holds more than tensors by name; got ${describe(value)} under ${typeof name === 'string' ? `"${name}"` : describe(name)}`,
      );
    tensors.set(name, value);
  }
  return tensors;
}

function describe(value: Value): string {
  if (value === null || typeof value === 'boolean' || typeof value === 'number') return String(value);
  if (typeof value === 'string') return 'a text';
  if (Array.isArray(value)) return 'a list';
  if (value instanceof Map) return 'a dictionary';
  if (value instanceof Global) return value.name;
  return value instanceof PickledTensor ? 'a tensor' : 'a storage';
}

/** The machine that a pickle is a program of, with the instructions of dictionaries of tensors alone. */
class TensorUnpickler {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #file: string;
  readonly #memo = new Map<number, Value>();
  readonly #marks: number[] = [];
  #stack: Value[] = [];
  #at = 0;
  #made = 0;

  constructor(bytes: Uint8Array, file: string) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#file = file;
  }

  read(): Value {
    for (;;) {
      const code = this.#byte();
      if (code === 0x2e) return this.#pop();
      this.#run(code);
    }
  }

  #run(code: number): void {
    const value = this.#valueOf(code);
    if (value === undefined) {
      this.#change(code);
      return;
    }
    if (++this.#made > kMaxValues) throw this.#refused(`its pickle makes more than ${kMaxValues} values`);
    this.#stack.push(value);
  }

  /** What an instruction puts on the stack; undefined for those that do something else. */
  #valueOf(code: number): Value | undefined {
    switch (code) {
      case 0x7d: // EMPTY_DICT
        return new Map();
      case 0x5d: // EMPTY_LIST
      case 0x29: // EMPTY_TUPLE
        return [];
      case 0x74: // TUPLE
        return this.#popMarked();
      case 0x85: // TUPLE1
      case 0x86: // TUPLE2
      case 0x87: // TUPLE3
        return this.#popMany(code - 0x84);
      case 0x4e: // NONE
        return null;
      case 0x88: // NEWTRUE
      case 0x89: // NEWFALSE
        return code === 0x88;
      case 0x4b: // BININT1
        return this.#byte();
      case 0x4d: // BININT2
        return this.#view.getUint16(this.#take(2), true);
      case 0x4a: // BININT
        return this.#view.getInt32(this.#take(4), true);
      case 0x8a: // LONG1
        return this.#long(this.#byte());
      case 0x58: // BINUNICODE
        return this.#text(this.#take(4));
      case 0x63: // GLOBAL
        return this.#global(`${this.#line()}.${this.#line()}`);
      case 0x68: // BINGET
        return this.#remembered(this.#byte());
      case 0x6a: // LONG_BINGET
        return this.#remembered(this.#view.getUint32(this.#take(4), true));
      case 0x51: // BINPERSID
        return this.#storage(this.#pop());
      case 0x52: // REDUCE
        return this.#called(this.#popMany(2));
      default:
        return undefined;
    }
  }

  #change(code: number): void {
    switch (code) {
      case 0x80: // PROTO
        this.#protocol(this.#byte());
        break;
      case 0x28: // MARK
        this.#marks.push(this.#stack.length);
        break;
      case 0x71: // BINPUT
        this.#memo.set(this.#byte(), this.#top());
        break;
      case 0x72: // LONG_BINPUT
        this.#memo.set(this.#view.getUint32(this.#take(4), true), this.#top());
        break;
      case 0x73: // SETITEM
        this.#setItems(this.#popMany(2));
        break;
      case 0x75: // SETITEMS
        this.#setItems(this.#popMarked());
        break;
      case 0x62: // BUILD
        this.#build(this.#pop());
        break;
      default:
        throw this.#refused(
          `instruction 0x${code.toString(16).padStart(2, '0')} at byte ${this.#at - 1} is not one of a dictionary of tensors`,
        );
    }
  }

  #refused(reason: string): FormatError {
    return new FormatError(`${this.#file}: is not read; ${reason}`);
  }

  #protocol(version: number): void {
    if (version !== 2) throw this.#refused(`it is a pickle of protocol ${version}, expected 2, which torch.save writes`);
  }

  /** The next `count` bytes: where they begin. */
  #take(count: number): number {
    const start = this.#at;
    if (start + count > this.#bytes.length) throw this.#refused('its pickle is cut off');
    this.#at += count;
    return start;
  }

  #byte(): number {
    return this.#bytes[this.#take(1)] as number;
  }

  #text(lengthAt: number): string {
    const length = this.#view.getUint32(lengthAt, true);
    const start = this.#take(length);
    return this.#decoded(start, start + length);
  }

  #line(): string {
    const end = this.#bytes.indexOf(0x0a, this.#at);
    if (end < 0) throw this.#refused('its pickle is cut off');
    const line = this.#decoded(this.#at, end);
    this.#at = end + 1;
    return line;
  }

  #decoded(start: number, end: number): string {
    try {
      return new TextDecoder('utf-8', { fatal: true }).decode(this.#bytes.subarray(start, end));
    } catch (cause) {
      throw new FormatError(`${this.#file}: is not read; a text of its pickle is not UTF-8`, { cause });
    }
  }

  /** A number of `count` bytes, little-endian with a sign. */
  #long(count: number): number {
    const start = this.#take(count);
    let value = 0n;
    for (let i = 0; i < count; i++) value |= BigInt(this.#bytes[start + i] as number) << BigInt(8 * i);
    const number = Number(BigInt.asIntN(8 * count, value));
    if (!Number.isSafeInteger(number)) throw this.#refused(`a number of its pickle is too large; got ${count} bytes`);
    return number;
  }

  #pop(): Value {
    return this.#popMany(1)[0] as Value;
  }

  #popMany(count: number): Value[] {
    if (this.#stack.length - (this.#marks.at(-1) ?? 0) < count) throw this.#refused('its pickle takes what is not there');
    return this.#stack.splice(this.#stack.length - count, count);
  }

  #popMarked(): Value[] {
    const mark = this.#marks.pop();
    if (mark === undefined) throw this.#refused('its pickle takes what is not there');
    return this.#stack.splice(mark);
  }

  #top(): Value {
    const value = this.#pop();
    this.#stack.push(value);
    return value;
  }

  #remembered(place: number): Value {
    const value = this.#memo.get(place);
    if (value === undefined) throw this.#refused('its pickle takes what is not there');
    return value;
  }

  #global(name: string): Global {
    if (!known.has(name)) throw this.#refused(`it names "${name}", which no dictionary of tensors needs and which is not run`);
    return new Global(name);
  }

  #storage(id: Value): Storage {
    const [kind, type, key, , elements] = Array.isArray(id) ? (id as readonly Value[]) : [];
    const dtype = type instanceof Global ? storages[type.name] : undefined;
    if (kind !== 'storage' || dtype === undefined || typeof key !== 'string' || !isCount(elements))
      throw this.#refused('what it says of a storage is not understood');
    return new Storage(dtype, key, elements);
  }

  /** What a call gives: an empty dictionary, or a tensor. */
  #called([call = null, given]: readonly Value[]): Value {
    if (!(call instanceof Global) || !Array.isArray(given)) throw this.#refused(`it calls ${describe(call)}`);
    const parts = given as readonly Value[];
    if (call.name === kDict && parts.length === 0) return new Map();
    if (call.name === kParameter && parts[0] instanceof PickledTensor) return parts[0];
    const [storage, offset, shape, strides] = parts;
    if (call.name === kTensor && storage instanceof Storage && isCount(offset) && areSizes(shape) && areSizes(strides))
      return new PickledTensor(storage, offset, shape, strides);
    throw this.#refused(`it calls ${call.name} with what is not understood`);
  }

  #setItems(items: readonly Value[]): void {
    const target = this.#top();
    if (!(target instanceof Map) || items.length % 2 !== 0) throw this.#refused(`it puts entries into ${describe(target)}`);
    for (let i = 0; i < items.length; i += 2) target.set(items[i] as Value, items[i + 1] as Value);
  }

  /** Attributes of a dictionary, such as the versions of modules, say nothing of tensors. */
  #build(state: Value): void {
    const target = this.#top();
    if (!(target instanceof Map && state instanceof Map)) throw this.#refused(`it changes ${describe(target)}`);
  }
}
