import { qr } from '../linalg/qr.js';
import { solveTriangular } from '../linalg/solve.js';
import { svd } from '../linalg/svd.js';
import type { LowrankFactors } from '../linalg/svd-lowrank.js';
import { normal, zeros } from '../ops/create.js';
import { add } from '../ops/elementwise.js';
import { matmul } from '../ops/linalg.js';
import { copyInto, transpose } from '../ops/shape.js';
import type { Tensor } from '../tensor.js';
import type { GradientSum } from './gradient-sums.js';
import type { InitContext, StartLayer } from './init.js';

interface Widths {
  /** Columns of the sketch of the range, G Ω with Ω [K, range]. */
  readonly range: number;
  /** Rows of the sketch of the rest, Ψᵀ G with Ψ [N, rest]; twice as many make its least-squares problem a safe one. */
  readonly rest: number;
}

/** The widths for 2 R leading vectors; undefined where sketches hold no less than the gradient. */
export function sketchWidths({ layer, rank }: StartLayer): Widths | undefined {
  const [range, rest] = [4 * rank, 8 * rank + 1];
  const { outFeatures, inFeatures } = layer;
  return outFeatures * range + rest * inFeatures < outFeatures * inFeatures && range < inFeatures && rest < outFeatures
    ? { range, rest }
    : undefined;
}

/** Sketches of gradients in place of the gradients: a single pass over the data, N range + rest K numbers a layer. Test matrices are made anew where they are needed. */
export class GradientSketch implements GradientSum {
  readonly #context: InitContext;

  constructor(context: InitContext) {
    this.#context = context;
  }

  create(layer: StartLayer): Tensor[] {
    const { dtype } = this.#context;
    const { range, rest } = sketchWidths(layer) as Widths;
    const { outFeatures, inFeatures } = layer.layer;
    return [zeros([outFeatures, range], { dtype }), zeros([rest, inFeatures], { dtype })];
  }

  size(layer: StartLayer): number {
    const { range, rest } = sketchWidths(layer) as Widths;
    return layer.layer.outFeatures * range + rest * layer.layer.inFeatures;
  }

  add([range, rest]: readonly Tensor[], layer: StartLayer, x: Tensor, dy: Tensor): void {
    const { omega, psi } = this.#tests(layer);
    const into = (sum: Tensor | undefined, term: Tensor): void => copyInto(sum as Tensor, add(sum as Tensor, term));
    into(range, matmul(transpose(dy), matmul(x, omega)));
    into(rest, matmul(transpose(matmul(dy, psi)), x));
  }

  /**
   * The leading part of the gradient whose sketches these are: G ~ Q X with Q an orthonormal basis of the sketch of its range, and X the least-squares solution of
   * (Ψᵀ Q) X = Ψᵀ G. "Practical Sketching Algorithms for Low-Rank Matrix Approximation".
   */
  factors(layer: StartLayer, [range, rest]: readonly Tensor[]): LowrankFactors {
    const basis = qr(range as Tensor).q;
    const tested = qr(matmul(transpose(this.#tests(layer).psi), basis));
    const within = solveTriangular(tested.r, matmul(transpose(tested.q), rest as Tensor), { upper: true });
    const { u, s, vt } = svd(within);
    return { u: matmul(basis, u), s, v: transpose(vt) };
  }

  #tests(layer: StartLayer): { omega: Tensor; psi: Tensor } {
    const { dtype, seed, stream } = this.#context;
    const { range, rest } = sketchWidths(layer) as Widths;
    const random = (rows: number, columns: number, name: string): Tensor =>
      normal([rows, columns], { dtype, seed, stream: stream(layer.path, name) });
    return { omega: random(layer.layer.inFeatures, range, 'omega'), psi: random(layer.layer.outFeatures, rest, 'psi') };
  }
}
