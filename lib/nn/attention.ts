import { InvalidArgumentError } from '../errors.js';
import { type AttentionOptions, attention } from '../ops/attention.js';
import { tensor } from '../ops/create.js';
import { add } from '../ops/elementwise.js';
import type { Tensor } from '../tensor.js';
import type { ForwardContext } from './context.js';
import { withPrefix } from './prefix.js';

export interface AttendOptions {
  /** Which layer's keys and values of the cache these are. */
  readonly layer: number;
  /** How many of the latest keys a query sees, itself included; default all. */
  readonly window?: number | undefined;
  /** Whether a query sees only what comes before it; default true. False in encoders, which keep no cache. */
  readonly causal?: boolean;
}

/**
 * Attention of q [B, T, H, K] over k and v [B, T, G, K], behind what the context's cache holds for the layer and the prefix of the context, to [B, T, H, K]. H is a
 * multiple of G. Every query sees the whole prefix of its row, unless a window ends before it.
 */
export function attend(q: Tensor, k: Tensor, v: Tensor, context: ForwardContext, { layer, window, causal = true }: AttendOptions): Tensor {
  const { cache, keyLengths, documents, prefix } = context;
  const shared = { causal, ...(window === undefined ? {} : { window }) };
  if (cache !== undefined) {
    const kept = cache.append(layer, k, v, prefix);
    const lengths = keyLengths === undefined || kept.front === undefined ? keyLengths : add(keyLengths, kept.front);
    return attention(q, kept.k, kept.v, { ...shared, ...(lengths && { keyLengths: lengths }), queryOffset: kept.starts });
  }
  const lengths = keyLengths === undefined ? {} : { keyLengths };
  if (prefix === undefined) return attention(q, k, v, { ...shared, ...lengths, ...(documents === undefined ? {} : { documents }) });
  if (documents !== undefined)
    throw new InvalidArgumentError(
      'attention: packed documents cannot share a prefix; got both, expected rows of one document (packing: false)',
    );
  const whole = withPrefix(prefix, k, v);
  return attention(q, whole.k, whole.v, { ...shared, ...behind(whole.lengths, keyLengths, k) });
}

/** Where queries and keys are whose tokens [B, T, G, K] stand behind a prefix. */
function behind(
  prefix: number | readonly number[],
  keyLengths: Tensor | undefined,
  k: Tensor,
): Pick<AttentionOptions, 'keyLengths' | 'queryOffset'> {
  if (typeof prefix === 'number') return keyLengths === undefined ? {} : { keyLengths: add(keyLengths, prefix) };
  const starts = tensor(BigInt64Array.from(prefix, BigInt));
  return { queryOffset: starts, keyLengths: add(keyLengths ?? k.shape[1] ?? 0, starts) };
}
