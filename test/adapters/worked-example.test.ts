import { readFileSync } from 'node:fs';
import test from 'ava';
import { attachMethod } from 'lorikeet';
import { loadTiny, logitsOf, relativeError, sameBits } from '../helpers/adapters.js';
import { perturb } from '../helpers/perturb.js';
import { outputScale } from './output-scale.js';

const ids = [3, 17, 42, 5, 8, 80];

test('the guide shows the code that is tested here', (t) => {
  const guide = readFileSync('docs/adding-an-adapter.md', 'utf8');
  t.true(guide.includes(readFileSync('test/adapters/output-scale.ts', 'utf8')));
});

test.serial("a method of one's own attaches, trains, routes, merges and unmerges", async (t) => {
  const model = await loadTiny();
  const base = await logitsOf(model, ids);
  const tuned = await attachMethod(model, outputScale, { targets: ['v_proj', 'down_proj'] });
  t.deepEqual(tuned.table().map(({ path, parameters }) => [path, parameters])[0], ['model.layers.0.self_attn.v_proj', 16]);
  t.true(sameBits(await logitsOf(tuned, ids), base));
  perturb(tuned);
  const adapted = await logitsOf(tuned, ids);
  t.true(relativeError(adapted, base) > 0.01);
  t.true((await tuned.merge()).maxError < 1e-6);
  t.true(relativeError(await logitsOf(tuned, ids), adapted) < 1e-5);
  await tuned.unmerge();
  t.true(sameBits(await logitsOf(tuned, ids), adapted));
  await t.throwsAsync(tuned.save('unused'), { code: 'config', message: /the method "output-scale" has no PEFT form/ });
  await t.throwsAsync(attachMethod(model, outputScale, { targets: ['norm'] }, { name: 'b' }), { message: /is not a linear layer/ });
  tuned.dispose();
  model.dispose();
});
