import { attention } from '../ops/attention.js';
import type { Tensor } from '../tensor.js';
import type { ForwardContext } from './context.js';

export interface AttendOptions {
  /** Which layer's keys and values of the cache these are. */
  readonly layer: number;
  /** How many of the latest keys a query sees, itself included; default all. */
  readonly window?: number | undefined;
  /** Whether a query sees only what comes before it; default true. False in encoders, which keep no cache. */
  readonly causal?: boolean;
}

/**
 * Attention of q [B, T, H, K] over k and v [B, T, G, K], together with what the context's cache holds for the layer, to [B, T, H, K]. H is a multiple of G.
 */
export function attend(q: Tensor, k: Tensor, v: Tensor, context: ForwardContext, { layer, window, causal = true }: AttendOptions): Tensor {
  const { cache, keyLengths, documents } = context;
  const shared = { causal, ...(window === undefined ? {} : { window }), ...(keyLengths === undefined ? {} : { keyLengths }) };
  if (cache === undefined) return attention(q, k, v, { ...shared, ...(documents === undefined ? {} : { documents }) });
  const kept = cache.append(layer, k, v);
  return attention(q, kept.k, kept.v, { ...shared, queryOffset: cache.starts });
}
