import test from 'ava';
import { barLine, plainLine } from '#dist/cli/progress-line.js';

const state = {
  label: 'step',
  done: 12,
  total: 300,
  notes: ['loss 2.3145', '1.23 k tokens/s', '1.22 GiB peak', '1.41 GiB process'],
  left: 245,
};

test('a wide terminal shows everything', (t) => {
  t.is(
    barLine(state, 120),
    'step █░░░░░░░░░░░░░░░░░░░░░░░ 12/300  4 min 5 s left  loss 2.3145  1.23 k tokens/s  1.22 GiB peak  1.41 GiB process',
  );
});

test('no line is longer than the terminal shows, and what matters least goes first', (t) => {
  for (let columns = 1; columns <= 200; columns++) t.true(barLine(state, columns).length <= Math.max(0, columns - 3), `${columns}`);
  t.is(barLine(state, 82), 'step ░░░░░░ 12/300  4 min 5 s left  loss 2.3145  1.23 k tokens/s  1.22 GiB peak');
  t.is(barLine(state, 32), 'step █░░░░░░░░░░░░░░░░ 12/300');
  t.is(barLine(state, 16), 'step 12/300');
});

test('without a terminal: a line with the same numbers', (t) => {
  t.is(plainLine(state), 'step 12/300  loss 2.3145  1.23 k tokens/s  1.22 GiB peak  1.41 GiB process  4 min 5 s left');
  t.is(plainLine({ ...state, total: 0, notes: [], left: undefined }), 'step 12');
});
