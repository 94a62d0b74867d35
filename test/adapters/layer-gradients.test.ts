import { readFileSync } from 'node:fs';
import test from 'ava';
import { type AdapterConfig, type AdapterSet, attach } from '#dist/adapters/index.js';
import { Embedding, type Layer, Linear, Module } from '#dist/nn/index.js';
import { type NestedNumbers, tensor } from '#dist/ops/create.js';
import { mul } from '#dist/ops/elementwise.js';
import { sum } from '#dist/ops/reduce.js';
import { copyInto } from '#dist/ops/shape.js';
import { noGrad, scope } from '#dist/scope.js';
import type { Tensor } from '#dist/tensor.js';
import { relativeError } from '../helpers/adapters.js';

/** Everything in f64: sums of a few terms in another order. */
const kTolerance = 1e-12;
/** Central differences of step 1e-5 in f64. */
const kStep = 1e-5;
const kDifferenceTolerance = 1e-6;

interface Case {
  readonly adapters: Record<string, never>[];
  readonly input: NestedNumbers;
  readonly output: NestedNumbers;
  readonly outputGradient: NestedNumbers;
  readonly parameters: Record<string, NestedNumbers>;
  readonly gradients: Record<string, NestedNumbers>;
  readonly inputGradient?: NestedNumbers;
}

const cases = JSON.parse(readFileSync('test/golden/layer-gradients.json', 'utf8')) as Record<string, Case>;
const f64 = (values: NestedNumbers): Tensor => tensor(values, { dtype: 'f64' });
const flat = (values: NestedNumbers): number[] => (values as unknown[]).flat(9) as number[];
const read = (x: Tensor | undefined): Float64Array => x?.dataSync() as Float64Array;

class Holder extends Module {
  layer: Layer;

  constructor(layer: Layer) {
    super();
    this.layer = layer;
  }
}

/** `lora_A.adapter0.weight` as the adapter's number and the name it has here. */
function placeOf(name: string): { index: number; end: string } {
  const index = Number(/adapter(\d)/.exec(name)?.[1] ?? 0);
  return { index, end: name.replace(/\.adapter\d/, '').replace(/magnitude_vector\.weight$/, 'magnitude_vector') };
}

async function build(name: string): Promise<{ network: Holder; set: AdapterSet; slots: Map<string, Tensor> }> {
  const { adapters, parameters } = cases[name] as Case;
  const weight = parameters['base_layer.weight'] as number[][];
  const bias = parameters['base_layer.bias'];
  const [rows, columns] = [weight.length, weight[0]?.length ?? 0];
  const network = new Holder(
    name.startsWith('embedding')
      ? new Embedding(rows, columns, { dtype: 'f64' })
      : new Linear(columns, rows, { dtype: 'f64', bias: bias !== undefined }),
  );
  network.layer.assign('weight', f64(weight));
  if (bias !== undefined) network.layer.assign('bias', f64(bias));
  let set: AdapterSet | undefined;
  for (const [i, options] of adapters.entries()) {
    const { r, lora_alpha: alpha, use_dora: dora = false, lora_bias: loraBias = false, use_rslora: rsLora = false } = options;
    const config: AdapterConfig = { type: 'lora', rank: r ?? 0, alpha: alpha ?? 0, dora, loraBias, rsLora, targets: ['layer'] };
    set = await attach(network, config, { name: `adapter${i}` });
  }
  set?.activate(set.names);
  const slots = new Map<string, Tensor>();
  for (const key of Object.keys(parameters)) {
    const { index, end } = placeOf(key);
    const found = [...(set as AdapterSet).namedParameters([`adapter${index}`])].find(([path]) => path === `layer.${end}`)?.[1];
    if (found === undefined) continue;
    slots.set(key, found);
    scope(() => noGrad(() => copyInto(found, f64(parameters[key] as NestedNumbers))));
  }
  return { network, set: set as AdapterSet, slots };
}

for (const name of Object.keys(cases)) {
  test.serial(`output and gradients are PEFT's: ${name}`, async (t) => {
    const golden = cases[name] as Case;
    const { network, set, slots } = await build(name);
    t.deepEqual(
      [...slots.keys()].sort(),
      Object.keys(golden.gradients)
        .filter((key) => !key.startsWith('base_layer'))
        .sort(),
    );
    const ids = name.startsWith('embedding');
    const x = ids ? tensor(golden.input, { dtype: 'i64' }) : f64(golden.input).setRequiresGrad(true);
    const y = network.layer.forward(x);
    t.true(relativeError(read(y), flat(golden.output)) < kTolerance);
    y.backward(f64(golden.outputGradient));
    for (const [key, value] of slots)
      t.true(relativeError(read(value.grad), flat(golden.gradients[key] as NestedNumbers)) < kTolerance, key);
    if (!ids) t.true(relativeError(read(x.grad), flat(golden.inputGradient as NestedNumbers)) < kTolerance);
    set.dispose();
    network.dispose();
  });
}

for (const name of ['linear-lora-bias', 'linear-two', 'embedding-lora']) {
  test.serial(`gradients are central differences: ${name}`, async (t) => {
    const golden = cases[name] as Case;
    const { network, set, slots } = await build(name);
    const ids = name.startsWith('embedding');
    const x = ids ? tensor(golden.input, { dtype: 'i64' }) : f64(golden.input);
    const weights = f64(golden.outputGradient);
    const loss = (): Tensor => sum(mul(network.layer.forward(x), weights));
    const value = (): number => Number(scope(() => noGrad(() => loss().dataSync()))[0]);
    scope(() => loss().backward());
    for (const [key, parameter] of slots) {
      const before = Float64Array.from(read(parameter));
      const analytic = read(parameter.grad);
      const shift = (i: number, by: number): number => {
        const changed = Float64Array.from(before);
        changed[i] = (changed[i] ?? 0) + by;
        scope(() => noGrad(() => copyInto(parameter, tensor(changed, { shape: parameter.shape, dtype: 'f64' }))));
        return value();
      };
      const numeric = Float64Array.from(before, (_, i) => (shift(i, kStep) - shift(i, -kStep)) / (2 * kStep));
      shift(0, 0);
      t.true(relativeError(analytic, numeric) < kDifferenceTolerance, key);
    }
    set.dispose();
    network.dispose();
  });
}
