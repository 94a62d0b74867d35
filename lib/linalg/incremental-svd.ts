import { InvalidArgumentError, ShapeError } from '../errors.js';
import { add, cast, div, mul, square, sub } from '../ops/elementwise.js';
import { concat } from '../ops/join.js';
import { mean as meanOver, sum } from '../ops/reduce.js';
import { contiguous, narrow, transpose, unsqueeze } from '../ops/shape.js';
import { noGrad, scope, unscoped } from '../scope.js';
import type { Tensor } from '../tensor.js';
import { signOfLargest } from './signs.js';
import { svd } from './svd.js';
import { svdLowrank } from './svd-lowrank.js';

export interface IncrementalSvdOptions {
  /** Components to keep, K. Default: the smaller side of the first batch. */
  readonly rank?: number;
  /** Decompose with {@link svdLowrank} instead of {@link svd}: faster for wide rows, approximate. Needs `rank`. */
  readonly lowrank?: {
    /** Width of the sketch, at least `rank`. Default 2 rank. */
    readonly q?: number;
    /** Power steps. Default 4. */
    readonly niter?: number;
    /** Of every sketch. Default 0. */
    readonly seed?: number | bigint;
  };
}

/** What a new batch is joined to; replaced as a whole. */
interface State {
  /** [K, N]. */
  readonly components: Tensor;
  /** [K]. */
  readonly singularValues: Tensor;
  /** [1, N], f64. */
  readonly mean: Tensor;
  /** [1, N], f64: of the whole population, not of a sample. */
  readonly variance: Tensor;
  readonly samples: number;
}

/**
 * The principal components of rows that come in batches: a truncated SVD of all rows less their mean, of which only K components, the mean and the variance
 * are kept. Follows `IncrementalPCA` of scikit-learn and PEFT. With K at least the rank of the data the result is the exact one, however the rows are cut; else
 * the last components are biased. Mean and variance are summed in f64; the decomposition is f32 (f64 for f64 rows). In each component the entry of largest
 * magnitude is positive.
 *
 * Paper: "Incremental Learning for Robust Visual Tracking".
 *
 * @example
 * const pca = new IncrementalSvd({ rank: 16 });
 * for await (const rows of activations) await pca.update(rows);
 * const a = pca.components; // [16, N]
 */
export class IncrementalSvd {
  readonly #options: IncrementalSvdOptions;
  #state: State | undefined;
  #busy = false;

  constructor(options: IncrementalSvdOptions = {}) {
    const { rank, lowrank } = options;
    if (rank !== undefined && !(Number.isInteger(rank) && rank >= 1)) {
      throw new InvalidArgumentError(`IncrementalSvd: the rank is not a positive whole number; got ${rank}`);
    }
    if (lowrank !== undefined && rank === undefined) {
      throw new InvalidArgumentError('IncrementalSvd: lowrank needs a rank; got none');
    }
    if (lowrank?.q !== undefined && !(Number.isInteger(lowrank.q) && lowrank.q >= (rank ?? 0))) {
      throw new InvalidArgumentError(`IncrementalSvd: the sketch is narrower than the rank; got q ${lowrank.q}, expected at least ${rank}`);
    }
    this.#options = options;
  }

