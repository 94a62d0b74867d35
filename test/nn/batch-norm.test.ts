import test from 'ava';
import { BatchNorm1d } from 'lorikeet/nn';
import { normal } from 'lorikeet/ops';
import { checkpoint } from '#dist/gradient.js';
import { loadSafetensors } from '#dist/io/safetensors.js';
import { scope } from '#dist/scope.js';
import type { Tensor } from '#dist/tensor.js';
import { relativeError, sameBits } from '../helpers/adapters.js';

const golden = await loadSafetensors('test/golden/conv.safetensors');
const numbers = (value: Tensor | null | undefined): Float64Array => value?.dataSync() as Float64Array;

/** A layer with the weight and bias of a golden. */
function layerOf(name: string): BatchNorm1d {
  const layer = new BatchNorm1d(3, { dtype: 'f64' });
  for (const key of ['weight', 'bias'] as const) layer.assign(key, (golden.get(`${name}.${key}`) as Tensor).detach());
  layer.setTrainable(true);
  return layer;
}

for (const name of ['batch-norm', 'batch-norm-flat']) {
  test(`${name}: statistics, outputs and gradients of torch`, (t) => {
    const of = (key: string): Tensor => golden.get(`${name}.${key}`) as Tensor;
    scope(() => {
      const layer = layerOf(name);
      const x = of('x').detach().setRequiresGrad(true);
      const y = layer.forward(x, { training: true });
      t.true(relativeError(numbers(y), numbers(of('y'))) < 1e-13);
      y.backward(of('dy'));
      t.true(relativeError(numbers(x.grad), numbers(of('dx'))) < 1e-13);
      t.true(relativeError(numbers(layer.weight.grad), numbers(of('dw'))) < 1e-13);
      t.true(relativeError(numbers(layer.bias.grad), numbers(of('db'))) < 1e-13);
      for (const key of ['running_mean', 'running_var'] as const) t.true(relativeError(numbers(layer[key]), numbers(of(key))) < 1e-13, key);
      t.deepEqual(Array.from(layer.num_batches_tracked.dataSync() as BigInt64Array), [1n]);
      t.true(relativeError(numbers(layer.forward(of('x'))), numbers(of('later'))) < 1e-13);
      layer.dispose();
    });
  });
}

test('running statistics move in training alone, are never trained, and a batch of one value is refused', (t) => {
  scope(() => {
    const layer = new BatchNorm1d(2);
    t.deepEqual(layer.trainableParameters(), [layer.weight, layer.bias]);
    layer.unfreeze();
    t.deepEqual(layer.trainableParameters(), [layer.weight, layer.bias]);
    const before = Float32Array.from(layer.running_var.dataSync() as Float32Array);
    layer.forward(normal([4, 2], { seed: 1 }));
    t.true(sameBits(layer.running_var.dataSync() as Float32Array, before));
    layer.train().forward(normal([4, 2], { seed: 1 }));
    t.false(sameBits(layer.running_var.dataSync() as Float32Array, before));
    t.throws(() => layer.forward(normal([1, 2, 1])), { message: /at least two values a channel in training; got x \[1, 2, 1\]/ });
    t.throws(() => layer.forward(normal([4, 3])), { message: /got x \[4, 3\], expected \[B, 2\] or \[B, 2, L\]/ });
    layer.dispose();
  });
});

test('with checkpointing a batch is noted once, and has the same gradients', (t) => {
  scope(() => {
    const [plain, again] = [new BatchNorm1d(2), new BatchNorm1d(2)];
    const x = normal([4, 2, 3], { seed: 1 }).setRequiresGrad(true);
    const dy = normal([4, 2, 3], { seed: 2 });
    plain.forward(x, { training: true }).backward(dy);
    const expected = x.grad as Tensor;
    x.clearGrad();
    checkpoint((input) => again.forward(input, { training: true }), [x]).backward(dy);
    t.true(sameBits(x.grad?.dataSync() as Float32Array, expected.dataSync() as Float32Array));
    t.deepEqual(Array.from(again.num_batches_tracked.dataSync() as BigInt64Array), [1n]);
    for (const key of ['running_mean', 'running_var'] as const)
      t.true(sameBits(again[key].dataSync() as Float32Array, plain[key].dataSync() as Float32Array), key);
    plain.dispose();
    again.dispose();
  });
});
