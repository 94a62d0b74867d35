import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { IoError, memory, type TrainingStart, train } from 'lorikeet';
import { readProgress } from '#dist/train/checkpoint.js';
import { checkpointPath, checkpointSteps } from '#dist/train/run-folder.js';
import { lastJson, lorikeet, temporaryFolder } from '../helpers/command-line.js';
import { settledTensors } from '../helpers/settled-bytes.js';
import { shippedModel, shippedRows, shippedText, withTuned } from '../helpers/shipped.js';
import { smallDisk } from '../helpers/small-disk.js';

const data = { train: { path: shippedText('train') }, eval: { rows: shippedRows(2) } };
const training = { batch: 2, sequence: 32, learningRate: 5e-3, steps: 7, saveEvery: 2, evalEvery: 3 } as const;
const weightsOf = (out: string, name = 'adapter') => readFileSync(join(out, name, 'adapter_model.safetensors'));

/** Runs it; `at` is called after each step. */
const run = (out: string, at: (step: number) => unknown = () => undefined, resume = false): Promise<TrainingStart> =>
  withTuned(
    async (tuned) => {
      let begun: TrainingStart | undefined;
      const onStart = (start: TrainingStart) => {
        begun = start;
      };
      for await (const { step } of train(tuned, { data, training, out, resume, callbacks: { onStart } })) await at(step);
      return begun as TrainingStart;
    },
    { dropout: 0.1 },
  );

const root = temporaryFolder();
const straight = join(root, 'straight');
let count = 0;
const fresh = (name = 'run'): string => join(root, `${count++}-${name}`);

test.before(() => run(straight));

/** The run fails with an error of the file system, its checkpoints are whole, and it goes on to the bytes of an undisturbed one once `repair` was called. */
async function survives(t: ExecutionContext, out: string, breakAt: (step: number) => unknown, message: RegExp, repair: () => unknown) {
  const before = await settledTensors();
  const error = await t.throwsAsync(run(out, breakAt), { instanceOf: IoError, message });
  t.is(error?.code, 'io');
  t.is(memory().tensors, before);
  for (const step of checkpointSteps(out)) await t.notThrowsAsync(readProgress(checkpointPath(out, step)));
  await repair();
  await run(out, undefined, true);
  t.deepEqual(weightsOf(out), weightsOf(straight));
  t.deepEqual(weightsOf(out, 'best'), weightsOf(straight, 'best'));
  const rows = (folder: string) =>
    readFileSync(join(folder, 'metrics.jsonl'), 'utf8').replaceAll(/"(seconds|peakBytes|residentBytes)":[^,}]+/g, '');
  t.is(rows(out), rows(straight));
}

for (const [name, step, free] of [
  ['before a metrics row', 2, 0],
  ['before a checkpoint', 3, 12_000],
] as const) {
  test.serial(`a disk that fills up ${name}`, async (t) => {
    const disk = smallDisk(t, 4 << 20);
    if (disk === undefined) return;
    const fill = (at: number) => at === step && disk.fill(free);
    await survives(t, join(disk.path, 'run'), fill, /^write: cannot write ".*"; got ENOSPC from \w+: the disk is full/, disk.empty);
  });
}

test.serial('a disk without free inodes', async (t) => {
  const disk = smallDisk(t, 8 << 20, 200);
  if (disk === undefined) return;
  const use = (at: number) => at === 3 && disk.useInodes();
  await survives(t, join(disk.path, 'run'), use, /got ENOSPC from \w+: the disk is full, or its inodes are used up/, disk.empty);
});

test.serial('a disk that becomes read-only', async (t) => {
  const disk = smallDisk(t, 8 << 20);
  if (disk === undefined) return;
  const out = join(disk.path, 'run');
  const lock = (at: number) => at === 2 && disk.setWritable(false);
  await survives(t, out, lock, /got EROFS from \w+: the file system is read-only/, () => disk.setWritable(true));
});

test.serial('an adapter folder that cannot be written', async (t) => {
  const out = fresh();
  const spoil = (at: number) => {
    if (at !== 3) return;
    rmSync(join(out, 'adapter'), { recursive: true });
    writeFileSync(join(out, 'adapter'), 'a file');
  };
  await survives(t, out, spoil, /cannot write ".*adapter"; got ENOTDIR/, () => rmSync(join(out, 'adapter')));
});

test.serial('a folder that is removed while the run goes on is not made again', async (t) => {
  const out = fresh();
  await t.throwsAsync(
    run(out, (at) => at === 3 && rmSync(out, { recursive: true })),
    { instanceOf: IoError, message: /^write: run folder ".*" has lost its lock; it was removed, or taken over/ },
  );
  t.false(existsSync(out));
});

