import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { commandLine, temporaryFolder } from '../helpers/command-line.js';
import { shippedModel, shippedText } from '../helpers/shipped.js';

const folder = temporaryFolder();
const recipe = join(folder, "it's a recipe.yaml");
writeFileSync(
  recipe,
  `model: ${shippedModel}
adapter: { type: lora, rank: 4, targets: all-linear }
data: { train: { path: ${shippedText('train')} } }
training: { steps: 100000, batch: 2, sequence: 32, saveEvery: 1000 }
`,
);

interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stderr: string;
}

/** Starts a long run and calls `act` once it is in its steps. */
function interrupted(name: string, act: (child: ChildProcess) => void, quiet = false): Promise<Ended> {
  const out = join(folder, name);
  const args = [commandLine, 'train', recipe, '--set', 'training.weightDecay=0.01', '--out', out, ...(quiet ? ['--quiet'] : [])];
  return new Promise((resolve) => {
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    let stderr = '';
    child.stderr?.on('data', (piece: Buffer) => (stderr += piece));
    const timer = setInterval(() => {
      if (!existsSync(join(out, 'metrics.jsonl'))) return;
      clearInterval(timer);
      act(child);
    }, 5);
    child.on('close', (code, signal) => {
      clearInterval(timer);
      resolve({ code, signal, stderr });
    });
  });
}

/** Complete checkpoints of a run; a half-written one is a failure. */
function checkpoints(name: string): string[] {
  return readdirSync(join(folder, name, 'checkpoints'));
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  test(`${signal} once: the step ends and is saved, the exact command goes on`, async (t) => {
    const { code, stderr } = await interrupted(signal, (child) => child.kill(signal));
    t.is(code, 130, stderr);
    t.is(checkpoints(signal).length, 1);
    t.regex(checkpoints(signal)[0] ?? '', /^step-\d+$/);
    t.regex(stderr, /finishing the current step \(once more stops at once\)/);
    const line = stderr.trimEnd().split('\n').at(-1) ?? '';
    t.is(
      line.trim(),
      `lorikeet train '${recipe.replace("'", "'\\''")}' --set training.weightDecay=0.01 --out ${join(folder, signal)} --resume`,
    );
  });
}

test('SIGINT twice: the process ends at once with 130, and what is saved is whole', async (t) => {
  const { code, signal } = await interrupted('twice', (child) => {
    child.kill('SIGINT');
    child.kill('SIGINT');
    setTimeout(() => child.kill('SIGINT'), 400);
  });
  t.is(signal, null);
  t.is(code, 130);
  for (const name of checkpoints('twice'))
    t.true(name.endsWith('.tmp') || existsSync(join(folder, 'twice', 'checkpoints', name, 'state.json')), name);
});

test('SIGHUP, even twice: the run is saved', async (t) => {
  const { code, signal } = await interrupted('hang-up', (child) => {
    child.kill('SIGHUP');
    child.kill('SIGHUP');
  });
  t.is(signal, null);
  t.is(code, 130);
  t.is(checkpoints('hang-up').length, 1);
});

test('nobody reads standard error any more: the run is saved, and nothing crashes', async (t) => {
  const { code, signal } = await interrupted('closed', (child) => {
    child.stderr?.destroy();
    child.stdout?.destroy();
  });
  t.is(signal, null);
  t.is(code, 130);
  t.is(checkpoints('closed').length, 1);
});
