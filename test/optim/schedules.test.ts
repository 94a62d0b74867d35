import test from 'ava';
import { constantSchedule, cosineSchedule, linearSchedule, oneCycleSchedule, stableDecaySchedule, warmupSchedule } from 'lorikeet/optim';

const near = (a: number, b: number): boolean => Math.abs(a - b) < 1e-12;

test('constant and linear', (t) => {
  t.is(constantSchedule()(1e6), 1);
  const linear = linearSchedule({ steps: 4, end: 0.2 });
  t.true([0, 1, 2, 4, 9].every((step, i) => near(linear(step), [1, 0.8, 0.6, 0.2, 0.2][i] as number)));
});

test('cosine', (t) => {
  const cosine = cosineSchedule({ steps: 6 });
  // cos 0, 60, 90 and 180 degrees
  t.true([0, 2, 3, 6, 8].every((step, i) => near(cosine(step), [1, 0.75, 0.5, 0, 0][i] as number)));
  t.true(near(cosineSchedule({ steps: 6, end: 0.1 })(6), 0.1));
});

test('warm-up goes before another schedule', (t) => {
  const schedule = warmupSchedule(4, linearSchedule({ steps: 2 }));
  t.deepEqual([0, 1, 4, 5, 6].map(schedule), [0, 0.25, 1, 0.5, 0]);
  t.is(warmupSchedule(0)(0), 1);
});

test('stable, then decay', (t) => {
  const schedule = stableDecaySchedule({ stable: 3, decay: 2 });
  t.deepEqual([0, 2, 3, 4, 5, 7].map(schedule), [1, 1, 1, 0.5, 0, 0]);
});

test('one cycle: starts at 1/25, peaks at the share asked for, ends near 0', (t) => {
  const schedule = oneCycleSchedule({ steps: 10 });
  t.true(near(schedule(0), 0.04));
  t.true(near(schedule(2), 1));
  t.true(near(schedule(9), 0.04 / 1e4));
  t.true(schedule(1) > schedule(0) && schedule(5) < schedule(3));
});

test('errors', (t) => {
  t.throws(() => linearSchedule({ steps: 0 }), { message: /linearSchedule: the number of steps must be above 0; got 0/ });
  t.throws(() => warmupSchedule(-1), { message: /warmupSchedule: the number of steps must be a whole number from 0; got -1/ });
  t.throws(() => oneCycleSchedule({ steps: 5, rise: 1 }), { message: /oneCycleSchedule: rise must lie between 0 and 1; got 1/ });
});
