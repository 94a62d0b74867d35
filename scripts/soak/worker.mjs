// A worker thread of the soak: one run, with progress and result as messages. The main thread may terminate it at any moment.
import { parentPort, workerData } from 'node:worker_threads';
import { train } from '../../dist/index.js';
import { digest, openVariant, runOptions } from './work.mjs';

const { variant, out } = workerData;
parentPort.postMessage({ ready: true });
const tuned = await openVariant(variant);
const run = train(tuned, runOptions(out));
for await (const { step } of run) parentPort.postMessage({ step });
parentPort.postMessage({ digest: await digest(tuned) });
const { model } = tuned;
tuned.dispose();
model.dispose();
