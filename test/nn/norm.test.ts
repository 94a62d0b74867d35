import test from 'ava';
import { scope, type Tensor } from 'lorikeet';
import { inference, Layer, LayerNorm, normOfSum, RmsNorm } from 'lorikeet/nn';
import { add, mul, normal } from 'lorikeet/ops';
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
        const { sum, normed } = normOfSum(layer, x, addend, inference);
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

for (const Norm of [RmsNorm, LayerNorm]) {
  test(`a ${Norm.name} with a forward of its own runs it on the sum`, (t) => {
    class Own extends Norm {
      override forward(x: Tensor): Tensor {
        return mul(super.forward(x), 2);
      }
    }
    const patched = new Norm(24);
    patched.forward = (x) => mul(Norm.prototype.forward.call(patched, x), 2);
    const plain = new Norm(24);
    scope(() => {
      const [x, addend] = [normal([3, 24], { seed: 1 }), normal([3, 24], { seed: 2 })] as const;
      const expected = mul(normOfSum(plain, x, addend, inference).normed, 2);
      for (const norm of [new Own(24), patched]) {
        t.true(sameBits(normOfSum(norm, x, addend, inference).normed.dataSync(), expected.dataSync()));
        norm.dispose();
      }
    });
    plain.dispose();
  });

  test(`the ${Norm.name} of a sum that is broadcast`, (t) => {
    const norm = new Norm(24);
    scope(() => {
      const [wide, narrow] = [normal([2, 3, 24], { seed: 1 }), normal([3, 24], { seed: 2 })] as const;
      for (const [x, addend] of [
        [wide, narrow],
        [narrow, wide],
      ] as const) {
        const { sum, normed } = normOfSum(norm, x, addend, inference);
        t.true(sameBits(sum.dataSync(), add(x, addend).dataSync()));
        t.true(sameBits(normed.dataSync(), norm.forward(add(x, addend)).dataSync()));
      }
    });
    norm.dispose();
  });
}
