import test from 'ava';
import { attach } from '#dist/adapters/index.js';
import { Calibration, type CalibrationRuns } from '#dist/inits/calibration.js';
import { GradientSketch, sketchWidths } from '#dist/inits/gradient-sketch.js';
import { gradientSums } from '#dist/inits/gradient-sums.js';
import type { StartLayer } from '#dist/inits/init.js';
import { weightGradients } from '#dist/inits/weight-gradients.js';
import { Linear, Module } from '#dist/nn/index.js';
import { mul, relu, square } from '#dist/ops/elementwise.js';
import { matmul } from '#dist/ops/linalg.js';
import { sum } from '#dist/ops/reduce.js';
import { transpose } from '#dist/ops/shape.js';
import { disposeTensors, memory, noGrad, resetPeakMemory, scope, synchronize } from '#dist/scope.js';
import type { Tensor } from '#dist/tensor.js';
import { relativeError } from '../helpers/adapters.js';
import { contextOf, startLayers } from '../helpers/init-context.js';
import { noise } from '../helpers/tiny-network.js';

class Pair extends Module {
  first: Linear;
  second: Linear;

  constructor(inputs: number, inner: number, outputs: number) {
    super();
    this.first = new Linear(inputs, inner, { bias: false, seed: 1 });
    this.second = new Linear(inner, outputs, { bias: false, seed: 2 });
    this.freeze();
  }

  forward(x: Tensor): Tensor {
    return this.second.forward(relu(this.first.forward(x)));
  }
}

const dataOf = (network: Pair, batches: Tensor[]): CalibrationRuns =>
  ({ batches, forward: (x: Tensor) => network.forward(x), loss: (x: Tensor) => sum(square(network.forward(x))) }) as CalibrationRuns;
const read = (x: Tensor): Float32Array => x.dataSync() as Float32Array;

test.serial('sketches of gradients of low rank give them back', async (t) => {
  const network = new Pair(120, 90, 70);
  // Seven rows in all: gradients of rank 7, below the 8 columns of the sketch.
  const context = contextOf(network, new Calibration(dataOf(network, [noise([4, 120], 1), noise([3, 120], 2)])));
  const layers = startLayers(network);
  const exact = new Map<string, Tensor>();
  for await (const { path, gradient } of weightGradients(layers, context, { reduce: 'mean' })) exact.set(path, gradient);
  const sketch = new GradientSketch(context);
  for await (const { layer, sums } of gradientSums(layers, context, { reduce: 'mean' }, sketch)) {
    t.is(
      sums.reduce((total, { size }) => total + size, 0),
      sketch.size(layer),
    );
    scope(() => {
      const { u, s, v } = sketch.factors(layer, sums);
      t.true(relativeError(read(matmul(mul(u, s), transpose(v))), read(exact.get(layer.path) as Tensor)) < 1e-4, layer.path);
    });
    disposeTensors(sums);
  }
});

test('a layer is sketched where that takes less than its gradient', (t) => {
  const layer = (outFeatures: number, inFeatures: number, rank: number): StartLayer =>
    ({ layer: { outFeatures, inFeatures }, rank }) as StartLayer;
  t.deepEqual(sketchWidths(layer(1024, 512, 8)), { range: 32, rest: 65 });
  t.is(sketchWidths(layer(48, 48, 8)), undefined);
  t.is(sketchWidths(layer(4096, 30, 8)), undefined);
});

test.serial('LoRA-GA from sketches starts as the base, with factors of one size, in less memory than a gradient', async (t) => {
  const width = 1024;
  const network = new Pair(width, width, width);
  const x = noise([32, width], 1);
  const before = scope(() => read(noGrad(() => network.forward(x))));
  await synchronize();
  const held = memory().bytes;
  const peaks: number[] = [];
  const onProgress = (): void => {
    peaks.push(memory().peakBytes - held);
  };
  resetPeakMemory();
  const config = { type: 'lora', rank: 4, alpha: 4, targets: ['first', 'second'], init: { type: 'lora-ga', sketch: true } } as const;
  const set = await attach(network, config, { data: dataOf(network, [x, noise([32, width], 2)]), onProgress });
  t.log({ peaks });
  t.is(peaks.length, 2);
  t.true(Math.max(...peaks) < 4 * width * width);
  t.true(
    relativeError(
      scope(() => read(noGrad(() => network.forward(x)))),
      before,
    ) < 1e-5,
  );
  for (const [name, factor] of set.namedParameters()) {
    const product = scope(() =>
      read(noGrad(() => (name.includes('lora_A') ? matmul(factor, transpose(factor)) : matmul(transpose(factor), factor)))),
    );
    const size = Math.sqrt(width) / 16;
    for (const [i, value] of product.entries()) t.true(Math.abs(value - (i % 5 === 0 ? size : 0)) < 1e-4 * size, name);
  }
  set.dispose();
});
