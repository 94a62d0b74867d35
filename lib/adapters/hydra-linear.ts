import { AdapterError } from '../errors.js';
import type { Linear } from '../nn/linear.js';
import { dropout } from '../ops/dropout.js';
import { add, cast, mul } from '../ops/elementwise.js';
import { concat } from '../ops/join.js';
import { linear, matmul } from '../ops/linalg.js';
import { lowRankLinear } from '../ops/lowrank.js';
import { reshape } from '../ops/shape.js';
import { RandomSource } from '../random.js';
import type { Tensor } from '../tensor.js';
import { AdapterModule, type LayerCall, type LayerParameters } from './adapter.js';
import type { Factor } from './low-rank.js';
import { denseParameters } from './trained-copy.js';

/** One branch: the down-projection A [R, inputs] with a bias [R] and the up-projection B [N, R] with a bias [N], or both without. */
export interface HydraBranch {
  readonly down: Factor;
  readonly up: Factor;
}

export interface HydraOptions {
  /** A number, or the trained one, [1]. */
  readonly scale: number | Tensor;
  readonly dropout: number;
  /** Where dropout masks come from. */
  readonly seed: number;
  readonly path: string;
}

/** The change of a layer as a pair: W + b a and, where there is one, bias added to that of the layer. */
export interface HydraChange {
  /** [rp + rs, K]. */
  readonly a: Tensor;
  /** [N, rp + rs], the scale in it. */
  readonly b: Tensor;
  /** [N]. */
  readonly bias: Tensor | undefined;
}

const sumOf = (terms: readonly (Tensor | undefined)[]): Tensor | undefined => {
  const [first, ...others] = terms.filter((term) => term !== undefined);
  return first === undefined ? undefined : others.reduce((total, term) => add(total, term), first);
};
const joined = (parts: readonly Tensor[], dim: number): Tensor => (parts.length === 1 ? (parts[0] as Tensor) : concat(parts, dim));
/** B v, [N], for a vector v [R]. */
const applied = (b: Tensor, v: Tensor): Tensor => reshape(matmul(b, reshape(v, [-1, 1])), [-1]);

/**
 * Hydra on a linear layer with the output y0 = W x + b: y = y0 + scale * (Bp (Ap x + ap) + βp) + scale * (Bs (As y0 + as) + βs), with
 * dropout between down and up. Either branch may be absent. y0 is the output of the bare layer, whatever other adapters are on it.
 */
export class HydraLinear extends AdapterModule {
  readonly hydra_par_A?: Factor;
  readonly hydra_par_B?: Factor;
  readonly hydra_seq_A?: Factor;
  readonly hydra_seq_B?: Factor;
  /** The trained scale, [1]. */
  hydra_scale?: Tensor;
  readonly dropout: number;
  override readonly random: RandomSource;
  readonly #base: Linear;
  readonly #scale: number;
  #factor = 1;

  constructor(base: Linear, parallel: HydraBranch | undefined, sequential: HydraBranch | undefined, options: HydraOptions) {
    super();
    if (parallel !== undefined) {
      this.hydra_par_A = parallel.down;
      this.hydra_par_B = parallel.up;
    }
    if (sequential !== undefined) {
      this.hydra_seq_A = sequential.down;
      this.hydra_seq_B = sequential.up;
    }
    if (typeof options.scale !== 'number') this.hydra_scale = options.scale;
    this.#scale = typeof options.scale === 'number' ? options.scale : 1;
    this.dropout = options.dropout;
    this.random = new RandomSource(options.seed, options.path);
    this.#base = base;
  }

  /** Multiplies the scale; a later call replaces an earlier one. */
  override setScale(factor: number): void {
    this.#factor = factor;
  }

