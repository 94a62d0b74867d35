import test from 'ava';
import { combine } from '../../bench/step/fastest-profile.js';
import { stepFlops, stepSizes } from '../../bench/step/flops.js';
import { shapes } from '../../bench/step/shapes.js';

test('a step of SmolLM2-135M costs 0.64 TFLOP', (t) => {
  const flops = stepFlops(stepSizes(shapes['smollm2-135m'], 2, 512, 16, false));
  t.true(Math.abs(flops.total / 1e12 - 0.643) < 0.002, `${flops.total}`);
  t.is(flops.head, 4 * 1024 * 576 * 49152);
  t.is(flops.adapters, 6 * 1024 * 4_884_480);
  t.is(flops.total, flops.frozen + flops.attention + flops.adapters + flops.head);
});

test('checkpointing adds a forward, no adapters cost nothing', (t) => {
  const flops = (rank: number, checkpointing: boolean) => stepFlops(stepSizes(shapes['tinyllama-1.1b'], 1, 1024, rank, checkpointing));
  t.is(flops(0, false).adapters, 0);
  t.is(flops(16, true).adapters / flops(16, false).adapters, 8 / 6);
  t.is(flops(16, true).head, flops(16, false).head);
});

test('refuses a config without a size', (t) => {
  t.throws(() => stepSizes({ hidden_size: 8 }, 1, 8, 4, false), {
    message: 'step: the config has no size "num_attention_heads"; got undefined',
  });
});

test('combines runs by the fastest op and the fastest pause', (t) => {
  const op = (name: string, start: number, ms: number) => ({ name, backward: false, start, ms, inputs: [], outputs: [] });
  const run = (ops: ReturnType<typeof op>[]) => ({ result: 0, ops, ms: 100 });
  const { ops, ms } = combine([run([op('a', 1, 5), op('b', 7, 2)]), run([op('a', 2, 3), op('b', 9, 3)])]);
  t.deepEqual(
    ops.map(({ name, start, ms }) => [name, start, ms]),
    [
      ['a', 1, 3],
      ['b', 5, 2],
    ],
  );
  t.is(ms, 7);
  t.throws(() => combine([run([op('a', 0, 1)]), run([op('b', 0, 1)])]), { message: 'profile: the runs differ at op 0; got a,b' });
  t.throws(() => combine([]), { message: 'profile: there is no run; expected at least 1' });
});
