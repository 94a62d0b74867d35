import test from 'ava';
import { InvalidArgumentError, memory, noGrad, scope, type Tensor } from 'lorikeet';
import { Dropout, Embedding, LayerNorm, Linear, Module, ModuleList, RmsNorm, Sequential } from 'lorikeet/nn';
import { copyInto, mean, mul, PackedWeight, relu, square, sub, tensor } from 'lorikeet/ops';
import { near, numbers } from '../helpers/numbers.js';

class Block extends Module {
  q_proj = new Linear(3, 4, { role: 'attention.query', seed: 1 });
  norm = new RmsNorm(3);
}

class Network extends Module {
  embed = new Embedding(5, 3, { seed: 2 });
  layers = new ModuleList([new Block('block'), new Block('block')]);
  readonly #cache = tensor([1]);

  override dispose(): void {
    super.dispose();
    this.#cache.dispose();
  }
}

test.serial('paths of properties name modules and parameters', (t) => {
  using network = new Network();
  t.deepEqual(
    [...network.namedModules()].map(([path]) => path),
    ['', 'embed', 'layers', 'layers.0', 'layers.0.q_proj', 'layers.0.norm', 'layers.1', 'layers.1.q_proj', 'layers.1.norm'],
  );
  t.deepEqual(
    [...network.namedParameters('root')].map(([path]) => path),
    [
      'root.embed.weight',
      'root.layers.0.q_proj.weight',
      'root.layers.0.q_proj.bias',
      'root.layers.0.norm.weight',
      'root.layers.1.q_proj.weight',
      'root.layers.1.q_proj.bias',
      'root.layers.1.norm.weight',
    ],
  );
  t.is(network.module('layers.1.q_proj').role, 'attention.query');
  t.is(network.module(''), network);
  t.is(network.trainableParameters().length, 7);
});

test.serial('setModule replaces what is there; a wrong path names the nearest child', (t) => {
  using network = new Network();
  const before = network.module('layers.0.q_proj');
  const after = new Linear(3, 2);
  network.setModule('layers.0.q_proj', after);
  t.is(network.module('layers.0.q_proj'), after);
  t.is(network.layers.at(0).q_proj, after);
  network.setModule('layers.1', new Block());
  before.dispose();
  t.throws(() => network.setModule('layers.0.q_prj', after), {
    instanceOf: InvalidArgumentError,
    message: 'module: no child "q_prj" in "layers.0" on the way to "layers.0.q_prj"; did you mean "q_proj"?',
  });
  t.throws(() => network.module('layers.7'), { message: /no child "7" in "layers"/ });
});

test.serial('a frozen linear layer is packed and gives the same numbers', async (t) => {
  using layer = new Linear(5, 7, { seed: 3 });
  using x = tensor([
    [1, 2, 3, 4, 5],
    [-1, 0.5, 0, 2, 1],
  ]);
  const dense = await scope(() => numbers(layer.forward(x)));
  const weight = await numbers(layer.weight as Tensor);
  layer.freeze();
  t.true(layer.weight instanceof PackedWeight);
  t.deepEqual(layer.weight.shape, [7, 5]);
  t.is(layer.trainableParameters().length, 0);
  t.deepEqual(await scope(() => numbers(layer.forward(x))), dense);
  layer.unfreeze();
  t.deepEqual(await numbers(layer.weight as Tensor), weight);
  t.is(layer.trainableParameters().length, 2);
  t.throws(() => scope(() => layer.forward(tensor([1, 2]))), { message: /linear/ });
});

test.serial('a tied head uses the matrix of its embedding', async (t) => {
  using embedding = new Embedding(6, 4, { seed: 4 });
  using head = Linear.tied(embedding);
  using x = tensor([[1, -1, 2, 0.5]]);
  head.retie();
  t.is(head.weight, embedding.weight);
  const expected = await scope(() => numbers(head.forward(x)));
  head.freeze();
  t.true(head.weight instanceof PackedWeight);
  t.true(embedding.weight instanceof PackedWeight);
  t.deepEqual(await scope(() => numbers(head.forward(x))), expected);
  t.deepEqual([...head.namedParameters()], []);
  t.deepEqual(head.parameterShapes(), {});
});

test.serial('seeds give the same layer, layers without one differ', async (t) => {
  const layers = [new Linear(4, 4, { seed: 9 }), new Linear(4, 4, { seed: 9 }), new Linear(4, 4), new Linear(4, 4)];
  const [a, b, c, d] = await Promise.all(layers.map((layer) => numbers(layer.weight as Tensor)));
  t.deepEqual(a, b);
  t.notDeepEqual(c, d);
  t.true(a?.every((value) => Math.abs(value) <= 0.5));
  for (const layer of layers) layer.dispose();
});

test.serial("a small network of one's own learns", async (t) => {
  using network = new Sequential(new Linear(2, 16, { seed: 1 }), relu, new Linear(16, 1, { seed: 2 }));
  t.deepEqual(
    [...network.namedParameters()].map(([path]) => path),
    ['0.weight', '0.bias', '2.weight', '2.bias'],
  );
  using x = tensor([
    [0, 0],
    [0, 1],
    [1, 0],
    [1, 1],
  ]);
  using y = tensor([[0], [1], [1], [0]]);
  let loss = Number.POSITIVE_INFINITY;
  for (let step = 0; step < 300; step++) {
    loss = await scope(() => {
      const error = mean(square(sub(network.forward(x), y)));
      error.backward();
      for (const parameter of network.trainableParameters()) {
        const { grad } = parameter;
        if (grad !== undefined) noGrad(() => copyInto(parameter, sub(parameter, mul(grad, 0.2))));
        parameter.clearGrad();
      }
      return error.item();
    });
  }
  t.true(loss < 1e-2, `loss ${loss}`);
});

test.serial('norms and dropout', async (t) => {
  using rms = new RmsNorm(2, { epsilon: 0 });
  using norm = new LayerNorm(2, { epsilon: 0 });
  using x = tensor([3, 4]);
  // sqrt((9 + 16) / 2) = 3.5355
  near(t, await scope(() => numbers(rms.forward(x))), [0.8485281, 1.1313708], 1e-6, 'rms norm');
  near(t, await scope(() => numbers(norm.forward(x))), [-1, 1], 1e-6, 'layer norm');
  const dropout = new Dropout(0.5);
  t.is(dropout.forward(x), x);
  t.throws(() => new Dropout(1), { instanceOf: InvalidArgumentError, message: 'dropout: p must be at least 0 and below 1; got 1' });
});

test.after.always('no tensor is left', (t) => {
  t.is(memory().tensors, 0);
});
