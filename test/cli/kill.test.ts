import { spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import { disposeTensors } from 'lorikeet';
import { loadSafetensors } from 'lorikeet/io';
import { readProgress } from '#dist/train/checkpoint.js';
import { checkpointPath, checkpointSteps } from '#dist/train/run-folder.js';
import { commandLine, lastJson, lorikeet, temporaryFolder } from '../helpers/command-line.js';
import { shippedModel, shippedText } from '../helpers/shipped.js';
import { generator } from '../helpers/values.js';

const folder = temporaryFolder();
const recipe = join(folder, 'recipe.yaml');
// Everything that a run remembers: 8-bit states, dropout, evaluations that stop it, losses that are skipped.
writeFileSync(
  recipe,
  `model: ${shippedModel}
adapter: { type: lora, rank: 64, targets: [q_proj, v_proj, down_proj], dropout: 0.1 }
data:
  train: { path: ${shippedText('train')} }
  eval: { path: ${shippedText('dev')} }
training:
  { steps: 20, batch: 2, sequence: 32, learningRate: 2.0e-2, schedule: constant, optimizer: adamw-8bit, evalEvery: 2, saveEvery: 1,
    earlyStopping: { patience: 2 }, policy: { nonFinite: skip, lossSpike: skip, spikeWindow: 4, spikeFactor: 1.05 } }
`,
);
/** How often a run is killed at a random write, and at a random moment; raise it to look longer (LORIKEET_KILLS=50). */
const kills = Number(process.env.LORIKEET_KILLS ?? 3);
const hook = fileURLToPath(new URL('../helpers/kill-at-write.js', import.meta.url));

interface Kill {
  /** At which write, counted from 1. */
  readonly write?: number;
  /** After how many milliseconds. */
  readonly after?: number;
}

/** Starts the run, or goes on with it, and kills it without warning; true when it ended by itself before. */
function killed(out: string, { write, after }: Kill, countTo?: string): Promise<boolean> {
  return new Promise((resolve) => {
    const env = {
      ...process.env,
      ...(write === undefined ? {} : { LORIKEET_KILL_AT: String(write) }),
      ...(countTo === undefined ? {} : { LORIKEET_COUNT_TO: countTo }),
    };
    const args = ['--import', hook, commandLine, 'train', recipe, '--out', out, '--resume', '--quiet'];
    const child = spawn(process.execPath, args, { stdio: 'ignore', env });
    const timer = after === undefined ? undefined : setTimeout(() => child.kill('SIGKILL'), after);
    child.on('close', (code) => {
      clearTimeout(timer);
      resolve(code === 0);
    });
  });
}

/** What a reader finds at any moment: whole adapters, whole checkpoints. */
async function everythingIsWhole(t: ExecutionContext, out: string, when: string): Promise<void> {
  for (const name of ['adapter', 'best']) {
    if (!existsSync(join(out, name))) continue;
    await t.notThrowsAsync(async () => {
      JSON.parse(readFileSync(join(out, name, 'adapter_config.json'), 'utf8'));
      disposeTensors((await loadSafetensors(join(out, name, 'adapter_model.safetensors'))).values());
    }, `${name} after ${when}`);
  }
  for (const step of checkpointSteps(out)) await t.notThrowsAsync(readProgress(checkpointPath(out, step)), `step ${step} after ${when}`);
}

/** The rows of the metrics without what the clock and the machine say. */
function rowsOf(out: string): unknown[] {
  const lines = readFileSync(join(out, 'metrics.jsonl'), 'utf8').trim().split('\n');
  return lines.map((line) => {
    const { seconds: _, peakBytes: __, residentBytes: ___, ...row } = JSON.parse(line) as Record<string, unknown>;
    return row;
  });
}

/** The progress in a checkpoint without the time it took. */
async function progressOf(out: string, step: number): Promise<unknown> {
  const { seconds: _, ...progress } = await readProgress(checkpointPath(out, step));
  return progress;
}

async function sameRun(t: ExecutionContext, out: string, straight: string): Promise<void> {
  for (const file of ['adapter/adapter_model.safetensors', 'best/adapter_model.safetensors', 'adapter/adapter_config.json'])
    t.deepEqual(readFileSync(join(out, file)), readFileSync(join(straight, file)), file);
  t.deepEqual(rowsOf(out), rowsOf(straight));
  t.deepEqual(checkpointSteps(out), checkpointSteps(straight));
  for (const step of checkpointSteps(straight)) {
    t.deepEqual(await progressOf(out, step), await progressOf(straight, step));
    for (const file of ['parameters.safetensors', 'optimizer.safetensors']) {
      const [got, expected] = [out, straight].map((run) => readFileSync(join(checkpointPath(run, step), file)));
      t.deepEqual(got, expected, `${file} of step ${step}`);
    }
  }
}

test('a run that is killed again and again, at any write and any moment, ends with the bytes of an undisturbed one', async (t) => {
  const straight = join(folder, 'straight');
  const countTo = join(folder, 'count');
  const start = performance.now();
  t.true(await killed(straight, {}, countTo));
  const milliseconds = performance.now() - start;
  const writes = Number(readFileSync(countTo, 'utf8'));
  t.true(writes > 200, `${writes} writes`);
  const rows = rowsOf(straight) as { step: number; skipped?: string }[];
  t.true(rows.some(({ skipped }) => skipped !== undefined) && (rows.at(-1)?.step ?? 20) < 20, 'it skips steps and stops early');

  const seed = Number(process.env.LORIKEET_KILL_SEED ?? 1);
  const random = generator(seed);
  let run = 0;
  let out = join(folder, `killed-${run}`);
  for (let kill = 0; kill < kills; kill++) {
    const upTo = random() ** 2;
    const how = kill % 3 === 2 ? { after: Math.ceil(upTo * milliseconds) } : { write: 1 + Math.floor(upTo * writes) };
    const ended = await killed(out, how);
    await everythingIsWhole(t, out, `kill ${kill} (seed ${seed}) at ${JSON.stringify(how)}`);
    if (!ended) continue;
    await sameRun(t, out, straight);
    out = join(folder, `killed-${++run}`);
  }
  const resumed = await lorikeet(['train', recipe, '--out', out, '--resume', '--json']);
  t.is(resumed.code, 0, resumed.stderr);
  await sameRun(t, out, straight);
  const { stoppedEarly, skippedSteps } = lastJson(resumed);
  t.true(typeof stoppedEarly === 'string' && typeof skippedSteps === 'number');
  const left = readdirSync(out).filter((name) => !name.startsWith('events.out.tfevents.'));
  t.deepEqual(left.sort(), ['adapter', 'best', 'checkpoints', 'metrics.jsonl', 'recipe.yaml', 'report.html', 'run.json']);
  const everything = readdirSync(out, { recursive: true, encoding: 'utf8' });
  t.deepEqual(
    everything.filter((name) => name.endsWith('.tmp')),
    [],
  );
  if (kills > 3) t.log(`${kills} kills over ${run + 1} runs of ${writes} writes, seed ${seed}`);
});
