import test from 'ava';
import { type AdapterSet, attach } from '#dist/adapters/index.js';
import type { RowAdapters } from '#dist/nn/index.js';
import { tensor } from '#dist/ops/create.js';
import { add, mul } from '#dist/ops/elementwise.js';
import { sum } from '#dist/ops/reduce.js';
import { narrow } from '#dist/ops/shape.js';
import { noGrad, scope } from '#dist/scope.js';
import type { Tensor } from '#dist/tensor.js';
import { sameBits, valuesOf } from '../helpers/adapters.js';
import { perturb } from '../helpers/perturb.js';
import { kVocabulary, noise, routed, TinyNetwork } from '../helpers/tiny-network.js';

const kTime = 3;
const rowIds = Array.from({ length: 8 }, (_, row) => Array.from({ length: kTime }, (_, t) => (row * 5 + t * 7) % kVocabulary));
const batch = (rows: readonly number[]): Tensor =>
  tensor(
    rows.map((row) => rowIds[row] as number[]),
    { dtype: 'i64' },
  );

/** Three adapters of different kinds and ranks on one network. */
async function build(kind: 'plain' | 'mixed'): Promise<{ network: TinyNetwork; set: AdapterSet }> {
  const network = new TinyNetwork();
  const targets = ['q_proj', 'down_proj', 'head', 'embed'] as const;
  await attach(network, { type: 'lora', rank: 3, targets: [...targets] }, { name: 'a', seed: 1 });
  await attach(network, { type: 'lora', rank: 5, rsLora: true, dropout: 0.2, targets: ['down_proj', 'q_proj'] }, { name: 'b', seed: 2 });
  const third =
    kind === 'plain'
      ? ({ rank: 2, loraBias: true } as const)
      : ({ rank: 2, dora: true, bias: 'lora_only', modulesToSave: ['head'] } as const);
  const set = await attach(network, { type: 'lora', ...third, targets: ['q_proj', 'down_proj'] }, { name: 'c', seed: 3 });
  for (const name of set.names) {
    set.activate(name);
    perturb(set);
  }
  return { network, set };
}

// b has dropout, whose masks count b's own rows: no row has it beside another, or that row would depend on b's other rows.
const wishes: RowAdapters = [['a'], ['b'], [], ['c'], ['a'], ['a', 'c'], ['c', 'a'], ['b']];

for (const kind of ['plain', 'mixed'] as const) {
  test.serial(`a row computes the same bits alone, beside others and elsewhere in the batch (${kind})`, async (t) => {
    const { network, set } = await build(kind);
    const run = (rows: readonly number[]): Promise<Float32Array> =>
      noGrad(() => valuesOf(scope(() => network.forward(batch(rows), routed(rows.map((row) => wishes[row] as string[]))))));
    const perRow = kTime * kVocabulary;
    const alone = await Promise.all(rowIds.map((_, row) => run([row])));
    for (const order of [
      [0, 1, 2, 3, 4, 5, 6, 7],
      [7, 6, 5, 4, 3, 2, 1, 0],
      [4, 0, 6, 2],
    ]) {
      const together = await run(order);
      for (const [place, row] of order.entries()) {
        t.true(
          sameBits(together.slice(place * perRow, (place + 1) * perRow), alone[row] as Float32Array),
          `row ${row} at ${place} of ${order.join()}`,
        );
      }
    }
    for (const [row, names] of wishes.entries()) {
      set.activate(names);
      const active = await noGrad(() => valuesOf(scope(() => network.forward(batch([row])))));
      t.true(sameBits(active, alone[row] as Float32Array), `active ${names.join() || 'none'}`);
    }
    set.dispose();
    network.dispose();
  });

  test.serial(`gradients of an adapter depend on its own rows only, bit for bit (${kind})`, async (t) => {
    const { network, set } = await build(kind);
    const weights = noise([rowIds.length, kTime, kVocabulary], 77);
    const gradients = (order: readonly number[], name: string): Map<string, Float32Array> => {
      // Dropout masks count the draws of an adapter: every run starts at the same place.
      for (const each of set.names)
        set.restoreRandomState(each, Object.fromEntries(Object.keys(set.randomState(each)).map((path) => [path, 0])));
      for (const value of set.parameters(set.names)) value.clearGrad();
      scope(() => {
        const y = network.forward(
          batch(order),
          routed(
            order.map((row) => wishes[row] as string[]),
            true,
          ),
        );
        let loss: Tensor | undefined;
        for (const [place, row] of order.entries()) {
          const part = sum(mul(narrow(y, 0, place, 1), narrow(weights, 0, row, 1)));
          loss = loss === undefined ? part : add(loss, part);
        }
        loss?.backward();
      });
      const found = new Map<string, Float32Array>();
      for (const [key, value] of set.namedParameters([name])) {
        const gradient = value.grad;
        if (gradient !== undefined) found.set(key, gradient.dataSync() as Float32Array);
        gradient?.dispose();
      }
      return found;
    };
    for (const name of ['a', 'b', 'c']) {
      const own = wishes.flatMap((names, row) => (names.includes(name) ? [row] : []));
      const alone = gradients(own, name);
      const together = gradients([0, 1, 2, 3, 4, 5, 6, 7], name);
      t.true(alone.size > 0);
      t.deepEqual([...together.keys()], [...alone.keys()]);
      for (const [key, value] of alone) t.true(sameBits(together.get(key) as Float32Array, value), `${name}: ${key}`);
    }
    weights.dispose();
    set.dispose();
    network.dispose();
  });
}

test.serial('rows name adapters that exist, one entry a row', async (t) => {
  const { network, set } = await build('plain');
  t.throws(() => network.forward(batch([0, 1]), routed([['a'], ['x']])), { code: 'adapter', message: /no adapter "x"; there are a, b, c/ });
  t.throws(() => network.forward(batch([0, 1, 2]), routed([['a'], ['b']])), { code: 'adapter', message: /got 2 entries for a batch of 3/ });
  set.dispose();
  network.dispose();
});
