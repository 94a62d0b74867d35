import { cpSync, mkdtempSync, readFileSync, renameSync, rmSync, truncateSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { estimate, loadModel, type Model, noGrad, saveModel, scope, type Tensor } from 'lorikeet';
import type { Embedding, Linear } from 'lorikeet/nn';
import { add, copyInto, embedding, linear, normal, PackedWeight, packWeight, tensor, transpose } from 'lorikeet/ops';
import { attach } from '#dist/adapters/index.js';
import { atLevel, machineLevels } from '../helpers/engine.js';
import { settledBytes } from '../helpers/settled-bytes.js';

// Weights that stay row-major where they are stored; that a step has the bits of the packed layouts is tested with those.

const folder = 'examples/stories260k';
const ids = [[1, 5, 9, 200, 17, 30]];

function copyOfModel(): { readonly path: string; readonly file: string; [Symbol.dispose](): void } {
  const path = mkdtempSync(join(tmpdir(), 'lorikeet-native-'));
  cpSync(folder, path, { recursive: true });
  return { path, file: join(path, 'model.safetensors'), [Symbol.dispose]: () => rmSync(path, { recursive: true }) };
}

function sizes(model: Model): { readonly memory: number; readonly mapped: number } {
  let [memory, mapped] = [0, 0];
  for (const [, value] of model.network.namedParameters())
    if (value instanceof PackedWeight) [memory, mapped] = [memory + value.bytes, mapped + value.mappedBytes];
  return { memory, mapped };
}

/** Bytes of the elements of all matrices. */
function matrixBytes(model: Model, size: number): number {
  const shapes = [...model.network.namedParameters()].map(([, { shape }]) => shape).filter((shape) => shape.length === 2);
  return shapes.reduce((sum, [rows = 0, columns = 0]) => sum + rows * columns * size, 0);
}

const addTo = (x: Tensor, value: number): void => scope(() => noGrad(() => copyInto(x, add(x, value))));
const loss = async (model: Pick<Model, 'loss'>): Promise<number> => scope(() => model.loss({ ids }).item());

for (const level of machineLevels) {
  test.serial(`${level}: y and dx have the bits of panels, for few rows and many`, (t) => {
    atLevel(level, () => {
      for (const dtype of ['f32', 'bf16'] as const) {
        const weight = normal([70, 129], { dtype, seed: 1 });
        for (const rows of [1, 3, 40]) {
          const [expected, got] = (['retile', 'native'] as const).map((layout) => {
            using packed = packWeight(weight, { layout });
            t.is(packed.layout, layout);
            const x = normal([rows, 129], { dtype, seed: 2 }).setRequiresGrad(true);
            const y = linear(x, packed);
            y.backward(normal([rows, 70], { dtype, seed: 3 }));
            return [y.dataSync(), x.grad?.dataSync()];
          });
          t.deepEqual(got, expected, `${dtype} ${rows}`);
        }
      }
    });
  });
}

test.serial('weights in the dtype of the file stay in it: no memory of the engine, and the file is let go of', async (t) => {
  const before = await settledBytes();
  using packed = await loadModel(folder, { layout: 'retile' });
  const full = (await settledBytes()) - before;
  const start = await settledBytes();
  using model = await loadModel(folder, { layout: 'native' });
  const own = (await settledBytes()) - start;
  t.true(own < 0.1 * full, `${own} of ${full}`);
  t.deepEqual(sizes(model), { memory: 0, mapped: matrixBytes(model, 4) });
  t.is(await loss(model), await loss(packed));
  using cast = await loadModel(folder, { layout: 'native', dtype: 'bf16' });
  t.deepEqual(sizes(cast), { memory: matrixBytes(model, 2), mapped: 0 });
});

test.serial('an adapter is merged, taken out again, and saved', async (t) => {
  const results: unknown[] = [];
  for (const layout of ['retile', 'native'] as const) {
    using copy = copyOfModel();
    using model = await loadModel(copy.path, { layout });
    using tuned = await attach(model, { type: 'lora', rank: 2, targets: 'all-linear' }, { seed: 3 });
    for (const parameter of tuned.parameters()) addTo(parameter, 0.02);
    const before = await loss(tuned);
    await tuned.merge();
    const merged = await loss(tuned);
    using bare = await loadModel(folder);
    t.not(merged, await loss(bare));
    tuned.unmerge();
    t.is(await loss(tuned), before);
    await tuned.merge();
    await saveModel(tuned, `${copy.path}/merged`);
    using again = await loadModel(`${copy.path}/merged`, { layout });
    results.push([before, merged, await loss(again)]);
    tuned.unmerge();
    t.is(await loss(tuned), before);
    // A file that takes the place of the one that the weights lie in.
    renameSync(`${copy.path}/merged/model.safetensors`, copy.file);
    t.is(await loss(tuned), before);
  }
  t.deepEqual(results[1], results[0]);
});

test.serial('trained weights are copies: the file is as it was', async (t) => {
  using model = await loadModel(folder, { layout: 'native' });
  const head = model.network.lm_head as Linear;
  const table = model.network.model.embed_tokens as Embedding;
  t.is((table.weight as PackedWeight).layout, 'native');
  const before = await loss(model);
  model.network.unfreeze();
  t.true(table.weight === head.weight);
  t.is(await loss(model), before);
  for (const [, parameter] of model.network.namedParameters()) addTo(parameter as Tensor, 0.01);
  t.not(await loss(model), before);
  model.network.freeze();
  t.is(sizes(model).mapped, 0);
  using again = await loadModel(folder, { layout: 'native' });
  t.is(await loss(again), before);
});

test.serial('a file that was changed under its weights is told of before they are used', async (t) => {
  using copy = copyOfModel();
  using model = await loadModel(copy.path, { layout: 'native' });
  const before = await loss(model);
  using same = await loadModel(copy.path, { layout: 'native' });
  t.is(await loss(same), before);
  utimesSync(copy.file, 1, 1);
  const message = /model\.safetensors: the file was changed while its tensors are in use; .* load the model again/;
  await t.throwsAsync(loss(model), { message });
  using again = await loadModel(copy.path, { layout: 'native' });
  t.is(await loss(again), before);
  truncateSync(copy.file, 4096);
  await t.throwsAsync(loss(again), { message });
});

test('a tensor in memory lends its rows, and may not be changed in place meanwhile', async (t) => {
  const weight = normal([40, 30], { seed: 1 });
  using packed = packWeight(weight, { layout: 'native' });
  t.deepEqual([packed.bytes, packed.mappedBytes], [4800, 0]);
  const rows = embedding(packed, tensor([3, 39], { dtype: 'i64' }));
  t.deepEqual(await rows.data(), await embedding(weight, tensor([3, 39], { dtype: 'i64' })).data());
  const copy = packed.unpack();
  addTo(copy, 1);
  t.notDeepEqual(await copy.data(), await packed.unpack().data());
  addTo(weight, 1);
  t.throws(() => linear(normal([2, 30]), packed), {
    message: /packWeight: the tensor whose memory a weight of layout native shares was changed in place/,
  });
  using turned = packWeight(transpose(normal([30, 40], { seed: 1 })), { layout: 'native' });
  t.deepEqual(turned.shape, [40, 30]);
});

test.serial('estimate counts what stays in the file apart', async (t) => {
  const training = { batch: 1, sequence: 64 } as const;
  const [packed, native] = [await estimate({ model: folder, training }), await estimate({ model: folder, layout: 'native', training })];
  t.is(packed.mappedBytes, 0);
  t.true(native.peakBytes.weights < 0.1 * packed.peakBytes.weights, `${native.peakBytes.weights} of ${packed.peakBytes.weights}`);
  const all = native.peakBytes.weights + native.mappedBytes;
  t.true(Math.abs(all - packed.peakBytes.weights) < 0.06 * all, `${all} and ${packed.peakBytes.weights}`);
  const cast = await estimate({ model: folder, layout: 'native', dtype: 'bf16', training });
  t.is(cast.mappedBytes, 0);
});

test.serial('tensors off the multiples of their element size are copied, as estimate tells', async (t) => {
  using copy = copyOfModel();
  const file = readFileSync(copy.file);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(file.readBigUInt64LE() + 1n);
  const start = 8 + Number(file.readBigUInt64LE());
  writeFileSync(copy.file, Buffer.concat([length, file.subarray(8, start), Buffer.from(' '), file.subarray(start)]));
  using model = await loadModel(copy.path, { layout: 'native' });
  t.deepEqual(sizes(model), { memory: matrixBytes(model, 4), mapped: 0 });
  using plain = await loadModel(folder, { layout: 'native' });
  t.is(await loss(model), await loss(plain));
  const told = await estimate({ model: copy.path, layout: 'native', training: { batch: 1, sequence: 64 } });
  t.is(told.mappedBytes, 0);
});
