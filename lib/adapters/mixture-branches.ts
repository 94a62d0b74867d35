import { ModuleList } from '../nn/module.js';
import { add, cast, div, mul, sqrt, square, where } from '../ops/elementwise.js';
import { concat } from '../ops/join.js';
import { linear, matmul } from '../ops/linalg.js';
import { sum } from '../ops/reduce.js';
import { narrow, reshape, transpose } from '../ops/shape.js';
import { softmax } from '../ops/softmax.js';
import type { Tensor } from '../tensor.js';
import { type AffineParameters, type Bottleneck, type BottleneckPass, Branch } from './sublayer-bottleneck.js';
import { tokenMask } from './token-mask.js';

/** Σ softmax(R x + c)_i a_i(x): every token goes through all adapters, whose shares a router decides. */
export class DenseMixture extends Branch {
  readonly router: AffineParameters;
  readonly experts: ModuleList<Bottleneck>;

  constructor(router: AffineParameters, experts: readonly Bottleneck[]) {
    super();
    this.router = router;
    this.experts = new ModuleList(experts);
  }

  override forward(x: Tensor, pass: BottleneckPass): Tensor {
    const wide = cast(x, this.router.weight.dtype);
    const shares = softmax(linear(wide, this.router.weight, this.router.bias));
    const parts = [...this.experts].map((expert, i) => mul(expert.forward(wide, pass), narrow(shares, -1, i, 1)));
    return cast(
      parts.reduce((total, part) => add(total, part)),
      x.dtype,
    );
  }
}

const kSmallestNorm = 1e-6;
const normalised = (x: Tensor, dim: number): Tensor => div(x, add(sqrt(sum(square(x), dim, { keepDim: true })), kSmallestNorm));

/** How tokens go to slots and back. */
export interface SlotWeights {
  /** [B, T, S]: of each slot, the share of every token in it. Sums to 1 over the tokens. */
  readonly dispatch: Tensor;
  /** [B, T, S]: of each token, the share of every slot in its result. Sums to 1 over the slots. */
  readonly combine: Tensor;
}

/**
 * Slots that are averages of all tokens go through the adapters, P slots each, and every token gets an average of the results. `phi` [D, E, P] says which token is
 * near to which slot. "From Sparse to Soft Mixtures of Experts"; "Efficient Fine-tuning of Audio Spectrogram Transformers via Soft Mixture of Adapters".
 */
export class SoftMixture extends Branch {
  readonly phi: Tensor;
  /** Where tokens and slots are compared by direction alone: what their products are multiplied with, [1]. */
  readonly scale?: Tensor;
  readonly experts: ModuleList<Bottleneck>;

  constructor(phi: Tensor, experts: readonly Bottleneck[], scale?: Tensor) {
    super();
    this.phi = phi;
    if (scale !== undefined) this.scale = scale;
    this.experts = new ModuleList(experts);
  }

  /** x [B, T, D], of which `keyLengths` are tokens. */
  weights(x: Tensor, keyLengths?: Tensor): SlotWeights {
    const [width = 0, experts = 0, slots = 0] = this.phi.shape;
    const phi = reshape(this.phi, [width, experts * slots]);
    const logits = this.scale === undefined ? matmul(x, phi) : mul(matmul(normalised(x, -1), normalised(phi, 0)), this.scale);
    const seen = keyLengths === undefined ? logits : where(tokenMask(x, keyLengths), logits, Number.NEGATIVE_INFINITY);
    return { dispatch: softmax(seen, 1), combine: softmax(logits, -1) };
  }

  override forward(x: Tensor, pass: BottleneckPass): Tensor {
    const wide = cast(x, this.phi.dtype);
    const { dispatch, combine } = this.weights(wide, pass.keyLengths);
    const slots = matmul(transpose(dispatch), wide);
    const each = this.phi.shape[2] ?? 1;
    const results = [...this.experts].map((expert, i) => expert.forward(narrow(slots, 1, i * each, each), pass));
    return cast(matmul(combine, concat(results, 1)), x.dtype);
  }
}
