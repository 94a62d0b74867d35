import test from 'ava';
import { checkpoint, manualSeed, randomState, setRandomState, type Tensor } from 'lorikeet';
import { dropout, ones, sum } from 'lorikeet/ops';
import { battery } from '../helpers/battery.js';
import { sameBits } from '../helpers/values.js';
import { cases } from './dropout.cases.js';

battery(test, cases);

const bits = (x: Tensor | undefined): ArrayBufferView => (x as Tensor).dataSync();

// The tests below share the environment's random state, so none of them awaits.

test('a seed gives one sequence of masks; a saved state goes on with it', (t) => {
  manualSeed(7);
  const first = [1, 2, 3].map(() => bits(dropout(ones([50]), 0.5)));
  t.false(sameBits(first[0] as ArrayBufferView, first[1] as ArrayBufferView));
  manualSeed(7);
  t.true(sameBits(bits(dropout(ones([50]), 0.5)), first[0] as ArrayBufferView));
  const state = randomState();
  dropout(ones([50]), 0.5);
  setRandomState(state);
  t.true(sameBits(bits(dropout(ones([50]), 0.5)), first[1] as ArrayBufferView));
  dropout(ones([50]), 0);
  t.true(sameBits(bits(dropout(ones([50]), 0.5)), first[2] as ArrayBufferView));
});

test('backward uses the mask of forward', (t) => {
  manualSeed(1);
  const x = ones([1000]).setRequiresGrad(true);
  const y = dropout(x, 0.3);
  sum(y).backward();
  t.true(sameBits(bits(x.grad), bits(y)));
});

test('a recomputing checkpoint sees the same masks and leaves the sequence as it was', (t) => {
  const run = (recompute: boolean): { gradient: ArrayBufferView; next: ArrayBufferView } => {
    manualSeed(3);
    const x = ones([200]).setRequiresGrad(true);
    const block = (v: Tensor): Tensor => dropout(dropout(v, 0.2), 0.4);
    const y = recompute ? checkpoint(block, [x]) : block(x);
    const other = dropout(ones([200]), 0.5);
    sum(y).backward();
    return { gradient: bits(x.grad), next: bits(other) };
  };
  const [plain, again] = [run(false), run(true)];
  t.true(sameBits(plain.gradient, again.gradient));
  t.true(sameBits(plain.next, again.next));
});

test('about the right share is dropped', (t) => {
  // 10^5 draws at p = 0.3: standard error 0.0015.
  const values = bits(dropout(ones([100_000]), 0.3, { seed: 5n, stream: 0n })) as Float32Array;
  const dropped = values.filter((v) => v === 0).length / values.length;
  t.true(Math.abs(dropped - 0.3) < 0.006);
});

test('errors', (t) => {
  t.throws(() => dropout(ones([2]), 1), { message: /dropout: the probability must be at least 0 and below 1; got 1/ });
  t.throws(() => dropout(ones([2]), Number.NaN), { message: /got NaN/ });
  t.throws(() => dropout(ones([2], { dtype: 'i64' }), 0.5), { message: /dropout: needs a floating tensor; got i64/ });
});
