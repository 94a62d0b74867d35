import { withPlace } from '../errors.js';
import { IncrementalSvd } from '../linalg/incremental-svd.js';
import { clone, mul } from '../ops/elementwise.js';
import { sum } from '../ops/reduce.js';
import { noGrad, scope, unscoped } from '../scope.js';
import type { Tensor } from '../tensor.js';

const kSeed = 42;
const kPowerSteps = 4;

/** The principal components of one layer's input, batch by batch, and which of them hardly turn any more. */
export class PrincipalComponents {
  readonly count: number;
  readonly #path: string;
  readonly #similarity: number;
  readonly #pca: IncrementalSvd;
  #settled: readonly boolean[];
  #batches = 0;
  #ratios: readonly number[] = [];

  /** `similarity`: the cosine between successive estimates of a component from which on it counts as settled. */
  constructor(path: string, count: number, similarity: number) {
    this.#path = path;
    this.count = count;
    this.#similarity = similarity;
    this.#pca = new IncrementalSvd({ rank: count, lowrank: { q: 2 * count, niter: kPowerSteps, seed: kSeed } });
    this.#settled = Array.from({ length: count }, () => false);
  }

  /** Batches taken in. */
  get batches(): number {
    return this.#batches;
  }

  /** Share of each component in the variance of all rows; zero for an input without variance. */
  get ratios(): readonly number[] {
    return this.#ratios;
  }

  /** Whether each of the first `rank` components is settled. */
  isSettled(rank: number): boolean {
    return this.#settled.slice(0, rank).every(Boolean);
  }

  /** Takes in rows [B, K], B at least `count`. Of one object one update at a time. */
  async update(rows: Tensor): Promise<void> {
    try {
      await unscoped(() => scope(() => this.#update(rows)));
    } catch (error) {
      throw withPlace(error, `eva: "${this.#path}"`);
    }
  }

  /** [count, K]: owned by this object until the next update. */
  get components(): Tensor {
    return this.#pca.components;
  }

  /** [count], largest first: likewise. */
  get singularValues(): Tensor {
    return this.#pca.singularValues;
  }

  dispose(): void {
    this.#pca.dispose();
  }

  async #update(rows: Tensor): Promise<void> {
    const before = this.#batches === 0 ? undefined : noGrad(() => clone(this.#pca.components));
    await this.#pca.update(rows);
    this.#batches++;
    this.#ratios = [...((await this.#pca.explainedVarianceRatio.data()) as Float64Array)].map((ratio) => (Number.isNaN(ratio) ? 0 : ratio));
    if (before === undefined) return;
    const cosines = await noGrad(() => sum(mul(before, this.#pca.components), 1)).data();
    this.#settled = [...(cosines as Float32Array)].map((cosine) => cosine >= this.#similarity);
  }
}
