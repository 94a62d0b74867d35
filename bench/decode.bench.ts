// Generation with batch 1: tokens a second of the prompt and of the tokens after it. The weights of the layers and the head are read once a token, so the roofline
// of decoding is memory bandwidth over their bytes.
// npm run bench -- decode --model PATH [--dtype f32,bf16,stored] [--compute bf16,int8] [--prompt 512] [--tokens 64] [--rounds 3] [--threads N] [--peer PYTHON] [--json]
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { generate, loadModel, type Model, setThreads, threads } from 'lorikeet';
import { Linear } from 'lorikeet/nn';
import { PackedWeight } from 'lorikeet/ops';
import { type Report, rounded, type Suite } from './harness.js';
import { calibrate, percentOf, rooflineOf } from './roofline/roofline.js';

interface Speeds {
  readonly prefill: number;
  readonly decode: number;
}

interface PeerSpeeds extends Speeds {
  /** Instruction sets and kernels it was built with. */
  readonly built: string;
}

const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN;

/** Milliseconds to generate `count` tokens after a prompt of `length`. */
async function timed(model: Model, length: number, count: number): Promise<number> {
  const vocabulary = model.network.shape.vocabularySize;
  const prompt = Array.from({ length }, (_, i) => 100 + ((i * 7919) % (vocabulary - 200)));
  const start = performance.now();
  const { ids } = await generate(model, prompt, { maxNewTokens: count, endTokens: [] }).sample();
  if (ids.length !== count) throw new Error(`decode: expected ${count} tokens; got ${ids.length}`);
  return performance.now() - start;
}

/** The first token costs the prompt; the tokens after it one pass each. */
async function measureModel(model: Model, prompt: number, tokens: number, rounds: number): Promise<Speeds> {
  const first: number[] = [];
  const all: number[] = [];
  await timed(model, prompt, 2);
  for (let round = 0; round < rounds; round++) {
    first.push(await timed(model, prompt, 1));
    all.push(await timed(model, prompt, 1 + tokens));
  }
  const prefill = median(first);
  return { prefill: prompt / (prefill / 1000), decode: tokens / ((median(all) - prefill) / 1000) };
}

/** Bytes that one token reads: all matrices of the layers and the head, as they are kept. */
function weightBytes(model: Model): number {
  let bytes = 0;
  for (const [, module] of model.network.namedModules()) {
    if (module instanceof Linear && module.weight instanceof PackedWeight) bytes += module.weight.bytes;
  }
  return bytes;
}

function peerSpeeds(python: string, options: Readonly<Record<string, string>>, report: Report): PeerSpeeds | undefined {
  const args = Object.entries(options).flatMap(([name, value]) => [`--${name}`, value]);
  try {
    const text = execFileSync(python, [join('bench', 'peers', 'decode.py'), ...args], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    return JSON.parse(text.trim().split('\n').at(-1) ?? '{}') as PeerSpeeds;
  } catch (error) {
    const { stderr } = error as { stderr?: string };
    report.line(`llama-cpp-python was not measured: ${stderr?.trim().split('\n').at(-1) ?? String(error)}`);
    return undefined;
  }
}

interface Loaded {
  readonly dtype: 'f32' | 'bf16' | 'stored';
  readonly compute?: 'f32' | 'bf16' | 'int8';
}

/** Every dtype with every compute. */
const loadings = (dtypes: string, computes = ''): Loaded[] =>
  dtypes.split(',').flatMap((dtype) => computes.split(',').map((compute) => ({ dtype, ...(compute && { compute }) }) as Loaded));

async function run(args: readonly string[], report: Report): Promise<object> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      model: { type: 'string' },
      dtype: { type: 'string', default: 'f32,bf16' },
      compute: { type: 'string' },
      prompt: { type: 'string', default: '512' },
      tokens: { type: 'string', default: '64' },
      rounds: { type: 'string', default: '3' },
      threads: { type: 'string' },
      peer: { type: 'string' },
    },
  });
  if (values.model === undefined) throw new Error('decode: --model is missing; expected the path of a model');
  if (values.threads !== undefined) setThreads(Number(values.threads));
  const figures = calibrate(report);
  const { model: path, prompt, tokens } = values;
  const peer =
    values.peer === undefined ? undefined : peerSpeeds(values.peer, { model: path, prompt, tokens, threads: String(threads()) }, report);
  const rows: Record<string, string | number>[] = [];
  for (const { dtype, compute } of loadings(values.dtype, values.compute)) {
    const model = await loadModel(path, { dtype, ...(compute && { compute }) });
    const speeds = await measureModel(model, Number(prompt), Number(tokens), Number(values.rounds));
    const read = (weightBytes(model) * speeds.decode) / 1e9;
    rows.push({
      dtype,
      ...(compute && { compute }),
      'prefill tokens/s': rounded(speeds.prefill, 1),
      'decode tokens/s': rounded(speeds.decode, 1),
      'GB/s': rounded(read),
      '% of roofline': percentOf(read, rooflineOf(figures).gigabytesPerSecond),
      ...(peer && {
        'ratio prefill': rounded(speeds.prefill / peer.prefill),
        'ratio decode': rounded(speeds.decode / peer.decode),
      }),
    });
    model.dispose();
  }
  if (peer) {
    report.line(`llama-cpp-python: ${peer.prefill.toFixed(1)} tokens/s prefill, ${peer.decode.toFixed(1)} decode, weights as in the file`);
    report.line(peer.built);
  }
  report.table(rows);
  return { roofline: figures, rows, ...(peer && { peer }) };
}

export const suite: Suite = { description: 'prefill and decoding of one sequence, against memory bandwidth', run };
