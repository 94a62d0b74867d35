import test from 'ava';
import { InvalidArgumentError, scope } from 'lorikeet';
import { add, mul, tensor } from 'lorikeet/ops';
import { Capture } from '#dist/capture.js';
import { copyInto } from '#dist/ops/shape.js';
import { numbers } from './helpers/numbers.js';

test('captured work runs again on what its inputs hold by then', async (t) => {
  await scope(async () => {
    const x = tensor([1, 2]);
    const { result, capture } = Capture.of(() => add(mul(x, x), 1));
    t.deepEqual(await numbers(result), [2, 5]);
    copyInto(x, tensor([3, 4]));
    capture?.launch([result]);
    t.deepEqual(await numbers(result), [10, 17]);
    capture?.launch([result]);
    t.deepEqual(await numbers(result), [10, 17]);
    capture?.dispose();
    t.throws(() => capture?.launch([result]), {
      instanceOf: InvalidArgumentError,
      message: /^launch: no capture has this number; got \d+$/,
    });
  });
});

test('work that takes values from JavaScript, or gives some, cannot run again', async (t) => {
  await scope(async () => {
    const x = tensor([1, 2]);
    t.is(Capture.of(() => add(x, tensor([5, 5]))).capture, undefined);
    t.is(Capture.of(() => x.dataSync()).capture, undefined);
  });
});

test('captures do not nest, and one that fails ends', (t) => {
  scope(() => {
    const x = tensor([1, 2]);
    const nested = (): unknown => Capture.of(() => Capture.of(() => add(x, 1)));
    t.throws(nested, { instanceOf: InvalidArgumentError, message: 'capture: one is under way already' });
    const { capture } = Capture.of(() => add(x, 1));
    t.not(capture, undefined);
    capture?.dispose();
  });
});
