import { parse } from 'yaml';
import { ConfigError, FormatError } from '../errors.js';
import { kSignBits, type SignBits } from '../ops/sign.js';
import { isJsonObject } from './json.js';

/** Methods of the files that the authors of binary adapters published, by the name in their YAML. */
export const kBinaryMethods = ['adaptformer', 'adaptformer-bihead', 'lora', 'lora-bihead'] as const;
export type BinaryMethod = (typeof kBinaryMethods)[number];

/** What the YAML beside a file says; the file itself has no header. */
export interface BinaryAdapterInfo {
  readonly backbone: string;
  readonly bit: SignBits;
  readonly dataset: string;
  readonly dim: number;
  readonly method: BinaryMethod;
  readonly num_class: number;
  readonly scale: number;
}

/** Sizes of the model that a file is for. Default: ViT-B/16. */
export interface BinaryBackbone {
  readonly blocks: number;
  readonly width: number;
}
export const kVitBase: BinaryBackbone = { blocks: 12, width: 768 };

/** A matrix [N, K] of few bits: codes as `signQuantize` makes them. */
export interface BinaryMatrix {
  /** As the reference implementation calls it: `blocks.0.adapter_mlp.adapter_down`. */
  readonly name: string;
  readonly shape: readonly [number, number];
  readonly bits: SignBits;
  readonly codes: Uint8Array;
  /** Mean and standard deviation, as they stand in the file. */
  readonly meta: Float32Array;
}

/** The contents of a file. */
export interface BinaryAdapterFile {
  readonly info: BinaryAdapterInfo;
  readonly matrices: readonly BinaryMatrix[];
  /** A head of one bit without bias, or weight [C, width] and bias [C] in f32. */
  readonly head: BinaryMatrix | { readonly weight: Float32Array; readonly bias: Float32Array };
}

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) > 0;

/** Reads the YAML beside a file. Throws `ConfigError` for a key that is missing or cannot be. */
export function readBinaryInfo(text: string): BinaryAdapterInfo {
  const found: unknown = parse(text);
  const wrong = (key: string, got: unknown, expected: string): ConfigError =>
    new ConfigError(`binary adapter: "${key}" cannot be used; got ${JSON.stringify(got) ?? 'nothing'}, expected ${expected}`);
  if (!isJsonObject(found)) throw new ConfigError('binary adapter: the description is not a table of keys');
  const { backbone = '', bit, dataset = '', dim, method, num_class, scale } = found;
  if (!kSignBits.includes(bit as SignBits)) throw wrong('bit', bit, '1, 2, 4 or 8');
  if (!isCount(dim)) throw wrong('dim', dim, 'a positive whole number');
  if (!kBinaryMethods.includes(method as BinaryMethod)) throw wrong('method', method, kBinaryMethods.join(', '));
  if (!isCount(num_class)) throw wrong('num_class', num_class, 'a positive whole number');
  if (typeof scale !== 'number' || !Number.isFinite(scale)) throw wrong('scale', scale, 'a number');
  return {
    backbone: String(backbone),
    bit: bit as SignBits,
    dataset: String(dataset),
    dim,
    method: method as BinaryMethod,
    num_class,
    scale,
  };
}

/** The text of the YAML beside a file. */
export function writeBinaryInfo({ backbone, bit, dataset, dim, method, num_class, scale }: BinaryAdapterInfo): string {
  const float = Number.isInteger(scale) ? scale.toFixed(1) : String(scale);
  const rows = [
    `backbone: ${backbone}`,
    `bit: ${bit}`,
    `dataset: ${dataset}`,
    `dim: ${dim}`,
    `method: ${method}`,
    `num_class: ${num_class}`,
  ];
  return `${[...rows, `scale: ${float}`].join('\n')}\n`;
}

interface MatrixPlace {
  readonly name: string;
  readonly shape: readonly [number, number];
  readonly bits: SignBits;
}

const kHead = 'head';

/** The matrices of a file in its order, the head among them where it has few bits. */
function placesOf({ bit: bits, dim, method, num_class }: BinaryAdapterInfo, { blocks, width }: BinaryBackbone): MatrixPlace[] {
  const parts = method.startsWith('lora') ? ['attn.lora_q', 'attn.lora_v'] : ['adapter_mlp'];
  const adapters = Array.from({ length: blocks }, (_, block) =>
    parts.flatMap((part): MatrixPlace[] => [
      { name: `blocks.${block}.${part}.adapter_down`, shape: [dim, width], bits },
      { name: `blocks.${block}.${part}.adapter_up`, shape: [width, dim], bits },
    ]),
  ).flat();
  return method.endsWith('-bihead') ? [...adapters, { name: kHead, shape: [num_class, width], bits: 1 }] : adapters;
}

