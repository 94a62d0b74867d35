import test from 'ava';
import { glu, ones } from 'lorikeet/ops';
import { battery } from '../helpers/battery.js';
import { cases } from './gates.cases.js';

battery(test, cases);

test('glu needs an even dimension', (t) => {
  t.throws(() => glu(ones([2, 3])), { code: 'shape', message: /glu: dimension -1 must be even; got \[2, 3\]/ });
});
