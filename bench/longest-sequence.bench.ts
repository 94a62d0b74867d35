// The longest sequence whose training step stays within some memory: peak of the whole process, batch 1, checkpointing, LoRA on all linears.
// npm run bench -- longest-sequence [--shape smollm2-135m] [--dtype bf16] [--rank 16] [--limit-mb 4096] [--max-seq 16384] [--probes 3] [--peer PYTHON [--peer-script FILE]] [--json]
//   Every length is one step in a process of its own. Two short ones give a line of memory by length, and each probe tries what the line says and moves it.
//   A step takes time with the square of the length: --max-seq bounds what is tried, and what the line says beyond it is told as such.
import { parseArgs } from 'node:util';
import { type Report, rounded, type Suite } from './harness.js';
import { type LengthPoint, longestSequence } from './longest-sequence/search.js';
import { benchJson, runJson } from './step/peer.js';

const flags = {
  shape: { type: 'string', default: 'smollm2-135m' },
  dtype: { type: 'string', default: 'bf16' },
  rank: { type: 'string', default: '16' },
  'limit-mb': { type: 'string', default: '4096' },
  'max-seq': { type: 'string', default: '16384' },
  probes: { type: 'string', default: '3' },
  peer: { type: 'string' },
  'peer-script': { type: 'string', default: '../shared/baselines/peft_step.py' },
} as const;

const peerDtypes: Readonly<Record<string, string>> = { f32: 'float32', bf16: 'bfloat16' };

function run(args: readonly string[], report: Report): Promise<object> {
  const { values } = parseArgs({ args: [...args], options: flags });
  const { shape, dtype, rank, peer, 'peer-script': script } = values;
  const options = { limit: Number(values['limit-mb']), longest: Number(values['max-seq']), probes: Number(values.probes) };
  const stepArguments = (name: string, seq: number): string[] => [
    ...['--shape', shape, '--dtype', name, '--rank', rank, '--seq', `${seq}`],
    ...['--batch', '1', '--steps', '1', '--warmup', '0', '--checkpoint'],
  ];
  const search = (who: string, step: (seq: number) => { readonly peak_mb: number; readonly ms: number }) => {
    const result = longestSequence(options, (seq): LengthPoint => {
      const { peak_mb: megabytes, ms } = step(seq);
      report.line(`${who.padEnd(9)} ${seq} tokens: peak ${megabytes} MB, ${rounded(ms / 1000, 1)} s`);
      return { seq, megabytes };
    });
    report.line(`${who.padEnd(9)} longest measured within ${options.limit} MB: ${result.measured}; the line says ${result.predicted}`);
    return result;
  };
  const ours = search('lorikeet', (seq) => benchJson(['step', ...stepArguments(dtype, seq)]));
  if (peer === undefined) return Promise.resolve({ ours });
  const name = peerDtypes[dtype];
  if (name === undefined) throw new Error(`longest-sequence: the peer knows f32 and bf16; got ${dtype}`);
  const theirs = search('peer', (seq) => runJson(peer, [script, ...stepArguments(name, seq)]));
  const ratio = { measured: rounded(ours.measured / theirs.measured), predicted: rounded(ours.predicted / theirs.predicted) };
  report.line(`ours / the peer: ${ratio.measured} measured, ${ratio.predicted} by the lines`);
  return Promise.resolve({ ours, theirs, ratio });
}

export const suite: Suite = { description: 'longest sequence that trains within some memory', run };