test.serial('a run whose lock was taken over writes no more, and leaves the lock of the other', async (t) => {
  const out = fresh();
  const lock = join(out, 'lock');
  const other = JSON.stringify({ pid: process.pid, token: 'other' });
  const error = await t.throwsAsync(
    run(out, (at) => at === 3 && writeFileSync(lock, other)),
    { instanceOf: IoError },
  );
  t.regex(error?.message ?? '', /has lost its lock/);
  t.is(readFileSync(lock, 'utf8'), other);
  t.deepEqual(checkpointSteps(out), [2]);
});

test.serial('the lock of a process that is gone, or has ended and was not asked after, is taken over', async (t) => {
  const out = fresh();
  await run(out);
  // A shell that becomes another program never asks after the child it had.
  const parent = spawn('sh', ['-c', 'sleep 0 & echo $!; exec sleep 20']);
  t.teardown(() => parent.kill());
  const [pid] = (await once(parent.stdout, 'data')) as [Buffer];
  await new Promise((resolve) => setTimeout(resolve, 100));
  writeFileSync(join(out, 'lock'), JSON.stringify({ pid: Number(pid) }));
  await t.notThrowsAsync(run(out, undefined, true));
  writeFileSync(join(out, 'lock'), '{"pid":');
  await t.notThrowsAsync(run(out, undefined, true));
  writeFileSync(join(out, 'lock'), JSON.stringify({ pid: parent.pid }));
  await t.throwsAsync(run(out, undefined, true), { code: 'config', message: /is in use by process \d+; wait for it/ });
});

test.serial('an output path that is a file, or below one', async (t) => {
  const file = fresh('file');
  writeFileSync(file, 'text');
  await t.throwsAsync(run(file), { code: 'config', message: /out: ".*file" is a file; expected a folder or nothing/ });
  await t.throwsAsync(run(join(file, 'run')), { code: 'config', message: /out: cannot create folder ".*run"/ });
  t.is(readFileSync(file, 'utf8'), 'text');
});

test.serial('a damaged checkpoint is set aside, and the run goes on from the one before', async (t) => {
  const out = fresh();
  await run(out, (at) => at === 5 && Promise.reject(new Error('left'))).catch(() => undefined);
  t.deepEqual(checkpointSteps(out), [4, 5]);
  const file = join(checkpointPath(out, 5), 'optimizer.safetensors');
  const bytes = readFileSync(file);
  bytes[bytes.length - 9] = (bytes[bytes.length - 9] as number) ^ 4;
  writeFileSync(file, bytes);
  const { step, checkpoint, damaged } = await run(out, undefined, true);
  t.is(step, 4);
  t.is(checkpoint, checkpointPath(out, 4));
  t.is(damaged[0]?.path, `${checkpointPath(out, 5)}.damaged`);
  t.regex(damaged[0]?.reason ?? '', /optimizer\.safetensors: damaged; got SHA-256 \w{64}, expected \w{64}/);
  t.deepEqual(weightsOf(out), weightsOf(straight));
  t.deepEqual(readdirSync(join(out, 'checkpoints')).sort(), ['step-5.damaged', 'step-6', 'step-7']);
  for (const each of checkpointSteps(out)) rmSync(join(checkpointPath(out, each), 'state.json'));
  await t.throwsAsync(run(out, undefined, true), {
    code: 'format',
    message: /^resume: no checkpoint in ".*" is whole; .*state\.json: no such file; to begin again/,
  });
});

test.serial('the command line ends with code 1 and tells what to do', async (t) => {
  const disk = smallDisk(t, 4 << 20);
  if (disk === undefined) return;
  const out = join(disk.path, 'run');
  mkdirSync(out);
  const recipe = fresh('recipe.yaml');
  writeFileSync(recipe, `model: ${shippedModel}\nadapter: { type: lora, rank: 4 }\ndata: { train: { path: ${shippedText('train')} } }\n`);
  disk.fill(12_000);
  const args = ['train', recipe, '--out', out, '--set', 'training.steps=2', '--set', 'training.sequence=32', '--json'];
  const failed = await lorikeet(args);
  t.is(failed.code, 1, failed.stderr);
  t.like(lastJson(failed).error, { code: 'io' });
  t.regex(failed.stderr, /lorikeet: write: cannot write ".*"; got ENOSPC from \w+: the disk is full.*free some space/);
  disk.empty();
  const resumed = await lorikeet([...args, '--resume']);
  t.is(resumed.code, 0, resumed.stderr);
});
