import test from 'ava';
import { estimate, loadModel, type Model, scope, Tensor } from 'lorikeet';
import { type Embedding, Linear } from 'lorikeet/nn';
import { embedding, linear, normal, PackedWeight, packWeight, tensor, type WeightLayout } from 'lorikeet/ops';
import { attach } from '#dist/adapters/index.js';
import { parseRecipe } from '#dist/recipe.js';

const folder = 'examples/stories260k';
const layouts = ['retile', 'dual', 'native'] as const;

function packedBytes(model: Model): number {
  let bytes = 0;
  for (const [, module] of model.network.namedModules())
    if (module instanceof Linear && module.weight instanceof PackedWeight) bytes += module.weight.bytes;
  return bytes;
}

/** Loss and gradients of one step, and bytes of packed weights before and after it. */
async function stepWith(layout: WeightLayout, dtype: 'f32' | 'bf16') {
  using model = await loadModel(folder, { dtype, layout });
  const tuned = await attach(model, { type: 'lora', rank: 4, targets: 'all-linear' }, { seed: 3 });
  const before = packedBytes(model);
  return await scope(async () => {
    const ids = [Array.from({ length: 37 }, (_, i) => (i * 17 + 3) % 512)];
    const loss = tuned.loss({ ids, training: true });
    loss.backward();
    const gradients = await Promise.all(tuned.parameters().map(async ({ grad }) => Array.from((await grad?.data()) as Float32Array)));
    return { before, after: packedBytes(model), loss: await loss.item(), gradients };
  });
}

for (const dtype of ['f32', 'bf16'] as const) {
  test.serial(`${dtype}: all layouts give a step the same bits, retile with half of the bytes of dual`, async (t) => {
    const [retile, dual, native] = [await stepWith('retile', dtype), await stepWith('dual', dtype), await stepWith('native', dtype)];
    t.is(retile.loss, dual.loss);
    t.is(retile.loss, native.loss);
    t.deepEqual(retile.gradients, native.gradients);
    t.is(native.after, native.before);
    t.true(retile.gradients.some((gradient) => gradient.some((value) => value !== 0)));
    t.deepEqual(retile.gradients, dual.gradients);
    t.is(retile.before, dual.before);
    t.is(retile.after, retile.before);
    t.true(dual.after > 1.9 * dual.before);
  });
}

for (const dtype of ['f64', 'f32', 'bf16', 'f16'] as const) {
  test(`${dtype}: dx has the same bits from all layouts, and all unpack to what was packed`, async (t) => {
    for (const [n, k] of [
      [1, 1],
      [31, 33],
      [64, 32],
      [70, 129],
    ] as const) {
      const weight = normal([n, k], { dtype, seed: 1 });
      const results: unknown[] = [];
      for (const layout of layouts) {
        using packed = packWeight(weight, { layout });
        t.is(packed.layout, layout);
        t.deepEqual(await packed.unpack().data(), await weight.data());
        const x = normal([5, k], { dtype, seed: 2 }).setRequiresGrad(true);
        linear(x, packed).backward(normal([5, n], { dtype, seed: 4 }));
        results.push(await x.grad?.data());
      }
      t.deepEqual(results[0], results[1]);
      t.deepEqual(results[0], results[2]);
    }
  });
}

for (const dtype of ['f64', 'f32', 'bf16', 'f16'] as const) {
  test(`${dtype}: an embedding reads its rows from a packed weight`, async (t) => {
    for (const [n, k] of [
      [3, 1],
      [70, 129],
    ] as const) {
      const weight = normal([n, k], { dtype, seed: 1 });
      using packed = packWeight(weight);
      const ids = tensor([n - 1, 0, 2, n - 1], { shape: [2, 2], dtype: 'i32' });
      const rows = embedding(packed, ids);
      t.deepEqual(rows.shape, [2, 2, k]);
      t.is(rows.dtype, dtype);
      t.deepEqual(await rows.data(), await embedding(weight, ids).data());
      await t.throwsAsync(embedding(packed, tensor([n], { dtype: 'i64' })).data(), { message: /id \d+ .* outside the vocabulary/ });
      t.throws(() => embedding(packed, tensor([1])), { message: /embedding: indices must be i64 or i32; got f32/ });
    }
  });
}

test('a frozen tied head and its embedding share one packed weight; trained, one tensor', async (t) => {
  using model = await loadModel(folder);
  const head = model.network.lm_head as Linear;
  const table = model.network.model.embed_tokens as Embedding;
  t.true(table.weight instanceof PackedWeight);
  const values = await scope(() => (table.weight as PackedWeight).unpack().data());
  const ids = [[1, 5, 9, 200]];
  const before = await scope(() => model.loss({ ids }).item());
  model.network.unfreeze();
  t.true(table.weight instanceof Tensor && table.weight === head.weight && table.weight.requiresGrad);
  t.deepEqual(await (table.weight as unknown as Tensor).data(), values);
  t.is(await scope(() => model.loss({ ids }).item()), before);
  model.network.freeze();
  t.true(table.weight instanceof PackedWeight && head.weight instanceof PackedWeight);
  t.is(await scope(() => model.loss({ ids }).item()), before);
});

test.serial('estimate counts the second copy of dual', async (t) => {
  const training = { batch: 1, sequence: 64 } as const;
  const [retile, dual] = [await estimate({ model: folder, training }), await estimate({ model: folder, layout: 'dual', training })];
  t.true(dual.peakBytes.weights > 1.5 * retile.peakBytes.weights, `${dual.peakBytes.weights} and ${retile.peakBytes.weights}`);
});

test('an unknown layout is refused by loadModel and in a recipe', async (t) => {
  await t.throwsAsync(loadModel(folder, { layout: 'duel' as WeightLayout }), {
    message: 'loadModel: unknown layout "duel"; expected one of retile, dual, native; did you mean "dual"?',
  });
  t.throws(() => parseRecipe({ model: 'm', layout: 'duel', data: { train: { path: 'x' } } }), { message: /"layout" is wrong; got "duel"/ });
});
