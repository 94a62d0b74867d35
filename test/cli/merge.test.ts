import { join } from 'node:path';
import test from 'ava';
import { loadAdapter, loadModel } from 'lorikeet';
import { golden, loadTiny, logitsOf, relativeError } from '../helpers/adapters.js';
import { lastJson, lorikeet, temporaryFolder } from '../helpers/command-line.js';

const folder = temporaryFolder();
const model = join(golden, 'models/llama-gqa-tied');
const adapters = ['first', 'other'].flatMap((name) => ['--adapter', join(golden, 'combined', name)]);

test('merge combines several adapters by weight into one model', async (t) => {
  const out = join(folder, 'sum');
  const result = await lorikeet(['merge', '--model', model, ...adapters, '--weight', '0.5', '--weight', '-0.25', '--out', out, '--json']);
  t.is(result.code, 0, result.stderr);
  t.is(lastJson(result).out, out);
  const base = await loadTiny();
  const tuned = await loadAdapter(base, join(golden, 'combined/first'), { name: 'first' });
  await loadAdapter(base, join(golden, 'combined/other'), { name: 'other' });
  tuned.setScale('first', 0.5);
  tuned.setScale('other', -0.25);
  tuned.activate(['first', 'other']);
  const merged = await loadModel(out);
  const ids = [4, 19, 33, 7];
  t.true(relativeError(await logitsOf(merged, ids), await logitsOf(tuned, ids)) < 1e-5);
  merged.dispose();
  base.dispose();
});

test('merge takes the other types with their options, and names what is missing', async (t) => {
  const run = (...more: string[]) =>
    lorikeet(['merge', '--model', model, ...adapters, '--json', '--out', join(folder, more.join('')), ...more]);
  t.is((await run('--combine', 'dare_ties_svd', '--density', '0.5', '--rank', '4', '--seed', '3')).code, 0);
  t.is((await run('--combine', 'ties_svd', '--density', '0.5', '--majority-sign', 'frequency')).code, 0);
  t.is((await run('--combine', 'linear_exact', '--rank', '2')).code, 0);
  const density = await run('--combine', 'ties_svd');
  t.is(density.code, 2);
  t.regex(density.stderr, /needs a density/);
  const weights = await run('--weight', '1');
  t.is(weights.code, 2);
  t.regex(weights.stderr, /got 2 adapters and 1 weights/);
  t.is((await run('--combine', 'average')).code, 2);
});
