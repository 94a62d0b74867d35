import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { CancelledError, InvalidArgumentError, IoError, memory, NonFiniteError, scope, type Tensor } from 'lorikeet';
import { type MapMatricesProgress, type MatrixItem, mapMatrices, randomizedSvd } from 'lorikeet/linalg';
import { cast, normal, tensor } from 'lorikeet/ops';
import { temporaryFolder } from '../helpers/command-line.js';
import { settledTensors } from '../helpers/settled-bytes.js';

const layers = (count: number): MatrixItem[] =>
  Array.from({ length: count }, (_, i) => ({ name: `layer ${i}`, load: () => normal([20 + i, 12], { seed: i }) }));
const work = (x: Tensor): ReturnType<typeof randomizedSvd> => randomizedSvd(x, { rank: 3, seed: 1 });
const key = { work: 'randomizedSvd', rank: 3, seed: 1 };

test.serial('factors by name in order, with progress, and one matrix in memory at a time', async (t) => {
  const before = await settledTensors();
  const seen: MapMatricesProgress[] = [];
  let live = 0;
  await scope(async () => {
    const items = layers(4).map(({ name, load }) => ({
      name,
      load: () => {
        live = Math.max(live, memory().tensors);
        return load();
      },
    }));
    const results = await mapMatrices(items, work, { progress: (progress) => seen.push(progress) });
    t.deepEqual([...results.keys()], ['layer 0', 'layer 1', 'layer 2', 'layer 3']);
    t.deepEqual(await results.get('layer 2')!.u.data(), await work(normal([22, 12], { seed: 2 })).u.data());
    // Three results of three factors, and none of their matrices, when the last one is loaded.
    t.is(live, before + 9);
  });
  t.deepEqual(
    seen.map(({ done, total, name, cached }) => [done, total, name, cached]),
    [0, 1, 2, 3].map((i) => [i + 1, 4, `layer ${i}`, false]),
  );
  t.is(memory().tensors, before);
});

test.serial('a tensor that was there before stays', async (t) => {
  await scope(async () => {
    const weight = normal([9, 8], { seed: 1 });
    await mapMatrices([{ name: 'a', load: () => weight }], work);
    t.false(weight.disposed);
  });
});

test.serial('an aborted signal ends the work after the matrix at hand', async (t) => {
  const controller = new AbortController();
  const before = await settledTensors();
  const done: string[] = [];
  const run = mapMatrices(layers(5), work, {
    signal: controller.signal,
    progress: ({ name }) => {
      done.push(name);
      if (done.length === 2) controller.abort();
    },
  });
  await t.throwsAsync(run, { instanceOf: CancelledError, message: 'mapMatrices: cancelled' });
  t.deepEqual(done, ['layer 0', 'layer 1']);
  t.is(memory().tensors, before);
});

test.serial('errors name the matrix, and leave nothing behind', async (t) => {
  const before = await settledTensors();
  const bad: MatrixItem = { name: 'blocks.3.q', load: () => tensor([[Number.NaN, 1]]) };
  const svdOfOne = (x: Tensor): ReturnType<typeof randomizedSvd> => randomizedSvd(x, { rank: 1, seed: 1 });
  await t.throwsAsync(mapMatrices([...layers(2), bad], svdOfOne), {
    instanceOf: NonFiniteError,
    message: /^mapMatrices: "blocks\.3\.q": svdLowrank: the matrix holds NaN or infinite values/,
  });
  await t.throwsAsync(mapMatrices([...layers(1), ...layers(1)], work), {
    instanceOf: InvalidArgumentError,
    message: 'mapMatrices: two matrices have one name; got "layer 0"',
  });
  t.is(memory().tensors, before);
});

test.serial('the cache finds factors by content and key, and makes damaged ones again', async (t) => {
  const folder = join(temporaryFolder(), 'cache');
  const cached: boolean[] = [];
  const run = (items: readonly MatrixItem[], other = {}): Promise<Float32Array> =>
    scope(async () => {
      const results = await mapMatrices(items, work, {
        cache: { folder, key: { ...key, ...other } },
        progress: (p) => cached.push(p.cached),
      });
      return (await [...results.values()].at(-1)!.v.data()) as Float32Array;
    });
  const made = await run(layers(2));
  // Names do not count, the order of keys neither.
  t.deepEqual(await run(layers(2).map(({ load }, i) => ({ name: `other ${i}`, load }))), made);
  t.deepEqual(await run(layers(2), { rank: 3 }), made);
  t.deepEqual(cached.splice(0), [false, false, true, true, true, true]);
  const files = readdirSync(folder);
  t.is(files.length, 2);
  t.true(files.every((name) => /^[0-9a-f]{64}\.safetensors$/.test(name)));

  const [one] = layers(1) as [MatrixItem];
  await run([one], { seed: 2 });
  await run([{ name: 'bf16', load: () => cast(normal([20, 12], { seed: 0 }), 'bf16') }]);
  await run([{ name: 'shape', load: () => normal([12, 20], { seed: 0 }) }]);
  t.deepEqual(cached.splice(0), [false, false, false]);

  for (const name of files) writeFileSync(join(folder, name), readFileSync(join(folder, name)).subarray(0, 40));
  t.deepEqual(await run(layers(2)), made);
  t.deepEqual(await run(layers(2)), made);
  t.deepEqual(cached, [false, false, true, true]);
});

test.serial('a folder that cannot be written is an error of its own kind', async (t) => {
  const file = join(temporaryFolder(), 'file');
  writeFileSync(file, '');
  await t.throwsAsync(mapMatrices(layers(1), work, { cache: { folder: join(file, 'cache'), key } }), { instanceOf: IoError });
});
