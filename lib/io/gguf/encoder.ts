import { InvalidArgumentError } from '../../errors.js';

/** A metadata value with the type it is stored in. */
export type GgufField =
  | { readonly type: 'u32' | 'i32' | 'f32'; readonly value: number }
  | { readonly type: 'bool'; readonly value: boolean }
  | { readonly type: 'string'; readonly value: string }
  | { readonly type: 'u32[]' | 'i32[]' | 'f32[]'; readonly value: readonly number[] }
  | { readonly type: 'string[]'; readonly value: readonly string[] };

const typeIds = { u32: 4, i32: 5, f32: 6, bool: 7, string: 8 } as const;
const arrayId = 9;

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

export function u64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

export function text(value: string): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([u64(bytes.length), bytes]);
}

type Kind = keyof typeof typeIds;

function scalar(kind: Kind, value: number | boolean | string): Buffer {
  if (typeof value === 'string') return text(value);
  if (typeof value === 'boolean') return Buffer.of(value ? 1 : 0);
  const bytes = Buffer.alloc(4);
  if (kind === 'f32') bytes.writeFloatLE(value);
  else if (kind === 'i32') bytes.writeInt32LE(value);
  else bytes.writeUInt32LE(value);
  return bytes;
}

/** The bytes of one metadata pair. Throws `InvalidArgumentError` for a number that its type cannot hold. */
export function encodePair(key: string, { type, value }: GgufField): Buffer {
  const kind = (type.endsWith('[]') ? type.slice(0, -2) : type) as Kind;
  try {
    if (!Array.isArray(value)) return Buffer.concat([text(key), u32(typeIds[kind]), scalar(kind, value as number | boolean | string)]);
    const head = [text(key), u32(arrayId), u32(typeIds[kind]), u64(value.length)];
    return Buffer.concat([...head, ...value.map((each: number | string) => scalar(kind, each))]);
  } catch (cause) {
    if (!(cause instanceof RangeError)) throw cause;
    throw new InvalidArgumentError(`writeGguf: metadata "${key}" does not fit its type ${type}; got ${String(value)}`, { cause });
  }
}
