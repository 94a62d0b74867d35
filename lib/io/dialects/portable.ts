import { ConfigError, FormatError } from '../../errors.js';
import type { Tensor } from '../../tensor.js';
import type { JsonObject } from '../json.js';

/** The file formats of LoRA adapters that are understood. */
export const dialects = ['peft', 'kohya', 'mlx', 'diffusers', 'gguf'] as const;
export type Dialect = (typeof dialects)[number];

/** One low-rank pair: the weight of its module changes by scale * B A (transposed for an embedding). */
export interface PortablePair {
  /** [R, K]; of an embedding [R, V]. Convolutions have their kernel behind. */
  readonly a: Tensor;
  /** [N, R]; of an embedding [D, R]. */
  readonly b: Tensor;
  readonly scale: number;
  readonly embedding: boolean;
}

/** A plain LoRA adapter apart from any file format: nothing but low-rank pairs. */
export interface PortableAdapter {
  /** Pairs by the path of their module within its network; of several networks, within the pipeline (`unet.down_blocks.0…`, `text_encoder.…`). */
  readonly pairs: ReadonlyMap<string, PortablePair>;
  /** The networks of a diffusion pipeline it adapts (`unet`, `transformer`, `text_encoder`, ...), where the file says so. */
  readonly components: readonly string[];
  /** The base model that the file names. */
  readonly baseModel: string | undefined;
  dispose(): void;
}

/** The pieces of a pair as they are found in a file. */
export interface FoundPair {
  a?: Tensor;
  b?: Tensor;
  alpha?: number;
}

export const rankOf = ({ a }: Pick<PortablePair, 'a'>): number => a.shape[0] ?? 0;

/** The alpha that gives the pair its scale, without the noise of the last digits. */
export const alphaOf = (pair: PortablePair): number => Number((pair.scale * rankOf(pair)).toPrecision(14));

/** The pair, checked: both factors there, of one rank. */
export function checkedPair(
  file: string,
  path: string,
  found: FoundPair,
  scaleOf: (rank: number) => number,
  embedding = false,
): PortablePair {
  const { a, b } = found;
  if (a === undefined || b === undefined)
    throw new FormatError(`${file}: "${path}" has only one factor; the ${a === undefined ? 'A (down)' : 'B (up)'} part is missing`);
  const [rank = 0] = a.shape;
  if (a.shape.length < 2 || b.shape.length !== a.shape.length || b.shape[1] !== rank || rank === 0)
    throw new FormatError(
      `${file}: the factors of "${path}" do not fit; got [${a.shape.join(', ')}] and [${b.shape.join(', ')}], expected [R, K] and [N, R]`,
    );
  const scale = scaleOf(rank);
  if (!Number.isFinite(scale)) throw new FormatError(`${file}: the scale of "${path}" must be a finite number; got ${scale}`);
  return { a, b, scale, embedding };
}

/** Whether a module is an embedding, judged by its name: most formats do not tell. */
export const isEmbeddingPath = (path: string): boolean => /(^|\.)(embed_tokens|word_embeddings|wte|token_embedding)$/.test(path);

/** The path of a module as an adapter of these networks names it. */
export const pathIn = (components: readonly string[], component: string, path: string): string =>
  components.length > 1 ? `${component}.${path}` : path;

/** The network of a pair and its path there; `transformer` is the network of an adapter that names none. */
export function placeOf({ components }: PortableAdapter, path: string): { readonly component: string; readonly path: string } {
  if (components.length <= 1) return { component: components[0] ?? 'transformer', path };
  const dot = path.indexOf('.');
  return { component: path.slice(0, dot), path: path.slice(dot + 1) };
}

/** Refuses an adapter of several networks, for formats that hold one. */
export function requireOneNetwork({ components }: PortableAdapter, dialect: Dialect): void {
  if (components.length > 1)
    throw new ConfigError(
      `convert: ${dialect} holds the adapter of one network; got ${components.join(' and ')}, expected kohya or safetensors as the format`,
    );
}

/** Refuses pairs that a format has no place for. */
export function requireMatrices(adapter: PortableAdapter, dialect: Dialect, embeddings: boolean): void {
  requireOneNetwork(adapter, dialect);
  const { pairs } = adapter;
  for (const [path, { a, embedding }] of pairs) {
    if (a.shape.length !== 2)
      throw new ConfigError(`convert: ${dialect} has no place for convolutions; got "${path}" with A [${a.shape.join(', ')}]`);
    if (embedding && !embeddings) throw new ConfigError(`convert: ${dialect} has no place for embeddings; got "${path}"`);
  }
}

/**
 * Refuses embeddings and heads that share their matrix: these formats adapt the matrix or nothing, where an adapter here (as in PEFT) adapts one of its two
 * uses. `config` is the base model's `config.json`; without it this cannot be told.
 */
export function requireUntied({ pairs }: PortableAdapter, dialect: Dialect, config: JsonObject | undefined): void {
  for (const [path, { embedding }] of pairs) {
    if (!embedding && path !== 'lm_head') continue;
    if (config === undefined)
      throw new ConfigError(
        `convert: ${dialect} has no place for "${path}" where head and embedding are tied; the base model tells (--model)`,
      );
    if (config.tie_word_embeddings === true)
      throw new ConfigError(
        `convert: head and embedding are tied, and ${dialect} cannot adapt "${path}" alone; merge the adapter and write the model instead`,
      );
  }
}
