// A worker thread that trains the shipped model twice, one run after the other, and posts the weights of both.

import { parentPort, workerData } from 'node:worker_threads';
import { trainedBits } from './trained-bits.js';

const seeds = workerData as readonly number[];
const bits: string[] = [];
for (const seed of seeds) bits.push(await trainedBits(seed));
parentPort?.postMessage(bits);
