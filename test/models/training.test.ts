import test from 'ava';
import { loadModel, type Model, memory, noGrad, scope, Tensor } from 'lorikeet';
import { Layer, type Linear } from 'lorikeet/nn';
import { copyInto, mul, narrow, tensor, zeros } from 'lorikeet/ops';
import { goldenModel } from '../helpers/folders.js';
import { distance, near, numbers } from '../helpers/numbers.js';

const ids = [
  [5, 17, 60, 3, 88, 41],
  [9, 23, 71],
];

/** Twice what a layer gives. */
class Doubled extends Layer {
  readonly base: Layer;

  constructor(base: Layer) {
    super();
    this.base = base;
  }

  override forward(x: Tensor): Tensor {
    return mul(this.base.forward(x), 2);
  }
}

/** The gradient of every trainable parameter by path. */
async function gradients(model: Model, options: { checkpointing?: boolean } = {}): Promise<Map<string, number[]>> {
  return scope(async () => {
    model.loss({ ids, training: true, ...options }).backward();
    const found = new Map<string, number[]>();
    for (const [path, parameter] of model.network.namedParameters()) {
      if (!(parameter instanceof Tensor) || parameter.grad === undefined) continue;
      found.set(path, await numbers(parameter.grad));
      parameter.clearGrad();
    }
    return found;
  });
}

test.serial('nothing of a loaded model is trainable until it is unfrozen', async (t) => {
  using model = await loadModel(goldenModel('llama-biases-untied'));
  t.deepEqual(model.network.trainableParameters(), []);
  model.network.unfreeze();
  t.is(model.network.trainableParameters().length, [...model.network.namedParameters()].length);
  t.is((await gradients(model)).size, model.network.trainableParameters().length);
  model.network.freeze();
  t.deepEqual(model.network.trainableParameters(), []);
});

for (const name of ['llama-gqa-tied', 'qwen3-biases-sliding']) {
  test.serial(`${name}: gradients in f64 are those of central differences`, async (t) => {
    using model = await loadModel(goldenModel(name), { dtype: 'f64' });
    model.network.unfreeze();
    const found = await gradients(model);
    const loss = (): Promise<number> => scope(() => noGrad(() => model.loss({ ids }).item()));
    for (const [path, parameter] of model.network.namedParameters()) {
      const weight = parameter as Tensor;
      const [values, step] = [await numbers(weight), 1e-5];
      // One element a parameter: a column of the third row (or the third element), which every kernel reads.
      const at = weight.rank === 1 ? 2 : 5 * (weight.shape[1] ?? 0) + 3;
      const losses: number[] = [];
      for (const change of [step, -step, 0]) {
        const moved = Float64Array.from(values, (value, i) => (i === at ? value + change : value));
        scope(() => noGrad(() => copyInto(weight, tensor(moved, { shape: weight.shape }))));
        losses.push(await loss());
      }
      const [above = 0, below = 0] = losses;
      near(t, [found.get(path)?.[at] ?? Number.NaN], [(above - below) / (2 * step)], 1e-7, path);
    }
  });
}

test.serial('recomputing blocks gives the same gradients', async (t) => {
  using model = await loadModel(goldenModel('llama-gqa-tied'));
  model.network.unfreeze();
  t.deepEqual(await gradients(model, { checkpointing: true }), await gradients(model));
  model.network.freeze();
  // Only a block inside is trainable: nothing before it needs a gradient.
  model.module('model.layers.0.mlp.down_proj').unfreeze();
  const plain = await gradients(model);
  t.deepEqual([...plain.keys()], ['model.layers.0.mlp.down_proj.weight']);
  t.deepEqual(await gradients(model, { checkpointing: true }), plain);
});

for (const name of ['llama-gqa-tied', 'mistral-sliding', 'llama-rope-dynamic']) {
  test.serial(`${name}: documents packed in one row do not see each other`, async (t) => {
    using model = await loadModel(goldenModel(name));
    const [first = [], second = []] = ids;
    const packed = [...first, ...second, ...second, ...first];
    const documents = [...first.map(() => 0), ...second.map(() => 1), ...second.map(() => 2), ...first.map(() => 3)];
    await scope(async () => {
      const hidden = await numbers(model.forward([packed], { documents: [documents] }));
      const [a, b] = await Promise.all([first, second].map((row) => numbers(model.forward([row]))));
      near(t, hidden, [...(a ?? []), ...(b ?? []), ...(b ?? []), ...(a ?? [])], 1e-5, 'hidden states');
      const [together, apart] = await Promise.all([
        model.loss({ ids: [packed], documents: [documents], reduction: 'sum' }).item(),
        model.loss({ ids: [first, second, second, first], reduction: 'sum' }).item(),
      ]);
      near(t, [together], [apart], 1e-4, 'loss');
    });
    t.throws(() => model.forward([packed], { documents: [documents.slice(1)] }), {
      message: /row 0 of "documents" must be as long as the row of ids; got 17, expected 18/,
    });
    t.throws(() => model.forward([packed], { documents: [] }), { message: /"documents" must have a row for each row of ids/ });
  });
}

test.serial('reductions of the loss fit together', async (t) => {
  using model = await loadModel(goldenModel('llama-gqa-tied'));
  await scope(async () => {
    const each = model.loss({ ids, reduction: 'none' });
    t.deepEqual(each.shape, [2, 6]);
    const losses = await numbers(each);
    t.deepEqual([losses[5], ...losses.slice(8)], [0, 0, 0, 0, 0]);
    const sum = losses.reduce((a, b) => a + b, 0);
    near(t, [await model.loss({ ids, reduction: 'sum' }).item()], [sum], 1e-4, 'sum');
    near(t, [await model.loss({ ids }).item()], [sum / 7], 1e-5, 'mean');
    const targets = [[-100, -100, -100, -100, 41], []];
    near(t, [await model.loss({ ids, targets }).item()], [losses[4] ?? 0], 1e-5, 'one target');
  });
});

test.serial('a head with a bias, and one that was replaced, are used', async (t) => {
  using model = await loadModel(goldenModel('llama-old-style'));
  const plain = await scope(() => model.loss({ ids }).item());
  const head = model.module('lm_head') as Linear;
  head.bias = zeros([97]);
  near(t, [await scope(() => model.loss({ ids }).item())], [plain], 1e-5, 'loss');
  model.network.setModule('lm_head', new Doubled(head));
  const other = await scope(() => model.loss({ ids }).item());
  model.network.setModule('lm_head', head);
  t.true(Math.abs(other - plain) > 0.1);
});

test.serial('a user cache takes a text in pieces', async (t) => {
  using model = await loadModel(goldenModel('qwen2-sliding-layer-types'));
  using cache = model.cache(2, 8);
  await scope(async () => {
    const whole = await numbers(narrow(model.forward([[5, 17, 60, 3, 88]]), 1, 2, 3));
    model.forward([[5, 17], [1]], { cache });
    const later = await numbers(narrow(model.forward([[60, 3, 88], [2]], { cache }), 0, 0, 1));
    t.true(distance(later, whole) < 1e-5);
    t.deepEqual(cache.lengths, [5, 2]);
    t.throws(() => model.forward([[1, 2, 3, 4], [1]], { cache }), {
      message: /the cache has no room for the rows, padding included; got 9 places, expected at most 8/,
    });
    t.throws(() => model.forward([[1]], { cache }), { message: /the cache is for another batch; got 1 rows, expected 2/ });
  });
});

test.after.always('no tensor is left', (t) => {
  t.is(memory().tensors, 0);
});
