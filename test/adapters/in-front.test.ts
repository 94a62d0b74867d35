// Methods that put keys and values in front of those of attention layers.
import test from 'ava';
import {
  type AdapterMethod,
  AdapterModule,
  attach,
  attachMethod,
  type CommonConfig,
  commonDefaults,
  generateBatch,
  type Tensor,
} from 'lorikeet';
import type { KeyValuePrefix } from 'lorikeet/nn';
import { normal } from 'lorikeet/ops';
import { scope } from '#dist/scope.js';
import { loadTiny, logitsOf, relativeError, sameBits } from '../helpers/adapters.js';
import { perturb } from '../helpers/perturb.js';

const ids = [3, 17, 42, 5, 8, 80];

/** Trained keys and values [1, P, G, K] of one layer. */
class Front extends AdapterModule {
  keys: Tensor;
  values: Tensor;

  constructor(length: number, stream: number) {
    super();
    this.keys = normal([1, length, 2, 8], { stream }).setRequiresGrad(true);
    this.values = normal([1, length, 2, 8], { stream: stream + 1 }).setRequiresGrad(true);
  }

  override prefix(): KeyValuePrefix {
    return { keys: this.keys, values: this.values };
  }
}

const front: AdapterMethod<'front', CommonConfig & { length: number }> = {
  name: 'front',
  prefix: 'front',
  defaults: { ...commonDefaults, length: 3 },
  check: () => {},
  startsAsIdentity: () => false,
  roles: ['attention'],
  kinds: ['other'],
  create: ({ path }, { length }, { stream }) => new Front(length, stream(path, 'front')),
};

test.serial('keys in front of attention change the model, train and come off', async (t) => {
  const model = await loadTiny();
  const base = await logitsOf(model, ids);
  const tuned = await attachMethod(model, front);
  t.deepEqual(
    tuned.table().map(({ path }) => path),
    ['model.layers.0.self_attn', 'model.layers.1.self_attn'],
  );
  t.true(relativeError(await logitsOf(tuned, ids), base) > 0.01);
  const gradients = (checkpointing: boolean): Float32Array[] => {
    for (const value of tuned.parameters()) value.clearGrad();
    scope(() => tuned.loss({ ids: [ids, ids.slice(2)], training: true, checkpointing }).backward());
    return tuned.parameters().map((value) => Float32Array.from((value.grad as Tensor).dataSync() as Float32Array));
  };
  const plain = gradients(false);
  for (const [i, gradient] of gradients(true).entries()) t.true(sameBits(gradient, plain[i] as Float32Array));
  t.true(plain.every((gradient) => gradient.some((x) => x !== 0)));
  tuned.dispose();
  t.true(sameBits(await logitsOf(model, ids), base));
  model.dispose();
});

test.serial('rows with keys in front, a branch inside, both and none keep their bits, and generate with a cache', async (t) => {
  const model = await loadTiny();
  await attachMethod(model, front, {}, { name: 'front', seed: 1 });
  await attachMethod(model, front, { length: 1 }, { name: 'short', seed: 3 });
  const tuned = await attach(model, { type: 'lora', targets: 'all-linear' }, { name: 'inside', seed: 2 });
  perturb(tuned);
  const rows = [['front'], ['inside'], [], ['front', 'inside'], ['short', 'front'], ['short']];
  const run = (chosen: readonly number[]): Promise<Float32Array> =>
    scope(
      async () =>
        (await tuned
          .logits(
            chosen.map(() => ids),
            { rows: chosen.map((row) => rows[row] as string[]) },
          )
          .data()) as Float32Array,
    );
  const together = await run([0, 1, 2, 3, 4, 5]);
  const size = together.length / rows.length;
  for (const [row, names] of rows.entries()) {
    const mine = together.slice(row * size, (row + 1) * size);
    t.true(sameBits(await run([row]), mine), `row ${row}`);
    tuned.activate(names);
    t.true(sameBits(await logitsOf(tuned, ids), mine), `active ${names.join() || 'none'}`);
    const [first, second] = await generateBatch(tuned, [ids, ids.slice(0, 4)], { maxNewTokens: 5, endTokens: [] });
    t.deepEqual(first?.ids, greedy(ids, 5), `generated ${names.join() || 'none'}`);
    t.deepEqual(second?.ids, greedy(ids.slice(0, 4), 5));
  }

  /** The most likely tokens, each by a pass over the whole text. */
  function greedy(prompt: readonly number[], count: number): number[] {
    const text = [...prompt];
    for (let i = 0; i < count; i++) {
      const logits = scope(() => Float32Array.from(tuned.logits([text]).dataSync() as Float32Array));
      const last = logits.subarray(logits.length - logits.length / text.length);
      text.push(last.indexOf(Math.max(...last)));
    }
    return text.slice(prompt.length);
  }
  tuned.dispose();
  model.dispose();
});

test.serial('keys in front of a layer that is no attention are refused', async (t) => {
  const model = await loadTiny();
  await t.throwsAsync(attachMethod(model, front, { targets: ['q_proj'] }), {
    code: 'adapter',
    message: /Front puts keys and values in front of those of attention; got a layer of role attention\.query/,
  });
  model.dispose();
});
