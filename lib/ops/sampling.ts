import { op } from '../native.js';
import { Tensor } from '../tensor.js';
import { tensor } from './create.js';

const sampleOp = op('sample');
const repetitionPenaltyOp = op('repetitionPenalty');

export interface SampleOptions {
  /** Logits are divided by it; 0 takes the largest. Default 1. */
  readonly temperature?: number;
  /** Choose among the k largest. Default 0: all. */
  readonly topK?: number;
  /** Choose among the fewest most likely tokens whose probabilities sum to this. Default 1: all. */
  readonly topP?: number;
  /** 64 bits. One for all rows, whose draws then differ by row, or one for each row, whose draws then do not depend on the batch. Default 0. */
  readonly seed?: number | bigint | readonly (number | bigint)[];
  /** Counts the draws of one seed. Default 0. */
  readonly step?: number | bigint;
}

export interface SampledTokens {
  /** i64 [B]. */
  readonly ids: Tensor;
  /** f32 [B]: logarithm of the probability each was drawn with (0 at temperature 0). */
  readonly logProbabilities: Tensor;
  /** f32 [B]: the same under the softmax of the logits as given. */
  readonly rawLogProbabilities: Tensor;
}

/**
 * Draws one token a row from logits [B, V], without sorting. Temperature first, then topK, then topP; equal logits compete in order of index. Not differentiable.
 * Throws for options out of range; logits that are not finite reject the results with a non-finite error.
 */
export function sample(logits: Tensor, options: SampleOptions = {}): SampledTokens {
  const { temperature = 1, topK = 0, topP = 1, seed = 0, step = 0 } = options;
  const seeds = typeof seed === 'object' ? seed : [seed];
  const [ids, logProbabilities, rawLogProbabilities] = sampleOp(logits.handle, temperature, topK, topP, seeds, step).map(
    (handle) => new Tensor(handle),
  );
  return { ids: ids as Tensor, logProbabilities: logProbabilities as Tensor, rawLogProbabilities: rawLogProbabilities as Tensor };
}

/**
 * New logits [B, V] in which the tokens of `ids` are less likely: divided by `penalty` where positive, multiplied where negative, once however often a token occurs. `ids`:
 * i64 [B, N] with negative entries as padding, or an array of ids for each row. Not differentiable.
 */
export function repetitionPenalty(logits: Tensor, ids: Tensor | readonly (readonly number[])[], penalty: number): Tensor {
  if (ids instanceof Tensor) return new Tensor(repetitionPenaltyOp(logits.handle, ids.handle, penalty));
  const longest = Math.max(0, ...ids.map((row) => row.length));
  const padded = BigInt64Array.from(
    ids.flatMap((row) => [...row, ...new Array<number>(longest - row.length).fill(-1)]),
    BigInt,
  );
  const seen = tensor(padded, { shape: [ids.length, longest] });
  const result = new Tensor(repetitionPenaltyOp(logits.handle, seen.handle, penalty));
  seen.dispose();
  return result;
}
