// Run: npx tsc -p tsconfig.test.json && node out/examples/worker-thread.js
// Training in a worker thread: the main thread posts options and `abort`, the worker loads the model itself and posts the reports, which are plain objects.
// Expected: steps until the abort after step 3 with its checkpoint, then those of the resumed run, "done at step 10".
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isMainThread, parentPort, Worker } from 'node:worker_threads';
import { attach, LorikeetError, loadModel, type StepReport, type TrainingResult, train } from 'lorikeet';

interface Job {
  readonly model: string;
  readonly data: string;
  readonly out: string;
  readonly resume: boolean;
}
type ToWorker = { readonly job: Job } | { readonly abort: true };
type FromWorker =
  | { readonly report: StepReport }
  | { readonly result: TrainingResult }
  | { readonly error: { readonly code: string; readonly message: string } };

/** The worker's part. Its model, adapter and memory are its own; only messages cross. */
async function work({ model: source, data, out, resume }: Job, signal: AbortSignal, post: (message: FromWorker) => void): Promise<void> {
  const model = await loadModel(source, { signal });
  try {
    const tuned = await attach(model, { type: 'lora', rank: 8, targets: 'all-linear' }, { seed: 1 });
    const training = { steps: 10, batch: 4, sequence: 64, learningRate: 2e-3 };
    const run = train(tuned, { data: { train: { path: data } }, training, out, resume, signal });
    for await (const report of run) post({ report });
    post({ result: await run });
  } catch (error) {
    if (!(error instanceof LorikeetError)) throw error;
    // An error loses its class on the way: the code says what it is.
    post({ error: { code: error.code, message: error.message } });
  } finally {
    model.dispose();
  }
}

function serveJobs(): void {
  const controller = new AbortController();
  parentPort?.on('message', async (message: ToWorker) => {
    if ('abort' in message) return controller.abort();
    await work(message.job, controller.signal, (answer) => parentPort?.postMessage(answer));
    parentPort?.close();
  });
}

/** The main thread's part: one worker a run. `onReport` may ask for an abort by returning true. */
function trainInWorker(job: Job, onReport: (report: StepReport) => boolean): Promise<Exclude<FromWorker, { report: unknown }>> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL(import.meta.url));
    worker.on('error', reject);
    worker.on('exit', () => reject(new Error('worker-thread: the worker ended without a result')));
    worker.on('message', (message: FromWorker) => {
      if (!('report' in message)) resolve(message);
      else if (onReport(message.report)) worker.postMessage({ abort: true } satisfies ToWorker);
    });
    worker.postMessage({ job } satisfies ToWorker);
  });
}

async function main(): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'lorikeet-worker-'));
  const job = { model: 'examples/stories260k', data: 'examples/shakespeare/train.jsonl', out: join(folder, 'run') };
  const show = ({ step, loss }: StepReport) => console.log(`step ${step}  loss ${loss.toFixed(4)}`);
  try {
    const aborted = await trainInWorker({ ...job, resume: false }, (report) => {
      show(report);
      return report.step === 3;
    });
    if (!('error' in aborted) || aborted.error.code !== 'cancelled') throw new Error('worker-thread: the abort came too late');
    console.log(aborted.error.message);
    const ended = await trainInWorker({ ...job, resume: true }, (report) => {
      show(report);
      return false;
    });
    if (!('result' in ended) || ended.result.steps !== 10) throw new Error('worker-thread: the resumed run did not reach its end');
    console.log(`done at step ${ended.result.steps}`);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

if (isMainThread) await main();
else serveJobs();
