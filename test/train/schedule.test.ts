import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import test from 'ava';
import { createSchedule } from '#dist/train/optimizer.js';
import { worstError } from '../helpers/values.js';

/** What transformers and torch computed, see scripts/golden/schedules.py. */
const golden = JSON.parse(readFileSync(resolve('test/golden/schedules.json'), 'utf8')) as {
  readonly steps: number;
  readonly warmup: number;
} & Readonly<Record<string, readonly number[]>>;

for (const [name, settings] of [
  ['constant', { schedule: 'constant' }],
  ['linear', { schedule: 'linear' }],
  ['cosine', { schedule: 'cosine' }],
  ['cosine-minimum', { schedule: 'cosine', minimumRate: 0.1 }],
  // A quarter of the 32 steps after the warm-up.
  ['wsd', { schedule: 'wsd', decayShare: 0.25 }],
  ['wsd-minimum', { schedule: 'wsd', decayShare: 0.25, minimumRate: 0.2 }],
  ['one-cycle', { schedule: 'one-cycle' }],
] as const) {
  test(`${name} has the rates of transformers and torch`, (t) => {
    const { steps, warmup } = golden;
    const schedule = createSchedule({ steps, warmup, minimumRate: undefined, decayShare: undefined, ...settings });
    const expected = golden[name] as readonly number[];
    t.is(expected.length, steps);
    const rates = expected.map((_, step) => schedule(step));
    // The warm-up of `wsd` begins at the minimum there, and at 0 here, as those of the other schedules do.
    const from = name === 'wsd-minimum' ? warmup : 0;
    t.true(worstError(rates.slice(from), expected.slice(from)) < 1e-12, `${rates}`);
  });
}

test('linear falls to its minimum', (t) => {
  const schedule = createSchedule({ schedule: 'linear', steps: 10, warmup: 0, minimumRate: 0.5 });
  t.deepEqual([0, 5, 10].map(schedule), [1, 0.75, 0.5]);
});
