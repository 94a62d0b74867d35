import { bytesOf } from '#dist/io/byte-source.js';

/** A metadata value by its type number; `length` replaces the true length of a text or list. */
export type Field =
  | { readonly type: number; readonly value: number | bigint | string; readonly length?: bigint }
  | { readonly type: number; readonly of: number; readonly values: readonly Field[]; readonly length?: bigint };

/** A tensor with sizes as GGUF lists them (the fastest first); `offset` replaces the true one. */
export interface TensorField {
  readonly name: string;
  readonly dims: readonly number[];
  readonly type: number;
  readonly data: Uint8Array;
  readonly offset?: bigint;
}

export interface GgufParts {
  readonly version?: number;
  readonly tensorCount?: bigint;
  readonly pairCount?: bigint;
  readonly pairs?: readonly (readonly [string, Field])[];
  readonly tensors?: readonly TensorField[];
  readonly alignment?: number;
}

const u32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
};
const u64 = (value: bigint): Buffer => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(value);
  return bytes;
};
const text = (value: string, length?: bigint): Buffer =>
  Buffer.concat([u64(length ?? BigInt(Buffer.byteLength(value))), Buffer.from(value)]);

function payload(field: Field): Buffer {
  if ('values' in field)
    return Buffer.concat([u32(field.of), u64(field.length ?? BigInt(field.values.length)), ...field.values.map(payload)]);
  const bytes = Buffer.alloc(8);
  const value = field.value;
  switch (field.type) {
    case 0:
    case 7:
      bytes.writeUInt8(Number(value));
      return bytes.subarray(0, 1);
    case 1:
      bytes.writeInt8(Number(value));
      return bytes.subarray(0, 1);
    case 2:
      bytes.writeUInt16LE(Number(value));
      return bytes.subarray(0, 2);
    case 3:
      bytes.writeInt16LE(Number(value));
      return bytes.subarray(0, 2);
    case 4:
      return u32(Number(value));
    case 5:
      bytes.writeInt32LE(Number(value));
      return bytes.subarray(0, 4);
    case 6:
      bytes.writeFloatLE(Number(value));
      return bytes.subarray(0, 4);
    case 8:
      return text(String(value), field.length);
    case 11:
      bytes.writeBigInt64LE(BigInt(value));
      return bytes;
    case 12:
      bytes.writeDoubleLE(Number(value));
      return bytes;
    default:
      return u64(BigInt(value));
  }
}

const upTo = (length: number, alignment: number): number => Math.ceil(length / alignment) * alignment;

/** The bytes of a GGUF file with these parts, true or not. */
export function ggufBytes({ version = 3, tensorCount, pairCount, pairs = [], tensors = [], alignment = 32 }: GgufParts): Uint8Array {
  const parts = [Buffer.from('GGUF'), u32(version), u64(tensorCount ?? BigInt(tensors.length)), u64(pairCount ?? BigInt(pairs.length))];
  for (const [key, field] of pairs) parts.push(text(key), u32(field.type), payload(field));
  let offset = 0;
  for (const tensor of tensors) {
    parts.push(
      text(tensor.name),
      u32(tensor.dims.length),
      ...tensor.dims.map((size) => u64(BigInt(size))),
      u32(tensor.type),
      u64(tensor.offset ?? BigInt(offset)),
    );
    offset += upTo(tensor.data.length, alignment);
  }
  const head = Buffer.concat(parts);
  const padding = Buffer.alloc(upTo(head.length, alignment) - head.length);
  const data = tensors.map(({ data: bytes }) => Buffer.concat([bytes, Buffer.alloc(upTo(bytes.length, alignment) - bytes.length)]));
  return Buffer.concat([head, padding, ...data]);
}

export const source = (bytes: Uint8Array) => bytesOf(bytes, 'x.gguf');
