import test from 'ava';
import { parseCalibration, percentOf, rooflineOf } from '../../bench/roofline/roofline.js';

const peak = (one: number, all: number) => ({ one, all });
const figures = {
  level: 'avx2',
  threads: 2,
  f32: peak(50, 100),
  bf16: peak(60, 120),
  l2: peak(90, 180),
  read: peak(10, 12),
  triad: peak(9, 14),
};

test('reads the figures of the calibration', (t) => {
  t.deepEqual(parseCalibration(JSON.stringify(figures)), figures);
  t.deepEqual(rooflineOf(figures), { gflops: { f32: 100, bf16: 120 }, gigabytesPerSecond: 14 });
  t.is(percentOf(30, 120), 25);
});

test('refuses a missing or empty figure', (t) => {
  t.throws(() => parseCalibration(JSON.stringify({ ...figures, l2: undefined })), { message: 'roofline: no figure "l2"; got undefined' });
  t.throws(() => parseCalibration(JSON.stringify({ ...figures, f32: peak(1, 0) })), {
    message: 'roofline: no figure "f32"; got {"one":1,"all":0}',
  });
});
