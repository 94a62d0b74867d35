import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { lastJson, lorikeet, temporaryFolder } from '../helpers/command-line.js';
import { shippedModel } from '../helpers/shipped.js';

const folder = temporaryFolder();

test('doctor --profile says where a step goes and writes nothing', async (t) => {
  const rows = Array.from({ length: 20 }, (_, i) => JSON.stringify({ text: `Once upon a time there were ${i} birds.` }));
  const data = join(folder, 'rows.jsonl');
  writeFileSync(data, `${rows.join('\n')}\n`);
  const recipe = join(folder, 'recipe.yaml');
  const out = join(folder, 'run');
  writeFileSync(
    recipe,
    [
      `model: ${shippedModel}`,
      'adapter: { type: lora, rank: 4 }',
      `data: { train: { path: ${data} }, eval: { path: ${data} } }`,
      'training: { batch: 2, earlyStopping: { patience: 1 } }',
      `out: ${out}`,
    ].join('\n'),
  );
  const run = await lorikeet(['doctor', '--profile', recipe, '--json', '--quiet']);
  t.is(run.code, 0, run.stderr);
  const { ms, roofline, ops } = lastJson(run) as {
    ms: number;
    roofline: { gflops: { f32: number } };
    ops: { op: string; calls: number; ms: number }[];
  };
  t.true(roofline.gflops.f32 > 0);
  for (const name of ['lowRankLinears', 'lowRankLinears backward', 'attention backward', 'crossEntropy', 'adamwStep'])
    t.true(
      ops.some(({ op, calls }) => op === name && calls > 0),
      name,
    );
  const sum = ops.reduce((total, row) => total + row.ms, 0);
  t.true(Math.abs(sum - ms) < 1e-6 * ms, `${sum} of ${ms}`);
  t.deepEqual(readdirSync(folder).sort(), ['recipe.yaml', 'rows.jsonl']);
});

test('doctor --profile of a recipe that is not there is wrong use', async (t) => {
  t.is((await lorikeet(['doctor', '--profile', join(folder, 'none.yaml'), '--quiet'])).code, 2);
});