  /** x times the scale and `factor`, on the tape of a trained scale. */
  #scaled(x: Tensor, factor = this.#factor): Tensor {
    const constant = this.#scale * factor;
    const y = constant === 1 ? x : mul(x, constant);
    return this.hydra_scale === undefined ? y : mul(y, this.hydra_scale);
  }

  get #ups(): readonly Factor[] {
    return [this.hydra_par_B, this.hydra_seq_B].filter((factor) => factor !== undefined);
  }

  override forward({ x, context, base, next, first }: LayerCall): Tensor {
    const drops = context?.training === true && this.dropout > 0;
    const { hydra_par_A: parallel, hydra_seq_A: sequential } = this;
    const b = this.#scaled(
      joined(
        this.#ups.map(({ weight }) => weight),
        1,
      ),
    );
    if (parallel !== undefined && sequential === undefined && first && !drops) return this.#fused(x, parallel, b);
    const y = next(x);
    const wide = (value: Tensor): Tensor => (value.dtype === b.dtype ? value : cast(value, b.dtype));
    const down = ({ weight, bias }: Factor, input: Tensor): Tensor => linear(wide(input), weight, bias);
    const hidden = [
      ...(parallel === undefined ? [] : [down(parallel, x)]),
      ...(sequential === undefined ? [] : [down(sequential, first ? y : base.forward(x, context))]),
    ];
    const narrow = joined(hidden, -1);
    const shift = sumOf(this.#ups.map(({ bias }) => bias));
    const change = linear(
      drops ? dropout(narrow, this.dropout, this.random.next()) : narrow,
      b,
      shift === undefined ? undefined : this.#scaled(shift),
    );
    return add(y, change.dtype === y.dtype ? change : cast(change, y.dtype));
  }

  /** The parallel branch alone: that of LoRA, in the accumulators of the base product. */
  #fused(x: Tensor, down: Factor, b: Tensor): Tensor {
    const { weight, bias } = this.#base;
    const shift = sumOf([
      down.bias === undefined ? undefined : applied(b, down.bias),
      this.hydra_par_B?.bias === undefined ? undefined : this.#scaled(this.hydra_par_B.bias),
    ]);
    const factors = { a: down.weight, b, scale: 1, ...(shift === undefined ? {} : { bias: shift }) };
    return lowRankLinear(x, weight, { ...(bias === undefined ? {} : { bias }), adapters: [factors] });
  }

  /**
   * The change of a layer with these parameters (those of the frozen one, by default): a = [Ap ; As W], b = scale * [Bp , Bs], bias = scale
   * * (Bp ap + βp + Bs (as + As b0) + βs). The scale is the configured one times `factor`.
   */
  change(parameters?: LayerParameters, factor = 1): HydraChange {
    const { weight, bias: bias0 } = parameters ?? denseParameters(this.#base, this.#ups[0]?.weight.dtype ?? 'f32');
    const { hydra_par_A: parallel, hydra_par_B: up, hydra_seq_A: sequential, hydra_seq_B: again } = this;
    const a: Tensor[] = [];
    const shifts: (Tensor | undefined)[] = [up?.bias, again?.bias];
    if (parallel !== undefined && up !== undefined) {
      a.push(parallel.weight);
      if (parallel.bias !== undefined) shifts.push(applied(up.weight, parallel.bias));
    }
    if (sequential !== undefined && again !== undefined) {
      a.push(matmul(sequential.weight, weight as Tensor));
      const inner = sumOf([sequential.bias, bias0 === undefined ? undefined : applied(sequential.weight, bias0)]);
      if (inner !== undefined) shifts.push(applied(again.weight, inner));
    }
    const shift = sumOf(shifts);
    return {
      a: joined(a, 0),
      b: this.#scaled(
        joined(
          this.#ups.map(({ weight: each }) => each),
          1,
        ),
        factor,
      ),
      bias: shift === undefined ? undefined : this.#scaled(shift, factor),
    };
  }

  override merge(pristine: LayerParameters, merged: LayerParameters): LayerParameters {
    if (this.dropout > 0 && this.#base.training)
      throw new AdapterError(
        `merge: the layer is in training and drops elements; got dropout ${this.dropout}, switch to eval or unset dropout`,
      );
    const { a, b, bias } = this.change(pristine, this.#factor);
    const { weight, bias: before } = merged as { weight: Tensor; bias?: Tensor };
    if (bias !== undefined && before === undefined)
      throw new AdapterError(
        'merge: the biases of hydra cannot be folded into a layer without a bias of its own; expected bias false or "auto"',
      );
    return {
      weight: add(weight, matmul(b, a)),
      ...(before === undefined ? {} : { bias: bias === undefined ? before : add(before, bias) }),
    };
  }
}
