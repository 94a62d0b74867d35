import test from 'ava';
import { InvalidArgumentError, memory, profile, scope, synchronize } from 'lorikeet';
import { add, linear, mul, normal, packWeight, sum } from 'lorikeet/ops';

test.serial('notes ops in the order in which they run, with dtypes and shapes', async (t) => {
  const { result, ops, ms } = await scope(() =>
    profile(() => {
      const x = normal([2, 3], { seed: 1 });
      return add(mul(x, x), x).shape;
    }),
  );
  t.deepEqual(result, [2, 3]);
  t.deepEqual(
    ops.map(({ name }) => name),
    ['normal', 'mul', 'add'],
  );
  t.deepEqual(ops[1]?.inputs, [
    { dtype: 'f32', shape: [2, 3] },
    { dtype: 'f32', shape: [2, 3] },
  ]);
  t.deepEqual(ops[2]?.outputs, [{ dtype: 'f32', shape: [2, 3] }]);
  let end = 0;
  for (const op of ops) {
    t.true(op.start >= end);
    t.true(op.ms >= 0);
    end = op.start + op.ms;
  }
  t.true(end <= ms);
});

test.serial('tells the work of a backward apart', async (t) => {
  const { ops } = await scope(() =>
    profile(() => {
      const x = normal([4], { seed: 1 }).setRequiresGrad(true);
      sum(mul(x, x)).backward();
    }),
  );
  const first = ops.findIndex(({ backward }) => backward);
  t.true(first > 0);
  t.deepEqual(
    ops.slice(0, first).map(({ name }) => name),
    ['normal', 'mul', 'sum'],
  );
  t.true(ops.slice(first).every(({ backward }) => backward));
  const later = await profile(() => scope(() => void normal([1])));
  t.deepEqual(
    later.ops.map(({ backward }) => backward),
    [false],
  );
});

test.serial('keeps places of tensors that were not given', async (t) => {
  const weight = packWeight(normal([3, 2], { seed: 1 }));
  const { ops } = await scope(() => profile(() => void linear(normal([5, 2], { seed: 2 }), weight)));
  weight.dispose();
  const product = ops.find(({ name }) => name === 'linear');
  t.deepEqual(product?.inputs[0], { dtype: 'f32', shape: [5, 2] });
  t.is(product?.inputs[1], undefined);
  t.deepEqual(product?.outputs.at(-1)?.shape, [5, 3]);
});

test.serial('costs no tensors and ends with what it profiles', async (t) => {
  await synchronize();
  const before = memory();
  const { ops } = await profile(() => scope(() => void normal([1000], { seed: 1 })));
  t.is(ops.length, 1);
  const after = memory();
  t.is(after.tensors, before.tensors);
  t.is(after.bytes, before.bytes);
  scope(() => void normal([1000], { seed: 1 }));
  const next = await profile(() => undefined);
  t.deepEqual(next.ops, []);
});

test.serial('refuses a second profile and recovers from a failure', async (t) => {
  const error = await t.throwsAsync(
    profile(() => profile(() => undefined)),
    { instanceOf: InvalidArgumentError },
  );
  t.is(error?.message, 'profile: one is running already');
  await t.throwsAsync(
    profile(() => {
      throw new Error('on purpose');
    }),
    { message: 'on purpose' },
  );
  t.deepEqual((await profile(() => 7)).result, 7);
});
