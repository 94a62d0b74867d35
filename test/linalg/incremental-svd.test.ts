import test from 'ava';
import { InvalidArgumentError, memory, NonFiniteError, ShapeError, scope, type Tensor } from 'lorikeet';
import { IncrementalSvd, svd } from 'lorikeet/linalg';
import { cast, matmul, mean, narrow, normal, sub, tensor, transpose } from 'lorikeet/ops';
import { apart, goldenMatrices, unorthogonal, withSpectrum } from '../helpers/matrices.js';
import { numbers } from '../helpers/numbers.js';
import { settledTensors } from '../helpers/settled-bytes.js';

const lowrank = { seed: 1 };

for (const name of ['full', 'lowrank'] as const) {
  test.serial(`PEFT's incremental PCA after each batch: ${name}`, async (t) => {
    await scope(async () => {
      const golden = await goldenMatrices();
      const pca = new IncrementalSvd({ rank: 6, ...(name === 'lowrank' ? { lowrank } : {}) });
      for (let i = 0; i < 4; i++) {
        await pca.update(golden.get(`incremental.batch.${i}`)!);
        for (const part of ['components', 'singularValues', 'explainedVariance', 'explainedVarianceRatio', 'mean', 'variance'] as const) {
          const expected = golden.get(`incremental.${name}.${i}.${part}`)!;
          const scale = Math.max(...(await numbers(expected)).map(Math.abs));
          const difference = await apart(cast(pca[part], 'f64'), expected);
          t.true(difference <= 1e-4 * scale, `${part} after batch ${i}: ${difference}`);
        }
      }
      t.is(pca.samplesSeen, 72);
      pca.dispose();
    });
  });
}

test.serial('with the rank of the data the result is that of all rows at once, however they are cut', async (t) => {
  await scope(async () => {
    const rows = withSpectrum(90, 30, [9, 6, 4, 2, 1], 'f64');
    const exact = svd(sub(rows, mean(rows, 0, { keepDim: true })));
    for (const cuts of [[90], [30, 60], [8, 40, 42], [45, 5, 5, 35]]) {
      using pca = new IncrementalSvd({ rank: 5 });
      let start = 0;
      for (const count of cuts) {
        await pca.update(narrow(rows, 0, start, count));
        start += count;
      }
      t.true((await apart(pca.singularValues, narrow(exact.s, 0, 0, 5))) < 1e-10);
      const space = (vt: Tensor): Tensor => matmul(transpose(vt), vt);
      t.true((await apart(space(pca.components), space(narrow(exact.vt, 0, 0, 5)))) < 1e-10);
      t.true(Math.abs((await numbers(pca.explainedVarianceRatio)).reduce((a, b) => a + b) - 1) < 1e-10);
    }
  });
});

test.serial('components are orthonormal, their largest entry positive; ratios sum to 1 at most; bf16 rows are widened', async (t) => {
  await scope(async () => {
    using pca = new IncrementalSvd({ rank: 4 });
    for (const seed of [1, 2]) await pca.update(cast(normal([20, 10], { seed }), 'bf16'));
    t.is(pca.components.dtype, 'f32');
    t.true((await unorthogonal(transpose(pca.components))) < 1e-6);
    const values = await numbers(pca.components);
    for (let i = 0; i < 4; i++) {
      const row = values.slice(i * 10, (i + 1) * 10);
      t.is(Math.max(...row), Math.max(...row.map(Math.abs)));
    }
    t.true((await numbers(pca.explainedVarianceRatio)).reduce((a, b) => a + b) < 1);
  });
});

test.serial('without a rank the smaller side of the first batch is kept', async (t) => {
  using pca = new IncrementalSvd();
  await scope(() => pca.update(normal([4, 7], { seed: 1 })));
  t.deepEqual(pca.components.shape, [4, 7]);
  t.deepEqual(pca.singularValues.shape, [4]);
});

test.serial('a refused batch loses nothing, and nothing is left behind', async (t) => {
  const before = await settledTensors();
  await scope(async () => {
    using pca = new IncrementalSvd({ rank: 3 });
    await pca.update(normal([9, 6], { seed: 1 }));
    const values = await numbers(pca.singularValues);
    const bad = new Float32Array(54).fill(1);
    bad[20] = Number.NaN;
    await t.throwsAsync(pca.update(tensor(bad, { shape: [9, 6] })), { instanceOf: NonFiniteError });
    await t.throwsAsync(pca.update(normal([2, 6])), {
      instanceOf: ShapeError,
      message: 'IncrementalSvd: the batch is too small for rank 3; got [2, 6], expected at least 3 of both',
    });
    await t.throwsAsync(pca.update(normal([9, 5])), {
      instanceOf: ShapeError,
      message: 'IncrementalSvd: rows of another width; got 5, expected 6',
    });
    await t.throwsAsync(pca.update(normal([9])), { instanceOf: ShapeError, message: 'IncrementalSvd: needs rows [B, N]; got [9]' });
    const running = pca.update(normal([9, 6], { seed: 2 }));
    await t.throwsAsync(pca.update(normal([9, 6], { seed: 3 })), {
      instanceOf: InvalidArgumentError,
      message: /^IncrementalSvd: an update is still running/,
    });
    t.deepEqual(await numbers(pca.singularValues), values);
    await running;
    t.is(pca.samplesSeen, 18);
  });
  t.is(memory().tensors, before);
});

test.serial('wrong options are typed errors', (t) => {
  t.throws(() => new IncrementalSvd({ rank: 0 }), {
    instanceOf: InvalidArgumentError,
    message: 'IncrementalSvd: the rank is not a positive whole number; got 0',
  });
  t.throws(() => new IncrementalSvd({ lowrank }), {
    instanceOf: InvalidArgumentError,
    message: 'IncrementalSvd: lowrank needs a rank; got none',
  });
  t.throws(() => new IncrementalSvd({ rank: 4, lowrank: { q: 3 } }), {
    instanceOf: InvalidArgumentError,
    message: 'IncrementalSvd: the sketch is narrower than the rank; got q 3, expected at least 4',
  });
  t.throws(() => new IncrementalSvd().components, {
    instanceOf: InvalidArgumentError,
    message: /^IncrementalSvd: no batch was taken in yet/,
  });
});
