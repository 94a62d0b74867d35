import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { lorikeet, temporaryFolder } from '../helpers/command-line.js';
import { shippedModel, shippedText } from '../helpers/shipped.js';
import { validOutput } from '../helpers/valid-output.js';

const folder = temporaryFolder();
const recipe = join(folder, 'recipe.yaml');
writeFileSync(
  recipe,
  `model: ${shippedModel}
adapter: { type: lora, rank: 2 }
data: { train: { path: ${shippedText('train')} }, eval: { path: ${shippedText('dev')} } }
training: { steps: 2, batch: 2, sequence: 16 }
`,
);
const out = join(folder, 'run');
const adapter = join(out, 'adapter');

async function done(t: ExecutionContext, name: string, ...args: string[]): Promise<void> {
  const result = await lorikeet([name, ...args, '--json', '--quiet']);
  t.is(result.code, 0, `${name}: ${result.stderr}`);
  t.is(result.stderr, '', `${name} --quiet`);
  t.is(result.stdout.trimEnd().split('\n').length, 1, name);
  validOutput(t, name, result);
}

test('the output of every command is valid by its published schema', async (t) => {
  await done(t, 'train', recipe, '--out', out);
  await done(t, 'train', recipe, '--set', `data={ train: { path: ${shippedText('train')} } }`);
  await Promise.all([
    done(t, 'evaluate', '--recipe', recipe, '--adapter', adapter, '--max-length', '16'),
    done(t, 'generate', '--model', shippedModel, '--prompt', 'Once', '--max-new-tokens', '2'),
    done(t, 'merge', '--model', shippedModel, '--adapter', adapter, '--out', join(folder, 'merged')),
    done(t, 'convert', '--from', adapter, '--to', 'mlx', '--out', join(folder, 'mlx')),
  ]);
  await Promise.all([
    done(t, 'compare', out, '--out', join(folder, 'page.html')),
    done(t, 'estimate', recipe),
    done(t, 'doctor'),
    done(t, 'completion', 'fish'),
    ...[out, adapter, shippedModel, join(shippedModel, 'model.safetensors')].map((path) => done(t, 'inspect', path)),
  ]);
});

test('errors are valid as well: a recipe, a usage, a broken file', async (t) => {
  const broken = join(folder, 'broken.jsonl');
  writeFileSync(broken, '{');
  const failed = async (code: number, ...args: string[]): Promise<void> => {
    const result = await lorikeet([...args, '--json']);
    t.is(result.code, code, result.stderr);
    validOutput(t, 'error', result);
  };
  await Promise.all([
    failed(2, 'train', join(folder, 'none.yaml')),
    failed(2, 'evaluate', '--model', shippedModel),
    failed(1, 'evaluate', '--model', shippedModel, '--data', broken),
    failed(2, 'estimate', recipe, '--set', 'training.batch=0'),
    failed(2, 'train'),
    failed(2, 'generate', '--model', shippedModel, '--prompt', 'a', '--seed', 'x'),
    failed(2, 'convert', '--from', adapter, '--to', 'nothing', '--out', join(folder, 'x')),
    failed(2, 'trian'),
  ]);
});

test('the pages and schemas of the docs are those of the program', (t) => {
  t.notThrows(() => execFileSync(process.execPath, ['scripts/command-docs.mjs', '--check'], { encoding: 'utf8' }));
});
