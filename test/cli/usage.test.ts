import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { lastJson, lorikeet, temporaryFolder } from '../helpers/command-line.js';
import { shippedModel } from '../helpers/shipped.js';

const folder = temporaryFolder();

for (const name of ['train', 'evaluate', 'generate', 'merge', 'convert', 'inspect', 'compare', 'estimate', 'doctor', 'completion']) {
  test(`${name} --help shows an example`, async (t) => {
    const { code, stdout } = await lorikeet([name, '--help']);
    t.is(code, 0);
    t.regex(stdout, new RegExp(`Example:\\n  \\$ .*lorikeet ${name}`));
    t.regex(stdout, /--json/);
  });
}

test('an unknown command or option is wrong use and names the nearest one', async (t) => {
  const wrong = await lorikeet(['trian']);
  t.is(wrong.code, 2);
  t.regex(wrong.stderr, /Did you mean train\?/);
  const option = await lorikeet(['evaluate', '--modle', 'x']);
  t.is(option.code, 2);
  t.regex(option.stderr, /Did you mean --model\?/);
  t.is((await lorikeet(['generate', '--model', shippedModel])).code, 2, 'a missing option');
  t.is((await lorikeet(['generate', '--model', shippedModel, '--prompt', 'a', '--seed', 'x'])).code, 2, 'a bad number');
  t.is((await lorikeet(['--version'])).code, 0);
});

test('a bad recipe is wrong use, with the same message as JSON', async (t) => {
  const recipe = join(folder, 'bad.yaml');
  writeFileSync(recipe, 'model: x\ndata: { train: { path: a.jsonl } }\ntrainig: { steps: 1 }\n');
  const result = await lorikeet(['train', recipe, '--json']);
  t.is(result.code, 2);
  t.regex(result.stderr, /unknown key "trainig"; did you mean "training"\?/);
  t.like(lastJson(result), { error: { code: 'config' } });
  t.is((await lorikeet(['train', join(folder, 'none.yaml')])).code, 2);
});

test('files that are not there are wrong use; broken ones fail', async (t) => {
  t.is((await lorikeet(['evaluate', '--model', join(folder, 'none'), '--data', 'x.jsonl'])).code, 2);
  t.is((await lorikeet(['evaluate', '--model', shippedModel, '--data', join(folder, 'none.jsonl')])).code, 2);
  t.is((await lorikeet(['evaluate', '--model', shippedModel])).code, 2);
  const broken = join(folder, 'broken.jsonl');
  writeFileSync(broken, '{"text": "fine"}\n{"text": \n');
  const result = await lorikeet(['evaluate', '--model', shippedModel, '--data', broken]);
  t.is(result.code, 1);
  t.regex(result.stderr, /broken\.jsonl:2: not a JSON object/);
  t.is((await lorikeet(['inspect', join(folder, 'none')])).code, 2);
});
