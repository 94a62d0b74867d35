import { createHash } from 'node:crypto';
import { isMainThread, parentPort, workerData } from 'node:worker_threads';
import { attach, loadModel, train } from 'lorikeet';

// A short run of the shipped model, in whatever thread; as a worker file it answers with the digest of its result.

/** What distinguishes one run from another. */
export interface TinyRun {
  readonly dora: boolean;
  readonly dtype: 'f32' | 'bf16';
  readonly seed: number;
}

/** Trains with dropout on a model of its own; the digest of all trained bits, and of the losses. */
export async function tinyRun({ dora, dtype, seed }: TinyRun): Promise<string> {
  const model = await loadModel('examples/stories260k', { dtype });
  const tuned = await attach(model, { type: 'lora', rank: 4, targets: 'all-linear', dropout: 0.2, dora }, { seed });
  const hash = createHash('sha256');
  const run = train(tuned, {
    data: { train: { path: 'examples/shakespeare/train.jsonl' }, eval: { rows: ['To be, or not to be.'] } },
    training: { steps: 4, batch: 2, accumulate: 2, sequence: 24, learningRate: 3e-3, seed, evalEvery: 2 },
  });
  for await (const { loss, gradNorm, evalLoss } of run) hash.update(`${loss} ${gradNorm} ${evalLoss}\n`);
  for (const [name, value] of tuned.namedParameters()) hash.update(name).update((await value.data()) as Float32Array);
  tuned.dispose();
  model.dispose();
  return hash.digest('hex');
}

if (!isMainThread) parentPort?.postMessage(await tinyRun(workerData as TinyRun));
