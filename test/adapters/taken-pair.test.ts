// Parts taken out of frozen weights: all or none, to the bit.
import test from 'ava';
import { type AdapterMethod, AdapterSet, attachMethod, type CommonConfig, commonDefaults } from 'lorikeet';
import { Linear, Module } from 'lorikeet/nn';
import { LoraLinear } from '#dist/adapters/lora-linear.js';
import { TakenPair } from '#dist/adapters/taken-pair.js';
import { dense } from '#dist/nn/quantized.js';
import { clone } from '#dist/ops/elementwise.js';
import { noise } from '../helpers/tiny-network.js';

class Three extends Module {
  first = new Linear(6, 5, { bias: false, seed: 1 });
  second = new Linear(6, 5, { bias: false, seed: 2 });
  third = new Linear(6, 5, { bias: false, seed: 3 });
}

/** A method whose part of the layer called `broken` is of another shape than its weight. */
const taking = (broken: string): AdapterMethod<'taking', CommonConfig> => ({
  name: 'taking',
  prefix: 'lora_',
  defaults: { ...commonDefaults, targets: ['first', 'second', 'third'] },
  check: () => undefined,
  roles: [],
  create: ({ path }) => {
    const [a, b] = [noise([2, path === broken ? 7 : 6], 4), noise([5, 2], 5)];
    const taken = new TakenPair(clone(a), clone(b), 1);
    return new LoraLinear(a.setRequiresGrad(true), b.setRequiresGrad(true), undefined, { scale: 1, dropout: 0, seed: 0, path }, taken);
  },
});

const read = (weight: Linear['weight']): number[] => [...(dense(weight).dataSync() as Float32Array)];

const paths = ['first', 'second', 'third'] as const;

test.serial('where one layer cannot be split, all have the weights from before and no wrappers', async (t) => {
  const network = new Three();
  network.freeze();
  const set = new AdapterSet(network);
  const layers = paths.map((path) => network[path]);
  const weights = layers.map(({ weight }) => weight);
  const values = weights.map(read);
  await t.throwsAsync(attachMethod(set, taking('third')));
  t.deepEqual(set.names, []);
  for (const [i, path] of paths.entries()) {
    t.is(network[path], layers[i] as Linear);
    t.is(network[path].weight, weights[i] as Linear['weight']);
    t.deepEqual(read(network[path].weight), values[i]);
  }
  await attachMethod(set, taking(''));
  t.deepEqual(set.names, ['default']);
  for (const [i, layer] of layers.entries()) t.not(layer.weight, weights[i] as Linear['weight']);
});

test.serial('where an adapter cannot be put onto one layer, it is on none', async (t) => {
  const network = new Three();
  const layers = paths.map((path) => network[path]);
  const method = {
    ...taking(''),
    extras: () => [{ path: '', module: taking('').create?.({ path: 'first' } as never, commonDefaults, {} as never) }],
  };
  await t.throwsAsync(attachMethod(network, method as unknown as AdapterMethod<'taking', CommonConfig>), {
    message: /does not look for virtual tokens/,
  });
  for (const [i, path] of paths.entries()) t.is(network[path], layers[i] as Linear);
});
