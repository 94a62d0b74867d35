import test from 'ava';
import type { Profile, ProfiledOp } from 'lorikeet';
import { profileRows, profileText } from '#dist/cli/profile-report.js';

const x = { dtype: 'f32', shape: [1000] } as const;
const op = (name: string, backward: boolean, start: number, ms: number): ProfiledOp => ({
  name,
  backward,
  start,
  ms,
  inputs: [x],
  outputs: [x],
});
const profile: Profile<undefined> = {
  result: undefined,
  ms: 10,
  ops: [op('add', false, 0, 1), op('add', false, 2, 1), op('rmsNorm backward', true, 3, 4), op('add', true, 8, 1)],
};
const rows = profileRows(profile, { gflops: { f32: 100, bf16: 200 }, gigabytesPerSecond: 8 });

test('groups by op and direction, the longest first, with the pauses last', (t) => {
  t.deepEqual(
    rows.map(({ op, calls, ms, percent }) => [op, calls, ms, percent]),
    [
      ['rmsNorm backward', 1, 4, 40],
      ['add', 2, 2, 20],
      ['add backward', 1, 1, 10],
      ['(between ops)', 4, 3, 30],
    ],
  );
});

test('sets each op against the roofline', (t) => {
  const add = rows.find(({ op }) => op === 'add');
  t.is(add?.floorMs, 0.002);
  t.is(add?.gigabytesPerSecond, 0.008);
  t.is(add?.percentOfRoofline, 0.1);
});

test('prints one aligned line for each row', (t) => {
  const lines = profileText(rows).split('\n');
  t.is(lines.length, rows.length + 1);
  t.is(new Set(lines.map((line) => line.length)).size, 1);
  t.regex(lines[1] ?? '', /^rmsNorm backward\s+1\s+4\.00\s+40\.0/);
});