/** Bytes of the codes of a matrix. Throws `ConfigError` where they would end inside a byte, which the format loses. */
function codeBytes({ name, shape, bits }: MatrixPlace): number {
  const count = shape[0] * shape[1] * bits;
  if (count % 8 !== 0)
    throw new ConfigError(
      `binary adapter: "${name}" does not fill whole bytes, which these files cannot hold; got [${shape.join(', ')}] at ${bits} bits, expected a multiple of 8 bits`,
    );
  return count / 8;
}

const isBihead = ({ method }: BinaryAdapterInfo): boolean => method.endsWith('-bihead');

/** Bytes of a file of this description. */
export function binaryAdapterBytes(info: BinaryAdapterInfo, backbone: BinaryBackbone = kVitBase): number {
  const codes = placesOf(info, backbone).reduce((total, place) => total + codeBytes(place) + 8, 0);
  return codes + (isBihead(info) ? 0 : 4 * info.num_class * (backbone.width + 1));
}

/**
 * Takes the bytes of a file apart: codes, then mean and deviation as little-endian f32, matrix after matrix, and a head. Throws
 * `FormatError` when the length is not that of the description, and for a mean or deviation that cannot be.
 */
export function readBinaryAdapter(bytes: Uint8Array, info: BinaryAdapterInfo, backbone: BinaryBackbone = kVitBase): BinaryAdapterFile {
  const expected = binaryAdapterBytes(info, backbone);
  if (bytes.length !== expected)
    throw new FormatError(
      `binary adapter: ${bytes.length < expected ? 'the file is too short' : 'there are bytes after the end'}; got ${bytes.length} bytes, expected ${expected} ` +
        `for ${info.method} of dim ${info.dim} at ${info.bit} bits with ${info.num_class} classes`,
    );
  let at = 0;
  const floats = (count: number): Float32Array => {
    const view = new DataView(bytes.buffer, bytes.byteOffset + at, 4 * count);
    at += 4 * count;
    return Float32Array.from({ length: count }, (_, i) => view.getFloat32(4 * i, true));
  };
  const all = placesOf(info, backbone).map((place): BinaryMatrix => {
    const codes = bytes.slice(at, at + codeBytes(place));
    at += codes.length;
    const meta = floats(2);
    const [mean, deviation] = meta as unknown as [number, number];
    if (!Number.isFinite(mean) || !(deviation > 0 && deviation < Infinity))
      throw new FormatError(`binary adapter: "${place.name}" has no possible mean and deviation; got ${mean} and ${deviation}`);
    return { ...place, codes, meta };
  });
  if (isBihead(info)) return { info, matrices: all.slice(0, -1), head: all.at(-1) as BinaryMatrix };
  return { info, matrices: all, head: { weight: floats(info.num_class * backbone.width), bias: floats(info.num_class) } };
}

/** The bytes of a file. Throws `ConfigError` for matrices that are not those of the description. */
export function writeBinaryAdapter({ info, matrices, head }: BinaryAdapterFile, backbone: BinaryBackbone = kVitBase): Uint8Array {
  const bytes = new Uint8Array(binaryAdapterBytes(info, backbone));
  const view = new DataView(bytes.buffer);
  let at = 0;
  const floats = (values: Float32Array): void => {
    for (const value of values) {
      view.setFloat32(at, value, true);
      at += 4;
    }
  };
  const given = 'codes' in head ? [...matrices, head] : matrices;
  const places = placesOf(info, backbone);
  if (given.length !== places.length)
    throw new ConfigError(`binary adapter: got ${given.length} matrices, expected ${places.length} for ${info.method}`);
  for (const [i, place] of places.entries()) {
    const matrix = given[i];
    const fits = matrix !== undefined && matrix.bits === place.bits && matrix.shape.every((size, side) => size === place.shape[side]);
    if (!fits || matrix.codes.length !== codeBytes(place))
      throw new ConfigError(
        `binary adapter: "${place.name}" is not [${place.shape.join(', ')}] at ${place.bits} bits; got ${matrix === undefined ? 'nothing' : `[${matrix.shape.join(', ')}] at ${matrix.bits} bits`}`,
      );
    bytes.set(matrix.codes, at);
    at += matrix.codes.length;
    floats(matrix.meta);
  }
  if (!('codes' in head)) {
    floats(head.weight);
    floats(head.bias);
  }
  return bytes;
}
