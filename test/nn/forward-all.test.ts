import test from 'ava';
import { type AdapterConfig, attach, loadModel, profile, scope, type Tensor, type TunedModel } from 'lorikeet';
import { forwardAll, Layer, Linear } from 'lorikeet/nn';
import { type LowRankFactors, type LowRankLayer, normal } from 'lorikeet/ops';
import { Activation, AdaptedLayer } from '#dist/adapters/adapted-layer.js';
import { AdapterModule } from '#dist/adapters/adapter.js';
import { perturb } from '../helpers/perturb.js';
import { sameBits } from '../helpers/products.js';

// A model whose query, key and value projections, and whose gate and up projections, run as one op, against the same with each layer on its own.

const ids = [3, 41, 17, 9].map((first) => Array.from({ length: 12 }, (_, i) => 1 + ((first * (i + 3)) % 400)));
const kBlocks = 5;

interface Setting {
  readonly configs: readonly AdapterConfig[];
  readonly rows?: readonly (readonly string[])[];
  readonly prepare?: (tuned: TunedModel) => unknown;
}

/** Logits, and in training the loss, its gradients, and how many ops ran several layers. */
async function pass({ configs, rows, prepare }: Setting) {
  const model = await loadModel('examples/stories260k');
  const names = ['a', 'b', 'c'].slice(0, configs.length);
  for (const [i, config] of configs.entries()) await attach(model, config, { name: names[i] as string, seed: i });
  const tuned = await attach(model, { type: 'lora', rank: 1, targets: ['o_proj'] }, { name: 'elsewhere' });
  tuned.activate(names);
  perturb(tuned, 0.1);
  await prepare?.(tuned);
  const by = rows === undefined ? {} : { rows };
  const logits = tuned.logits(ids, by);
  const { ops, result: loss } = await profile(() => {
    const value = tuned.loss({ ids, training: true, ...by });
    if (value.requiresGrad) value.backward();
    return value;
  });
  const gradients = tuned.parameters(names).map(({ grad }): Tensor | undefined => grad);
  tuned.dispose();
  model.dispose();
  return { logits, loss, gradients, joint: ops.filter(({ name, backward }) => name === 'lowRankLinears' && !backward).length };
}

/** The same with linear layers that do not say what they compute. */
async function oneByOne(setting: Setting): ReturnType<typeof pass> {
  const { product } = Linear.prototype;
  Linear.prototype.product = () => undefined;
  try {
    return await pass(setting);
  } finally {
    Linear.prototype.product = product;
  }
}

const lora = { type: 'lora', rank: 4, targets: 'all-linear' } as const;
const some = { type: 'lora', rank: 3, targets: ['q_proj', 'v_proj', 'up_proj'] } as const;
const dora = { type: 'lora', rank: 2, dora: true, targets: ['k_proj'] } as const;
const settings: Record<string, Setting & { readonly joint: number }> = {
  'one adapter': { configs: [lora], joint: 2 * kBlocks },
  'an adapter of some layers, with dropout and a bias': { configs: [{ ...some, dropout: 0.3, loraBias: true }], joint: 2 * kBlocks },
  'two adapters added up': { configs: [lora, some], joint: 2 * kBlocks },
  'adapters by row': { configs: [lora, some], rows: [['a'], ['b'], [], ['a', 'b']], joint: 2 * kBlocks },
  'a merged adapter': { configs: [lora], prepare: (tuned) => tuned.merge(), joint: 2 * kBlocks },
  'disabled adapters': { configs: [lora], prepare: (tuned) => tuned.disable(), joint: 2 * kBlocks },
  'DoRA on keys': { configs: [dora], joint: kBlocks },
  'DoRA on keys of one row': { configs: [lora, dora], rows: [['a'], ['b'], [], ['a']], joint: kBlocks },
};

for (const [name, setting] of Object.entries(settings)) {
  test.serial(`layers run together as they run alone: ${name}`, async (t) => {
    const together = await pass(setting);
    const alone = await oneByOne(setting);
    t.deepEqual([together.joint, alone.joint], [setting.joint, 0]);
    t.true(sameBits(together.logits, alone.logits) && sameBits(together.loss, alone.loss));
    t.is(together.gradients.length, alone.gradients.length);
    for (const [i, gradient] of together.gradients.entries()) {
      const expected = alone.gradients[i];
      t.is(gradient === undefined, expected === undefined);
      if (gradient !== undefined && expected !== undefined) t.true(sameBits(gradient, expected), `gradient ${i}`);
    }
  });
}

test.serial('a layer with a forward of its own runs it', async (t) => {
  class Own extends Linear {
    override forward(): Tensor {
      throw new Error('own forward');
    }
  }
  const model = await loadModel('examples/stories260k');
  model.network.setModule('model.layers.0.self_attn.k_proj', new Own(64, 32));
  t.throws(() => model.logits(ids), { message: 'own forward' });
  model.dispose();
});

test('branches run in one op with a linear layer alone, as in its forward', (t) => {
  class Around extends Layer {
    readonly #linear = new Linear(8, 6, { seed: 1 });
    override forward(x: Tensor): Tensor {
      return this.#linear.forward(x);
    }
    override product(x: Tensor): (() => LowRankLayer) | undefined {
      return this.#linear.product(x);
    }
  }
  class Branch extends AdapterModule {
    override lowRank(): LowRankFactors {
      return { a: normal([2, 8], { seed: 2 }), b: normal([6, 2], { seed: 3 }), scale: 1 };
    }
  }
  const activation = new Activation();
  activation.known.add('a');
  activation.active = ['a'];
  scope(() => {
    const x = normal([2, 8], { seed: 4 });
    for (const base of [new Linear(8, 6, { seed: 1 }), new Around()]) {
      const layer = new AdaptedLayer(base, activation);
      layer.add('a', new Branch());
      for (const context of [{ training: false }, { training: false, rows: [['a'], []] }]) {
        t.is(layer.product(x, context) !== undefined, base instanceof Linear);
        const [y] = forwardAll([layer, base], x, context);
        t.true(sameBits(y, layer.forward(x, context)));
      }
    }
  });
});
