import test from 'ava';
import { scope, type Tensor } from 'lorikeet';
import { Layer, LayerNorm, normOfSum, RmsNorm } from 'lorikeet/nn';
import { mul, normal } from 'lorikeet/ops';
import { sameBits } from '../helpers/values.js';

/** What an adapter does around a norm. */
class Doubled extends Layer {
  readonly inner: Layer;

  constructor(inner: Layer) {
    super('norm');
    this.inner = inner;
  }

  override forward(x: Tensor): Tensor {
    return mul(this.inner.forward(x), 2);
  }
}

for (const Norm of [RmsNorm, LayerNorm]) {
  test(`the ${Norm.name} of a sum is that of the layer, also where something stands around it`, (t) => {
    const norm = new Norm(24);
    const [plain, around] = scope(() => {
      const [x, addend] = [normal([3, 24], { seed: 1 }), normal([3, 24], { seed: 2 })] as const;
      return [norm, new Doubled(norm)].map((layer) => {
        const { sum, normed } = normOfSum(layer, x, addend, { training: false });
        return { sum: sum.dataSync(), normed: normed.dataSync(), doubled: mul(normed, 2).dataSync() };
      });
    });
    t.true(plain !== undefined && around !== undefined);
    if (plain === undefined || around === undefined) return;
    t.true(sameBits(plain.sum, around.sum));
    t.true(sameBits(plain.doubled, around.normed));
    norm.dispose();
  });
}
