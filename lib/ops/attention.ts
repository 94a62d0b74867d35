import { op } from '../native.js';
import { Tensor } from '../tensor.js';
import { tensor } from './create.js';

const attentionOp = op('attention');
const ropeOp = op('rope');
const cacheWriteOp = op('cacheWrite');

export interface AttentionOptions {
  /** A query sees only keys up to its own position. Default false. */
  readonly causal?: boolean;
  /** A query sees keys less than this many positions away, itself included. Default no limit. */
  readonly window?: number;
  /** Factor of the dot products. Default 1 / √K. */
  readonly scale?: number;
  /** Caps scores smoothly: softcap · tanh(score / softcap). Default no cap. */
  readonly softcap?: number;
  /** i64 [B]: row b has this many keys; what lies beyond is not read. Default S. */
  readonly keyLengths?: Tensor | readonly number[];
  /** Position of the first query among its keys: one number, or i64 [B]. Default S − T. */
  readonly queryOffset?: Tensor | readonly number[] | number;
  /** bool [B, S]: keys that are false are not seen. */
  readonly keyMask?: Tensor;
  /** i32 [B, T], for T = S: sequences packed in one row; a query sees keys with its own number. */
  readonly documents?: Tensor;
}

/** One number per batch row as an i64 tensor. */
function perRow(value: Tensor | readonly number[] | number, batch: number): Tensor {
  if (value instanceof Tensor) return value;
  const values = typeof value === 'number' ? new Array<number>(batch).fill(value) : value;
  return tensor(BigInt64Array.from(values, BigInt));
}

/**
 * Scaled dot-product attention: q [B, T, H, K] over k and v [B, S, G, K] to [B, T, H, K]. H is a multiple of G: head h uses key head ⌊h / (H / G)⌋. Views whose last
 * dimension is contiguous, such as a narrowed cache, are read in place; no T × S tensor is made. A query that sees no key gives zeros. A query's bits do not
 * depend on its batch, nor on which queries are computed together. Differentiable in q, k and v. Throws a shape error where sizes do not fit.
 */
export function attention(q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions = {}): Tensor {
  const { causal = false, window = 0, softcap = 0, keyLengths, queryOffset, keyMask, documents } = options;
  const batch = q.shape[0] ?? 0;
  const scale = options.scale ?? 1 / Math.sqrt(Math.max(q.shape[3] ?? 1, 1));
  const lengths = keyLengths === undefined ? undefined : perRow(keyLengths, batch);
  const offsets = queryOffset === undefined ? undefined : perRow(queryOffset, batch);
  const out = attentionOp(
    q.handle,
    k.handle,
    v.handle,
    scale,
    softcap,
    causal,
    window,
    lengths?.handle,
    offsets?.handle,
    keyMask?.handle,
    documents?.handle,
  );
  if (lengths !== keyLengths) lengths?.dispose();
  if (offsets !== queryOffset) offsets?.dispose();
  return new Tensor(out);
}

/**
 * Rotary position embedding in the half-split form. x [B, T, H, K]; cos and sin f32 [P, R/2] with R ≤ K (elements from R on stay as they are); positions i64 or
 * i32 [B, T], each below P (checked when the op runs). Differentiable in x.
 */
export function rope(x: Tensor, cos: Tensor, sin: Tensor, positions: Tensor): Tensor {
  return new Tensor(ropeOp(x.handle, cos.handle, sin.handle, positions.handle));
}

/**
 * Writes x [B, T, ..] into cache [B, C, ..] in place: row b at positions position[b], position[b] + 1, ... (i64 [B], or one number for all rows). Same dtype. Not
 * recorded. A position that does not leave room for T fails the op when it runs.
 */
export function cacheWrite(cache: Tensor, x: Tensor, position: Tensor | readonly number[] | number): void {
  const positions = perRow(position, x.shape[0] ?? 0);
  cacheWriteOp(cache.handle, x.handle, positions.handle);
  if (positions !== position) positions.dispose();
}
