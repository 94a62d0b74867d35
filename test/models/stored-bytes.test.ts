import { join } from 'node:path';
import test from 'ava';
import { InvalidArgumentError, loadModel, scope } from 'lorikeet';
import { storedBytes } from '#dist/models/stored-bytes.js';
import { normal } from '#dist/ops/create.js';
import { PackedWeight } from '#dist/ops/linalg.js';
import { packQuantized, quantizeInt8, quantizeNf4 } from '#dist/ops/quantize.js';
import { packSigns, signQuantize } from '#dist/ops/sign.js';
import { goldenFolder } from '../helpers/folders.js';

test('bytes are those of the weights themselves', async (t) => {
  scope(() => {
    for (const shape of [
      [33, 70],
      [640, 96],
      [1, 1],
    ] as const) {
      const x = normal(shape);
      const double = { type: 'nf4', blockSize: 32, doubleQuantization: true } as const;
      const made = [packQuantized(quantizeNf4(x)), packQuantized(quantizeInt8(x)), packQuantized(quantizeNf4(x, double))];
      if (shape[0] * shape[1] > 1) {
        using signs = packSigns(signQuantize(x));
        t.is(signs.bytes, storedBytes(shape, 'sign'));
      }
      t.deepEqual(
        made.map(({ bytes }) => bytes),
        [storedBytes(shape, 'nf4'), storedBytes(shape, 'int8'), storedBytes(shape, double)],
      );
      for (const weight of made) weight.dispose();
    }
  });
  for (const name of ['tiny-llama', 'tiny-qwen2']) {
    using model = await loadModel(join(goldenFolder, 'gguf', `${name}.gguf`), { dtype: 'stored' });
    for (const [path, value] of model.network.namedParameters()) {
      if (value instanceof PackedWeight && value.quantization !== undefined)
        t.is(value.bytes, storedBytes(value.shape as [number, number], value.quantization), path);
    }
  }
  t.is(storedBytes([3, 5], 'bf16'), 30);
});

test('an unknown storage and rows that do not fit are refused', (t) => {
  const refused = { instanceOf: InvalidArgumentError };
  t.throws(() => storedBytes([2, 32], 'q3_0'), { ...refused, message: 'storedBytes: unknown storage "q3_0"' });
  t.throws(() => storedBytes([2, 33], 'q8_0'), {
    ...refused,
    message: 'storedBytes: rows are no whole number of q8_0 blocks; got [2, 33], expected a multiple of 32',
  });
});
