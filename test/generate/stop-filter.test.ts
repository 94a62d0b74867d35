import test from 'ava';
import fc from 'fast-check';
import { StopFilter } from '#dist/generate/stop-filter.js';

test('text up to the first stop text passes, whatever the pieces', (t) => {
  fc.assert(
    fc.property(
      fc.array(fc.stringMatching(/^[ab]{0,4}$/)),
      fc.array(fc.stringMatching(/^[ab]{1,3}$/), { maxLength: 3 }),
      (pieces, stops) => {
        const whole = pieces.join('');
        const ends = stops.flatMap((stop) => (whole.includes(stop) ? [whole.indexOf(stop) + stop.length] : []));
        const filter = new StopFilter(stops);
        const shown = pieces.map((piece) => filter.push(piece)).join('') + filter.end();
        t.is(filter.stopped, ends.length > 0);
        t.true(whole.startsWith(shown));
        for (const stop of stops) t.false(shown.includes(stop));
        if (ends.length === 0) t.is(shown, whole);
      },
    ),
  );
});

test('what may begin a stop text waits', (t) => {
  const filter = new StopFilter(['\n\nUser:']);
  t.is(filter.push('Hi.\n'), 'Hi.');
  t.is(filter.push('\nUs'), '');
  t.is(filter.push('es'), '\n\nUses');
  t.is(filter.push('\n\nUser: more'), '');
  t.true(filter.stopped);
  t.is(filter.end(), '');
});
