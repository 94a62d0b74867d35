import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { attach, loadModel, train } from 'lorikeet';
import { temporaryFolder } from '../helpers/command-line.js';
import { shippedModel, shippedRows } from '../helpers/shipped.js';

test('recipe.yaml of a run says how the base was loaded', async (t) => {
  const out = join(temporaryFolder(), 'run');
  using model = await loadModel(shippedModel, { dtype: 'int8', compute: 'bf16' });
  const tuned = await attach(model, { type: 'lora', rank: 2 }, { seed: 1 });
  const rows = shippedRows(4).map((text) => ({ text }));
  await train(tuned, { data: { train: { rows, field: 'text' } }, training: { steps: 1, batch: 2, sequence: 16 }, out });
  t.regex(readFileSync(join(out, 'recipe.yaml'), 'utf8'), /^dtype: int8\ncompute: bf16$/m);
  tuned.dispose();
});
