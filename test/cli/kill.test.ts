import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { commandLine, lastJson, lorikeet, temporaryFolder } from '../helpers/command-line.js';
import { shippedModel, shippedText } from '../helpers/shipped.js';

const folder = temporaryFolder();
const recipe = join(folder, 'recipe.yaml');
writeFileSync(
  recipe,
  `model: ${shippedModel}
adapter: { type: lora, rank: 4, targets: all-linear, dropout: 0.1 }
data:
  train: { path: ${shippedText('train')} }
  eval: { path: ${shippedText('dev')} }
training: { steps: 60, batch: 2, sequence: 32, learningRate: 5.0e-3, evalEvery: 0, saveEvery: 1 }
`,
);
/** How often a run is killed; raise it to look longer (LORIKEET_KILLS=50). */
const kills = Number(process.env.LORIKEET_KILLS ?? 3);

/** Starts the run, kills it without warning `after` milliseconds into its steps; true when it ended by itself before. */
function killed(out: string, after: number): Promise<boolean> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [commandLine, 'train', recipe, '--out', out, '--resume', '--quiet'], { stdio: 'ignore' });
    const before = metrics(out);
    const timer = setInterval(() => {
      if (metrics(out) === before) return;
      clearInterval(timer);
      setTimeout(() => child.kill('SIGKILL'), after);
    }, 2);
    child.on('close', (code) => {
      clearInterval(timer);
      resolve(code === 0);
    });
  });
}

const metrics = (out: string): string => (existsSync(join(out, 'metrics.jsonl')) ? readFileSync(join(out, 'metrics.jsonl'), 'utf8') : '');

test('a run that is killed again and again ends with the bytes of an undisturbed one', async (t) => {
  const out = join(folder, 'killed');
  let ended = false;
  for (let kill = 0; kill < kills && !ended; kill++) ended = await killed(out, (kill * 37) % 101);
  mkdirSync(join(out, '.best.1-0.tmp'));
  const resumed = await lorikeet(['train', recipe, '--out', out, '--resume', '--json']);
  t.is(resumed.code, 0, resumed.stderr);
  const left = readdirSync(out).filter((name) => !name.startsWith('events.out.tfevents.'));
  t.deepEqual(left.sort(), ['adapter', 'best', 'checkpoints', 'metrics.jsonl', 'recipe.yaml', 'report.html', 'run.json']);
  const straight = await lorikeet(['train', recipe, '--out', join(folder, 'straight'), '--json']);
  t.is(straight.code, 0, straight.stderr);
  for (const file of ['adapter/adapter_model.safetensors', 'best/adapter_model.safetensors']) {
    t.deepEqual(readFileSync(join(out, file)), readFileSync(join(folder, 'straight', file)), file);
  }
  t.is(lastJson(resumed).loss, lastJson(straight).loss);
  t.is(metrics(out).trim().split('\n').length, metrics(join(folder, 'straight')).trim().split('\n').length);
});
