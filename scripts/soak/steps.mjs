// Trains a tiny model for many steps: memory must not grow, and the event loop must not stall while it trains: the 99th percentile of `fs.stat` stays below 5 ms.
import { stat } from 'node:fs/promises';
import { performance } from 'node:perf_hooks';
import { attach, loadModel, memory, train } from '../../dist/index.js';

/** Growth that is no leak: pieces of heaps that come and go. */
const allowedGrowth = 8 * 2 ** 20;
const allowedHeapGrowth = 2 * 2 ** 20;
const allowedLatency = 5;

/** Measures `fs.stat` until told to stop. */
function watch() {
  const latencies = [];
  let running = true;
  const done = (async () => {
    while (running) {
      const start = performance.now();
      await stat('package.json');
      latencies.push(performance.now() - start);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  })();
  const stop = async () => {
    running = false;
    await done;
    latencies.sort((a, b) => a - b);
    return { p99: latencies[Math.floor(latencies.length * 0.99)] ?? 0, worst: latencies.at(-1) ?? 0 };
  };
  return { stop, restart: () => latencies.splice(0) };
}

const usage = () => {
  const { rss, heapUsed } = process.memoryUsage();
  const { tensors, bytes, peakBytes } = memory();
  return { tensors, bytes, peakBytes, rss, heapUsed };
};

/** Trains for so many steps; returns what was measured once caches were filled. */
async function measure(steps, warm, half, watching) {
  const model = await loadModel('examples/stories260k');
  const tuned = await attach(model, { type: 'lora', rank: 4, targets: 'all-linear', dropout: 0.1 }, { seed: 1 });
  const rows = ['Once upon a time there was a cat.', 'Lily saw a dog in the park and ran to it.', 'Tom had a red ball.', 'The end.'];
  const run = train(tuned, {
    data: { train: { rows }, eval: { rows } },
    training: { steps, batch: 2, sequence: 16, learningRate: 1e-4, evalEvery: 500, schedule: 'constant' },
  });
  const samples = [];
  let told = performance.now();
  for await (const { step, loss } of run) {
    if (step === warm) watching.restart();
    if (step === warm || step === half || step % 250 === 0) {
      globalThis.gc?.();
      samples.push({ step, ...usage() });
    }
    if (performance.now() - told > 5000) {
      told = performance.now();
      const { bytes, rss } = usage();
      console.error(
        `step ${step}/${steps}  loss ${loss.toFixed(4)}  native ${(bytes / 2 ** 20).toFixed(2)} MiB  process ${(rss / 2 ** 20).toFixed(0)} MiB`,
      );
    }
  }
  tuned.dispose();
  model.dispose();
  return samples.filter(({ step }) => step >= warm);
}

export async function soakSteps(steps) {
  /** Steps after which caches are filled; compilers and heaps of the process settle in the first half. */
  const warm = Math.min(1000, Math.floor(steps / 4));
  const half = Math.floor(steps / 2);
  // What the machine gives an idle process: where other work takes its cores, the latency while training says nothing.
  const idleWatch = watch();
  await new Promise((resolve) => setTimeout(resolve, 3000));
  const idle = await idleWatch.stop();
  const watching = watch();
  const settled = await measure(steps, warm, half, watching);
  const busy = await watching.stop();

  const first = settled[0];
  const middle = settled.find(({ step }) => step === half) ?? first;
  const last = settled.at(-1);
  const problems = [];
  if (last.tensors !== first.tensors) problems.push(`tensors grew from ${first.tensors} to ${last.tensors}`);
  if (last.bytes > first.bytes) problems.push(`native memory grew from ${first.bytes} to ${last.bytes} bytes`);
  if (last.heapUsed - first.heapUsed > allowedHeapGrowth)
    problems.push(`the JavaScript heap grew from ${first.heapUsed} to ${last.heapUsed} bytes`);
  if (last.rss - middle.rss > allowedGrowth) problems.push(`the process grew by ${last.rss - middle.rss} bytes in the second half`);
  if (idle.p99 > 1)
    console.error(`soak: fs.stat of an idle process takes ${idle.p99.toFixed(1)} ms here, so the machine is busy: latency is not judged`);
  else if (busy.p99 >= allowedLatency)
    problems.push(`the 99th percentile of fs.stat is ${busy.p99.toFixed(2)} ms, expected below ${allowedLatency}`);
  const result = {
    steps,
    tensors: [first.tensors, last.tensors],
    nativeBytes: [first.bytes, last.bytes],
    peakBytes: [first.peakBytes, last.peakBytes],
    heapUsed: [first.heapUsed, last.heapUsed],
    rss: [first.rss, middle.rss, last.rss],
    statP99: busy.p99,
    statMax: busy.worst,
    idleStatP99: idle.p99,
  };
  return { result, problems };
}
