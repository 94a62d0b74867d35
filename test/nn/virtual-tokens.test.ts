import test from 'ava';
import { attach, noGrad, scope, type Tensor } from 'lorikeet';
import { attend, type ForwardContext, inference, TokenNetwork, withFront } from 'lorikeet/nn';
import { add, copyInto, mul, normal, reshape, sum, tensor } from 'lorikeet/ops';

/** Two layers of attention over embeddings [B, T, 8], in f64: a network of one's own that puts virtual tokens in front. */
class Attention extends TokenNetwork {
  readonly shape = { hiddenSize: 8, layers: 2, heads: 2 };
  /** Says that the network is of f64. */
  scale = normal([8], { seed: 9, dtype: 'f64' });

  forward(x: Tensor, context: ForwardContext = inference): Tensor {
    const own = withFront(this, context, x.shape[0] ?? 0);
    const { front } = own;
    let hidden = front?.join(x) ?? x;
    for (let layer = 0; layer < this.shape.layers; layer++) {
      const heads = reshape(mul(hidden, this.scale), [...hidden.shape.slice(0, 2), 2, 4]);
      hidden = add(hidden, reshape(attend(heads, heads, heads, front?.at(layer, own) ?? own, { layer, causal: true }), hidden.shape));
    }
    return front?.withoutVirtual(hidden) ?? hidden;
  }
}

for (const config of [
  { type: 'prefix', virtualTokens: 3 },
  { type: 'prefix', virtualTokens: 2, projection: true, projectionSize: 3 },
  { type: 'prompt', virtualTokens: 3 },
  { type: 'p-tuning', virtualTokens: 3, encoder: 'lstm', encoderSize: 2 },
] as const) {
  test(`${JSON.stringify(config)}: gradients are those of central differences`, async (t) => {
    const network = new Attention();
    const set = await attach(network, config, { seed: 2 });
    const x = normal([2, 4, 8], { seed: 1, dtype: 'f64' });
    const weights = normal([2, 4, 8], { seed: 5, dtype: 'f64' });
    const loss = (): Tensor => sum(mul(network.forward(x), weights));
    scope(() => loss().backward());
    for (const [name, value] of set.namedParameters()) {
      t.is(value.dtype, 'f64');
      const gradient = Float64Array.from((value.grad as Tensor).dataSync() as Float64Array);
      const numbers = Float64Array.from(value.dataSync() as Float64Array);
      const largest = Math.max(...gradient.map(Math.abs));
      for (let i = 0; i < numbers.length; i += Math.ceil(numbers.length / 40)) {
        const at = (by: number): number => {
          const moved = Float64Array.from(numbers);
          moved[i] = (numbers[i] as number) + by;
          return scope(() =>
            noGrad(() => {
              copyInto(value, tensor(moved, { shape: value.shape, dtype: 'f64' }));
              return loss().dataSync()[0] as number;
            }),
          );
        };
        const slope = (at(1e-5) - at(-1e-5)) / 2e-5;
        at(0);
        t.true(Math.abs(slope - (gradient[i] as number)) < 1e-6 * Math.max(largest, 1e-3), `${name} ${i}: ${slope} against ${gradient[i]}`);
      }
    }
    set.dispose();
    network.dispose();
  });
}

test('hidden sizes that the heads do not divide are refused', async (t) => {
  const network = new (class extends Attention {
    override readonly shape = { hiddenSize: 8, layers: 2, heads: 3 };
  })();
  await t.throwsAsync(attach(network, { type: 'prefix' }), {
    code: 'config',
    message: /hidden size is no multiple of the heads; got 8 and 3/,
  });
  network.dispose();
});
