import { AdapterError } from '../errors.js';
import type { Conv } from '../nn/conv.js';
import type { Pair } from '../ops/conv.js';
import { dropout } from '../ops/dropout.js';
import { add, cast, mul, sub } from '../ops/elementwise.js';
import { matmul } from '../ops/linalg.js';
import { reshape } from '../ops/shape.js';
import type { Tensor } from '../tensor.js';
import type { LayerCall, LayerParameters } from './adapter.js';
import { foldPair } from './fold-pair.js';
import { type LowRankOptions, LowRankPair } from './low-rank.js';

type AnyConv = Conv<Pair>;

/**
 * LoRA on a convolution: y += scale * (B * (A * drop(x)) + b). A [R, I, ...kernel] walks over x as the layer does, but sees all channels; B [O, R / groups, 1, ...]
 * has one tap and the layer's groups.
 */
export class LoraConv extends LowRankPair {
  readonly #base: AnyConv;

  constructor(a: Tensor, b: Tensor, bias: Tensor | undefined, options: LowRankOptions, base: AnyConv) {
    super(a, b, bias, options);
    this.#base = base;
  }

  override forward({ x, context, next }: LayerCall): Tensor {
    const { stride, padding, dilation, groups } = this.#base;
    const y = next(x);
    const { weight: a } = this.lora_A;
    const drops = context?.training === true && this.dropout > 0;
    const input = cast(drops ? dropout(x, this.dropout, this.random.next()) : x, a.dtype);
    const narrow = this.#base.apply(input, a, undefined, { stride, padding, dilation });
    const branch = this.#base.apply(narrow, this.lora_B.weight, this.lora_B.bias, { groups });
    return cast(add(cast(y, branch.dtype), mul(branch, this.scale)), y.dtype);
  }

  /** scale * B A, in the shape of the layer's weight. */
  override delta(): Tensor {
    const { weightShape, outChannels } = this.#base;
    const { weight: a } = this.lora_A;
    const rank = a.shape[0] ?? 0;
    const product = matmul(reshape(this.lora_B.weight, [outChannels, rank]), reshape(a, [rank, a.size / rank]));
    return mul(reshape(product, weightShape), this.scale);
  }

  override merge(_pristine: LayerParameters, merged: LayerParameters): LayerParameters {
    const { groups } = this.#base;
    if (groups > 1)
      throw new AdapterError(`merge: LoRA on a convolution in groups cannot be folded into it; got ${groups} groups, expected 1`);
    return foldPair(this, merged, add);
  }

  override unmerge(merged: LayerParameters): LayerParameters {
    return foldPair(this, merged, sub);
  }
}
