import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { commandLine, lorikeet, temporaryFolder } from '../helpers/command-line.js';
import { goldenFolder } from '../helpers/folders.js';
import { shippedModel, shippedText } from '../helpers/shipped.js';

// What only a real process meets: run folders, other processes, devices. A refused run leaves everything as it was.

const folder = temporaryFolder();
const recipe = join(folder, 'recipe.yaml');
writeFileSync(
  recipe,
  `model: ${shippedModel}
adapter: { type: lora, rank: 4 }
data: { train: { path: ${shippedText('train')} } }
training: { steps: 2, batch: 2, sequence: 16 }
`,
);
const finished = join(folder, 'finished');
test.before(async (t) => {
  t.is((await lorikeet(['train', recipe, '--out', finished, '--quiet'])).code, 0);
});

const cases: Readonly<Record<string, readonly [args: readonly string[], code: number, message: RegExp]>> = {
  'a folder with a run': [['--out', finished], 2, /exists; resume its run \(--resume\), or choose another folder/],
  'a file for a folder': [['--out', recipe], 2, /is a file; expected a folder or nothing/],
  'a folder of the system': [['--out', '/proc/nothing/run'], 2, /out: cannot create folder "\/proc\/nothing\/run"/],
  'another batch on resume': [
    ['--out', finished, '--resume', '--set', 'training.batch=3'],
    2,
    /training\.batch differs .* got 3, expected 2/,
  ],
  'fewer steps on resume': [['--out', finished, '--resume', '--set', 'training.steps=1'], 2, /is at step 2; got training\.steps 1/],
  'another rank on resume': [
    ['--out', finished, '--resume', '--set', 'adapter.rank=8'],
    2,
    /"adapters\.default\.rank" of the model differs from that of the run in ".*"; got 8, expected 4/,
  ],
  'an adapter of another model': [
    ['--set', `adapter=${join(goldenFolder, 'adapters/plain')}`],
    1,
    /does not fit the model.*\n.*missing in the file/,
  ],
  'a batch that will not fit': [
    ['--set', 'training.batch=200000000'],
    1,
    /not enough memory; the run needs about .*what helps: training\.batch below 200000000/,
  ],
};

for (const [name, [args, code, message]] of Object.entries(cases)) {
  test.serial(`refused: ${name}`, async (t) => {
    const out = args.includes('--out') ? [] : ['--out', join(folder, name)];
    const before = readdirSync(finished).sort();
    const result = await lorikeet(['train', recipe, ...args, ...out]);
    t.is(result.code, code, result.stderr);
    t.regex(result.stderr, message);
    t.false(existsSync(join(folder, name)));
    t.deepEqual(readdirSync(finished).sort(), before);
  });
}

test('refused: a device that is not there', async (t) => {
  const result = await lorikeet(['train', recipe, '--set', 'device=cuda', '--out', join(folder, 'cuda')]);
  if (result.code === 0) return t.log('this machine has one');
  t.is(result.code, 1);
  t.regex(result.stderr, /device "cuda"/);
  t.false(existsSync(join(folder, 'cuda')));
});

test('refused: a folder that another process writes to; --resume without a folder begins anew', async (t) => {
  const out = join(folder, 'shared');
  const child: ChildProcess = spawn(process.execPath, [
    commandLine,
    'train',
    recipe,
    '--resume',
    '--set',
    'training.steps=100000',
    '--out',
    out,
    '--quiet',
  ]);
  while (!existsSync(join(out, 'metrics.jsonl'))) await new Promise((resolve) => setTimeout(resolve, 20));
  const second = await lorikeet(['train', recipe, '--resume', '--out', out]);
  t.is(second.code, 2);
  t.regex(second.stderr, new RegExp(`is in use by process ${child.pid}; wait for it, or use another folder`));
  const ended = new Promise((resolve) => child.once('close', resolve));
  child.kill('SIGTERM');
  t.is(await ended, 130);
  t.regex(readFileSync(join(out, 'metrics.jsonl'), 'utf8'), /^\{"step":1,/);
});