  /**
   * Takes in a batch of rows [B, N], B at least K. Resolves when its result is there; a batch that is refused leaves everything as it was. Throws `ShapeError`
   * for rows of another width or too few of them, `NonFiniteError` for NaN or infinite values.
   */
  async update(batch: Tensor): Promise<void> {
    const rank = this.#rankFor(batch);
    if (this.#busy) throw new InvalidArgumentError('IncrementalSvd: an update is still running; await it before the next');
    this.#busy = true;
    const next = unscoped(() => scope(() => noGrad(() => this.#join(batch.detach(), rank))));
    try {
      await next.singularValues.data();
      release(this.#state);
      this.#state = next;
    } catch (error) {
      release(next);
      throw error;
    } finally {
      this.#busy = false;
    }
  }

  /** [K, N], orthonormal rows, the most important first. Owned by this object until the next update. */
  get components(): Tensor {
    return this.#current.components;
  }

  /** [K], largest first. */
  get singularValues(): Tensor {
    return this.#current.singularValues;
  }

  /** [N], f64: the mean of all rows (a new tensor). */
  get mean(): Tensor {
    return narrowToVector(this.#current.mean);
  }

  /** [N], f64: the variance of all rows, divided by their number (a new tensor). */
  get variance(): Tensor {
    return narrowToVector(this.#current.variance);
  }

  /** [K], f64: s² / (rows - 1) (a new tensor). */
  get explainedVariance(): Tensor {
    const { singularValues, samples } = this.#current;
    return scope(() => div(square(cast(singularValues, 'f64')), samples - 1));
  }

  /** [K], f64: the share of each component in the variance of all rows (a new tensor). */
  get explainedVarianceRatio(): Tensor {
    const { singularValues, samples, variance } = this.#current;
    return scope(() => div(square(cast(singularValues, 'f64')), mul(sum(variance), samples)));
  }

  /** Rows taken in so far. */
  get samplesSeen(): number {
    return this.#state?.samples ?? 0;
  }

  dispose(): void {
    release(this.#state);
    this.#state = undefined;
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  get #current(): State {
    if (this.#state === undefined) throw new InvalidArgumentError('IncrementalSvd: no batch was taken in yet; call update first');
    return this.#state;
  }

  #rankFor(batch: Tensor): number {
    const [rows = 0, width = 0] = batch.shape;
    if (batch.rank !== 2 || rows === 0 || width === 0) {
      throw new ShapeError(`IncrementalSvd: needs rows [B, N]; got [${batch.shape.join(', ')}]`);
    }
    const known = this.#state?.components.shape[1];
    if (known !== undefined && known !== width) {
      throw new ShapeError(`IncrementalSvd: rows of another width; got ${width}, expected ${known}`);
    }
    const rank = this.#state?.components.shape[0] ?? this.#options.rank ?? Math.min(rows, width);
    if (rank > rows || rank > width) {
      throw new ShapeError(
        `IncrementalSvd: the batch is too small for rank ${rank}; got [${rows}, ${width}], expected at least ${rank} of both`,
      );
    }
    return rank;
  }

  #join(batch: Tensor, rank: number): State {
    const dtype = batch.dtype === 'f64' ? 'f64' : 'f32';
    const rows = batch.shape[0] as number;
    const exact = cast(batch, 'f64');
    const batchMean = meanOver(exact, 0, { keepDim: true });
    const centred = sub(exact, batchMean);
    const spread = sum(square(centred), 0, { keepDim: true });
    const old = this.#state;
    if (old === undefined) {
      return { ...this.#decompose(cast(centred, dtype), rank), mean: batchMean, variance: div(spread, rows), samples: rows };
    }
    const samples = old.samples + rows;
    const shift = sub(old.mean, batchMean);
    const mean = add(mul(old.mean, old.samples / samples), mul(batchMean, rows / samples));
    const between = mul(square(shift), (old.samples * rows) / samples);
    const variance = div(add(add(mul(old.variance, old.samples), spread), between), samples);
    const correction = mul(shift, Math.sqrt((old.samples * rows) / samples));
    const kept = mul(unsqueeze(old.singularValues, 1), old.components);
    const stack = concat([cast(kept, dtype), cast(centred, dtype), cast(correction, dtype)]);
    return { ...this.#decompose(stack, rank), mean, variance, samples };
  }

  #decompose(stack: Tensor, rank: number): Pick<State, 'components' | 'singularValues'> {
    const { lowrank } = this.#options;
    const { s, vt } = lowrank === undefined ? svd(stack) : sketched(stack, { q: 2 * rank, niter: 4, seed: 0, ...lowrank });
    const leading = narrow(vt, 0, 0, rank);
    return { components: mul(leading, signOfLargest(leading, 1)), singularValues: contiguous(narrow(s, 0, 0, rank)) };
  }
}

function sketched(stack: Tensor, options: { q: number; niter: number; seed: number | bigint }): { s: Tensor; vt: Tensor } {
  const { s, v } = svdLowrank(stack, options);
  return { s, vt: transpose(v) };
}

const narrowToVector = (row: Tensor): Tensor => sum(row, 0);

function release(state: State | undefined): void {
  for (const value of Object.values(state ?? {})) if (typeof value !== 'number') (value as Tensor).dispose();
}
