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
  /** Pairs by the path of their module within its network. */
  readonly pairs: ReadonlyMap<string, PortablePair>;
  /** The part of a diffusion pipeline it belongs to (`unet`, `transformer`, `text_encoder`, ...), where the file says so. */
  readonly component: string | undefined;
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

/** Refuses pairs that a format has no place for. */
export function requireMatrices({ pairs }: PortableAdapter, dialect: Dialect, embeddings: boolean): void {
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
