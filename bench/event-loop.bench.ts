// Latency of a Fastify server in the process that trains: a client process asks a trivial route of it at a steady rate, first idle, then while a run goes on.
// npm run bench -- event-loop [--model PATH] [--dtype f32|bf16] [--batch 8] [--seq 256] [--seconds 20] [--rate 100] [--threads N] [--json]
import { execFile } from 'node:child_process';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { fileURLToPath } from 'node:url';
import { parseArgs, promisify } from 'node:util';
import fastify from 'fastify';
import { attach, loadModel, setThreads, type TunedModel, threads, train } from 'lorikeet';
import { rounded, type Suite } from './harness.js';

const client = fileURLToPath(new URL('./event-loop/client.js', import.meta.url));

interface Latency {
  readonly requests: number;
  readonly p50: number;
  readonly p99: number;
  readonly worst: number;
  /** 99th percentile of what the event loop came late to a timer, in the server. */
  readonly loop_p99: number;
}

/** Milliseconds of `seconds` times `rate` requests, sent by another process. */
async function latencyOf(url: string, seconds: number, rate: number): Promise<Latency> {
  const delay = monitorEventLoopDelay({ resolution: 5 });
  delay.enable();
  const { stdout } = await promisify(execFile)(process.execPath, [client, url, String(seconds * rate), String(1000 / rate)], {
    maxBuffer: 2 ** 26,
  });
  delay.disable();
  const sorted = (JSON.parse(stdout) as number[]).sort((a, b) => a - b);
  const at = (part: number) => rounded(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? Number.NaN);
  return { requests: sorted.length, p50: at(0.5), p99: at(0.99), worst: at(1), loop_p99: rounded(delay.percentile(99) / 1e6 - 5) };
}

/** Trains until told to stop; resolves after the first step, when buffers are there and kernels are warm. */
async function trainInBackground(tuned: TunedModel, batch: number, sequence: number): Promise<{ stop(): Promise<number> }> {
  const controller = new AbortController();
  const words = 'Once upon a time there was a little girl who went into the wood to see what the birds did all day. '.repeat(sequence / 8);
  const run = train(tuned, {
    data: { train: { rows: Array.from({ length: batch }, (_, i) => `${i} ${words}`) } },
    training: { steps: 1_000_000, batch, sequence, learningRate: 1e-4, schedule: 'constant' },
    signal: controller.signal,
  });
  let steps = 0;
  let started = (): void => undefined;
  const warm = new Promise<void>((resolve) => {
    started = resolve;
  });
  const ended = (async () => {
    for await (const { step } of run) {
      steps = step;
      started();
    }
  })().catch((error: unknown) => {
    if (!controller.signal.aborted) throw error;
  });
  await Promise.race([warm, ended]);
  return {
    async stop() {
      controller.abort();
      await ended;
      return steps;
    },
  };
}

export const suite: Suite = {
  description: 'latency of a server in the process that trains',
  async run(args, report) {
    const { values } = parseArgs({
      args: [...args],
      options: {
        model: { type: 'string', default: 'examples/stories260k' },
        dtype: { type: 'string', default: 'bf16' },
        batch: { type: 'string', default: '8' },
        seq: { type: 'string', default: '256' },
        seconds: { type: 'string', default: '20' },
        rate: { type: 'string', default: '100' },
        threads: { type: 'string' },
      },
    });
    if (values.threads !== undefined) setThreads(Number(values.threads));
    const [seconds, rate] = [Number(values.seconds), Number(values.rate)];
    const server = fastify();
    server.get('/', () => ({ ok: true }));
    const url = await server.listen({ host: '127.0.0.1', port: 0 });
    const model = await loadModel(values.model, { dtype: values.dtype as 'f32' | 'bf16' });
    const tuned = await attach(model, { type: 'lora', rank: 16, targets: 'all-linear' }, { seed: 1 });
    try {
      await latencyOf(url, 1, rate);
      const idle = await latencyOf(url, seconds / 2, rate);
      const training = await trainInBackground(tuned, Number(values.batch), Number(values.seq));
      const busy = await latencyOf(url, seconds, rate);
      const steps = await training.stop();
      report.line('milliseconds; idle: the same server before the run');
      report.table([
        { process: 'idle', ...idle },
        { process: 'training', ...busy },
      ]);
      const run = {
        model: values.model,
        dtype: values.dtype,
        batch: Number(values.batch),
        seq: Number(values.seq),
        threads: threads(),
        steps,
      };
      return { ...run, idle, training: busy };
    } finally {
      await server.close();
      tuned.dispose();
      model.dispose();
    }
  },
};
