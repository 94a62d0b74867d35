/** Sizes of a decoder with gated feed-forward layers. */
export interface StepSizes {
  readonly layers: number;
  readonly hidden: number;
  readonly queryWidth: number;
  readonly keyWidth: number;
  readonly inner: number;
  readonly vocabulary: number;
  readonly tokens: number;
  readonly sequence: number;
  /** Rank of the adapters on all seven linears; 0 for none. */
  readonly rank: number;
  readonly checkpointing: boolean;
}

export interface StepFlops {
  readonly frozen: number;
  readonly attention: number;
  readonly adapters: number;
  readonly head: number;
  readonly total: number;
}

/** Multiply-adds of one training step, two operations each: forward and input gradients of the frozen weights, causal attention (two products forward, five backward), adapters, the head. */
export function stepFlops(sizes: StepSizes): StepFlops {
  const { layers, hidden, queryWidth, keyWidth, inner, vocabulary, tokens, sequence, rank } = sizes;
  const weights = 2 * hidden * queryWidth + 2 * hidden * keyWidth + 3 * hidden * inner;
  const factors = rank * (2 * (hidden + queryWidth) + 2 * (hidden + keyWidth) + 3 * (hidden + inner));
  const again = sizes.checkpointing ? 1 : 0;
  // The inputs of the first layer's query, key and value need no gradient.
  const unneeded = 2 * tokens * hidden * (queryWidth + 2 * keyWidth);
  const frozen = layers * (4 + 2 * again) * tokens * weights - unneeded;
  const attention = layers * (7 + 2 * again) * tokens * sequence * queryWidth;
  const adapters = layers * (6 + 2 * again) * tokens * factors;
  const head = 4 * tokens * hidden * vocabulary;
  return { frozen, attention, adapters, head, total: frozen + attention + adapters + head };
}

/** The sizes of a Llama-like config. Throws when one is missing. */
export function stepSizes(
  config: Readonly<Record<string, unknown>>,
  batch: number,
  sequence: number,
  rank: number,
  checkpointing: boolean,
): StepSizes {
  const size = (key: string, otherwise?: number): number => {
    const value = config[key] ?? otherwise;
    if (typeof value !== 'number') throw new Error(`step: the config has no size "${key}"; got ${String(value)}`);
    return value;
  };
  const hidden = size('hidden_size');
  const heads = size('num_attention_heads');
  const headWidth = size('head_dim', hidden / heads);
  return {
    layers: size('num_hidden_layers'),
    hidden,
    queryWidth: heads * headWidth,
    keyWidth: size('num_key_value_heads', heads) * headWidth,
    inner: size('intermediate_size'),
    vocabulary: size('vocab_size'),
    tokens: batch * sequence,
    sequence,
    rank,
    checkpointing,
  };
}
