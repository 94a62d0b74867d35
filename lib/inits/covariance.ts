import { ConfigError, NonFiniteError, throwIfAborted } from '../errors.js';
import { tensor } from '../ops/create.js';
import { abs, add, cast, div, minimum, where } from '../ops/elementwise.js';
import { indexSelect } from '../ops/index-ops.js';
import { matmul } from '../ops/linalg.js';
import { max, min } from '../ops/reduce.js';
import { narrow, reshape, transpose } from '../ops/shape.js';
import { noGrad, scope, synchronize, unscoped } from '../scope.js';
import type { Tensor } from '../tensor.js';
import { type Calibration, isOfExamples, requireCounts } from './calibration.js';
import { requireFinite } from './finite.js';
import type { InitContext } from './init.js';
import { inMode } from './mode.js';
import { observing } from './observe.js';

/** What the entries of a sample are divided by: the magnitude of the largest one by sign, or the largest magnitude. */
export type Normaliser = 'max' | 'maxabs';

/** The layers whose inputs are looked at, and how. */
interface CovarianceRequest {
  readonly paths: readonly string[];
  readonly normaliser: Normaliser;
  /** Samples to take in, the rest of the data is left alone; null: all. */
  readonly samples: number | null;
  /** Whether the output head has to run. */
  readonly head: boolean;
  /** Called after each batch with the samples so far. */
  readonly onSamples: (samples: number) => void;
}

/** The sum of XᵀX [K, K] over samples X, each divided by its normaliser; f32, or f64 for inputs of f64. */
export class CovarianceSum {
  readonly #path: string;
  readonly #normaliser: Normaliser;
  #sum: Tensor | undefined;
  #smallest: Tensor | undefined;
  #samples = 0;

  constructor(path: string, normaliser: Normaliser) {
    this.#path = path;
    this.#normaliser = normaliser;
  }

  /** Takes in samples x [S, T, K]; `counts` [S, T, 1] tells which rows do, undefined: all. */
  add(x: Tensor, counts: Tensor | undefined): void {
    const next = unscoped(() => scope(() => noGrad(() => this.#with(x, counts))));
    this.dispose();
    this.#sum = next.sum;
    this.#smallest = next.smallest;
    this.#samples += x.shape[0] ?? 0;
  }

  /** The sum over the number of samples; the caller owns it. Throws `ConfigError` without samples, `NonFiniteError` for values that are not finite. */
  async mean(): Promise<Tensor> {
    const sum = this.#sum;
    if (sum === undefined || this.#smallest === undefined)
      throw new ConfigError(`corda: no sample of the data reaches "${this.#path}"; expected targets that the network runs`);
    if ((await this.#smallest.item()) === 0)
      throw new NonFiniteError(
        `corda: the largest entry of a sample of the input of "${this.#path}" is 0, by which it would be divided; try normaliser "maxabs"`,
      );
    await requireFinite([sum], `corda: the input of "${this.#path}"`);
    return div(sum, this.#samples);
  }

  dispose(): void {
    this.#sum?.dispose();
    this.#smallest?.dispose();
  }

  #with(input: Tensor, counts: Tensor | undefined): { sum: Tensor; smallest: Tensor } {
    const x = input.dtype === 'f64' ? input : cast(input, 'f32');
    const compared = this.#normaliser === 'maxabs' ? abs(x) : x;
    const divisor = abs(max(counts === undefined ? compared : where(counts, compared, -Infinity), [1, 2], { keepDim: true }));
    const divided = div(x, divisor);
    const width = x.shape[2] ?? 1;
    const rows = reshape(counts === undefined ? divided : where(counts, divided, 0), [x.size / width, width]);
    const products = matmul(transpose(rows), rows);
    const smallest = min(divisor);
    if (this.#sum === undefined || this.#smallest === undefined) return { sum: products, smallest };
    return { sum: add(this.#sum, products), smallest: minimum(this.#smallest, smallest) };
  }
}

/** An input as samples [S, T, K]: the leading axis counts them; a matrix [T, K] is one sample, or has one in each row. */
function asSamples(x: Tensor, ofExamples: boolean): Tensor {
  const width = x.shape.at(-1) ?? 1;
  const samples = x.rank > 2 || ofExamples ? (x.shape[0] ?? 1) : 1;
  return reshape(x, [samples, x.size / samples / width, width]);
}

interface Samples {
  readonly x: Tensor;
  /** [S, T, 1], bool: which rows count; undefined where all do. */
  readonly counts: Tensor | undefined;
}

/** The first samples of x [S, T, K], at most `most`, of which a row counts at all. */
function counting(x: Tensor, counts: readonly boolean[] | undefined, most: number, path: string): Samples {
  const [all = 0, length = 0] = x.shape;
  if (counts === undefined) return { x: narrow(x, 0, 0, Math.min(all, most)), counts };
  requireCounts('corda', path, counts.length, all * length);
  const masks = Array.from({ length: all }, (_, sample) => counts.slice(sample * length, (sample + 1) * length));
  const chosen = [...masks.keys()].filter((sample) => masks[sample]?.includes(true)).slice(0, most);
  const mask = chosen.flatMap((sample) => masks[sample] ?? []);
  return {
    x: chosen.length === all ? x : indexSelect(x, 0, tensor(chosen, { dtype: 'i64' })),
    counts: mask.every(Boolean) ? undefined : tensor(mask, { shape: [chosen.length, length, 1], dtype: 'bool' }),
  };
}

/**
 * The mean over samples of XᵀX [K, K] for the input of each layer; the caller owns them. A sample is a row of a batch, without its padding, and none where nothing
 * is left; it is normalised for itself, so that the result does not depend on how samples are put into batches.
 */
export async function covariances(request: CovarianceRequest, context: InitContext): Promise<Map<string, Tensor>> {
  const data = context.data as Calibration;
  const { paths, normaliser, samples, head } = request;
  const sums = new Map(paths.map((path) => [path, new CovarianceSum(path, normaliser)]));
  const means = new Map<string, Tensor>();
  try {
    let taken = 0;
    for await (const batch of data.batches()) {
      throwIfAborted(context.signal, 'corda');
      const counts = data.counts(batch, false);
      const examples = data.examples(batch);
      const left = samples === null ? Infinity : samples - taken;
      let seen = 0;
      const onInput = (path: string, input: Tensor): void => {
        const ofExamples = isOfExamples(input, examples);
        const found = counting(asSamples(input, ofExamples), ofExamples ? undefined : counts, left, path);
        const size = found.x.shape[0] ?? 0;
        if (size > 0) sums.get(path)?.add(found.x, found.counts);
        seen = Math.max(seen, size);
      };
      await inMode(context.network, false, () =>
        observing(context.network, paths, { onInput }, async () => noGrad(() => data.forward(batch, head))),
      );
      await synchronize();
      taken += seen;
      request.onSamples(taken);
      if (samples !== null && taken >= samples) break;
    }
    for (const [path, sum] of sums) {
      means.set(path, await sum.mean());
      sum.dispose();
    }
    return means;
  } catch (error) {
    for (const mean of means.values()) mean.dispose();
    throw error;
  } finally {
    for (const sum of sums.values()) sum.dispose();
  }
}
