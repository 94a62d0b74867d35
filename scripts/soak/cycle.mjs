// One cycle of the soak: load, attach, train, abort, resume, evaluate, save, generate, merge, unmerge, load the saved adapter, dispose; then a worker thread.
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { CancelledError, evaluate, generate, loadAdapter, train } from '../../dist/index.js';
import { digest, held, openVariant, runOptions, variants } from './work.mjs';

/** Moments of an abort. `timer` is any moment of the run. */
export const moments = ['data', 'step', 'evaluation', 'save', 'timer', 'generate', 'worker'];
const ending = { maxNewTokens: 12 };

/** Makes `abort` happen at a moment of the run of `tuned`; returns what to add to the options of the run, and how to take everything off again. */
function arm(moment, tuned, out, random, abort) {
  const { loss } = Object.getPrototypeOf(tuned);
  let calls = Math.floor(random() * 4);
  const atLoss = (training) => {
    tuned.loss = (input) => {
      if ((input.training ?? false) === training && calls-- === 0) abort();
      return loss.call(tuned, input);
    };
    return { disarm: () => delete tuned.loss };
  };
  if (moment === 'data') return { options: { onData: abort }, disarm: () => undefined };
  if (moment === 'step') return atLoss(true);
  if (moment === 'evaluation') return atLoss(false);
  if (moment === 'save') {
    let watching = true;
    const look = () => {
      if (!watching) return;
      const found = readdirSync(join(out, '..'), { recursive: true }).some((name) => /step-\d+\.tmp/.test(name));
      if (found) abort();
      else setImmediate(look);
    };
    look();
    return { disarm: () => (watching = false) };
  }
  const timer = setTimeout(abort, random() * 400);
  return { disarm: () => clearTimeout(timer) };
}

const isCancelled = (error) => {
  if (!(error instanceof CancelledError)) throw error;
  return true;
};

/** Trains with an abort at the moment, then resumes; true when the abort came before the end. */
async function trainAborted(tuned, out, moment, random) {
  const controller = new AbortController();
  const armed = arm(moment, tuned, out, random, () => controller.abort());
  let cancelled = false;
  try {
    await train(tuned, { ...runOptions(out), ...armed.options, signal: controller.signal });
  } catch (error) {
    cancelled = isCancelled(error);
  } finally {
    armed.disarm();
  }
  await train(tuned, { ...runOptions(out), resume: true });
  return cancelled;
}

/**
 * Trains in a worker thread and, when told so, terminates it at a random moment; then the run is finished here. Returns the bits of the result. Not while the
 * worker imports its modules: Node 20 leaves those files open.
 */
async function trainInWorker(variant, out, terminate, random) {
  const worker = new Worker(new URL('./worker.mjs', import.meta.url), { workerData: { variant, out } });
  let result;
  let timer;
  const exited = new Promise((resolve, reject) => {
    worker.on('error', reject);
    worker.on('exit', resolve);
    worker.on('message', (message) => {
      result = message.digest ?? result;
      if (message.ready && terminate) timer = setTimeout(() => worker.terminate(), random() * 1500);
    });
  });
  await exited;
  clearTimeout(timer);
  if (result !== undefined) return result;
  const tuned = await openVariant(variant);
  await train(tuned, { ...runOptions(out), resume: true });
  result = await digest(tuned);
  close(tuned);
  return result;
}

function close(tuned) {
  const { model } = tuned;
  tuned.dispose();
  model.dispose();
}

/** Everything a tuned model does after training; the text it continues with before and after a merge is part of the result. */
async function use(tuned, folder, signal, abortIt) {
  const { nll } = await evaluate(tuned, held, { signal });
  await tuned.save(join(folder, 'saved'));
  const text = await generate(tuned, 'ROMEO:', { ...ending, signal }).text();
  if (abortIt) {
    const controller = new AbortController();
    try {
      for await (const _ of generate(tuned, 'JULIET:', { maxNewTokens: 200, signal: controller.signal })) controller.abort();
    } catch (error) {
      isCancelled(error);
    }
    for await (const _ of generate(tuned, 'JULIET:', ending)) break;
  }
  await tuned.merge();
  await generate(tuned, 'ROMEO:', ending).text();
  await tuned.unmerge();
  const { model } = tuned;
  tuned.dispose();
  const loaded = await loadAdapter(model, join(folder, 'saved'));
  const again = await evaluate(loaded, held, { signal });
  if (again.nll !== nll) throw new Error(`soak: the saved adapter differs; got loss ${again.nll}, expected ${nll}`);
  close(loaded);
  return { nll, text };
}

/**
 * One cycle with variant and moment of abort by its number. `signal` is a signal of the whole process that never fires. Returns bits and numbers that must be
 * the same whenever this variant comes.
 */
export async function cycle(number, random, signal) {
  const variant = variants[number % variants.length];
  const moment = moments[Math.floor(random() * moments.length)];
  const folder = mkdtempSync(join(tmpdir(), 'lorikeet-soak-'));
  try {
    const tuned = await openVariant(variant);
    const cancelled = await trainAborted(tuned, join(folder, 'run'), moment, random);
    const bits = await digest(tuned);
    const used = await use(tuned, folder, signal, moment === 'generate');
    const worker = await trainInWorker(variant, join(folder, 'worker'), moment === 'worker' || random() < 0.5, random);
    return { moment, cancelled, results: { bits, worker, ...used } };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
