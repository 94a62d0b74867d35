import type { Dense } from './op-case.js';

export interface ReferenceOptions {
  readonly causal?: boolean;
  readonly window?: number;
  readonly scale?: number;
  readonly softcap?: number;
  readonly keyLengths?: readonly number[];
  readonly queryOffset?: readonly number[];
  readonly keyMask?: readonly (boolean | number)[];
  readonly documents?: readonly number[];
}

/** Attention by its formula in double, one query after the other. */
export function attentionReference(q: Dense, k: Dense, v: Dense, options: ReferenceOptions = {}): Float64Array {
  const [B = 0, T = 0, H = 0, K = 0] = q.shape;
  const [, S = 0, G = 1] = k.shape;
  const [queries, keys, values] = [q.data, k.data, v.data];
  const { causal, window, softcap, keyLengths, queryOffset, keyMask, documents, scale = 1 / Math.sqrt(K) } = options;
  const out = new Float64Array(B * T * H * K);
  for (let b = 0; b < B; b++) {
    for (let t = 0; t < T; t++) {
      for (let h = 0; h < H; h++) {
        const row = ((b * T + t) * H + h) * K;
        const keyRow = (s: number): number => ((b * S + s) * G + Math.floor((h * G) / H)) * K;
        const position = (queryOffset?.[b] ?? S - T) + t;
        const scores = Array.from({ length: S }, (_, s) => {
          const seen =
            s < (keyLengths?.[b] ?? S) &&
            (!causal || s <= position) &&
            (window === undefined || Math.abs(position - s) < window) &&
            (keyMask?.[b * S + s] ?? true) &&
            documents?.[b * S + s] === documents?.[b * S + t];
          if (!seen) return Number.NEGATIVE_INFINITY;
          let dot = 0;
          for (let c = 0; c < K; c++) dot += (queries[row + c] ?? 0) * (keys[keyRow(s) + c] ?? 0);
          return softcap === undefined ? dot * scale : softcap * Math.tanh((dot * scale) / softcap);
        });
        const most = Math.max(...scores);
        if (most === Number.NEGATIVE_INFINITY) continue;
        const weights = scores.map((score) => Math.exp(score - most));
        const total = weights.reduce((sum, weight) => sum + weight, 0);
        for (const [s, weight] of weights.entries()) {
          if (weight === 0) continue;
          for (let c = 0; c < K; c++) out[row + c] = (out[row + c] ?? 0) + (weight / total) * (values[keyRow(s) + c] ?? 0);
        }
      }
    }
  }
  return out;
}
