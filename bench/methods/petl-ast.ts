// Methods for audio spectrogram transformers on spoken digits: a small encoder that tells digits apart learns to tell speakers apart, from 20 recordings of each.
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { type AdapterConfig, attach } from '#dist/adapters/index.js';
import { type LogMelOptions, logMel } from '#dist/data/audio/log-mel.js';
import { readWav } from '#dist/data/audio/wav.js';
import { newVit, type VitNetwork } from '#dist/models/vit.js';
import { Linear } from '#dist/nn/index.js';
import { tensor } from '#dist/ops/create.js';
import { mul } from '#dist/ops/elementwise.js';
import { indexSelect } from '#dist/ops/index-ops.js';
import { logitsCrossEntropy } from '#dist/ops/loss.js';
import { argmax } from '#dist/ops/reduce.js';
import { copyInto } from '#dist/ops/shape.js';
import { AdamW, cosineSchedule } from '#dist/optim/index.js';
import { RandomScope } from '#dist/random.js';
import { noGrad, scope } from '#dist/scope.js';
import type { Tensor } from '#dist/tensor.js';
import { type Report, rounded } from '../harness.js';

const kBins = 32;
const kFrames = 64;
const kBatch = 32;
const kPretraining = 1500;
const kSteps = 400;
const kEach = 20;

const spectrogram: LogMelOptions = {
  sampleRate: 8000,
  frame: 200,
  hop: 80,
  transform: 256,
  window: 'symmetric',
  spectrum: 'power',
  melBins: kBins,
  lowHz: 20,
  highHz: 4000,
  floor: 1.1920929e-7,
  removeMean: true,
  preEmphasis: 0.97,
};

const kSaved = ['classifier', 'vit.layernorm'];
const methods: Readonly<Record<string, { readonly config: AdapterConfig; readonly rate?: number }>> = {
  linear: { config: { type: 'linear-probe' } },
  BitFit: { config: { type: 'bitfit' } },
  parallel: { config: { type: 'block-adapter', width: 6 } },
  'parallel, trunc_normal': { config: { type: 'block-adapter', width: 6, init: 'trunc_normal_0.02' } },
  'parallel, all zero': { config: { type: 'block-adapter', width: 6, init: 'zero' } },
  'parallel, residual': { config: { type: 'block-adapter', width: 6, residual: true } },
  sequential: { config: { type: 'block-adapter', width: 6, placement: 'sequential' } },
  'sequential, no residual': { config: { type: 'block-adapter', width: 6, placement: 'sequential', residual: false } },
  full: { config: { type: 'full' }, rate: 1e-3 },
};

interface Clip {
  readonly digit: number;
  readonly speaker: string;
  /** [bins, frames]. */
  readonly values: Float32Array;
}

async function readClips(folder: string): Promise<Clip[]> {
  const clips: Clip[] = [];
  for (const name of readdirSync(folder)
    .filter((file) => file.endsWith('.wav'))
    .sort()) {
    const [digit, speaker = ''] = name.split('_');
    const { channels } = await readWav(join(folder, name));
    const samples = channels[0] as Float32Array;
    const padded =
      samples.length < spectrogram.frame ? Float32Array.from({ length: spectrogram.frame }, (_, i) => samples[i] ?? 0) : samples;
    const rows = logMel(padded, spectrogram);
    const silence = Math.log(spectrogram.floor);
    const values = new Float32Array(kBins * kFrames);
    for (let bin = 0; bin < kBins; bin++)
      for (let frame = 0; frame < kFrames; frame++) values[bin * kFrames + frame] = rows[frame * kBins + bin] ?? silence;
    clips.push({ digit: Number(digit), speaker, values });
  }
  return clips;
}

/** Shifts and scales all clips so that those of training have mean 0 and deviation 0.5. */
function normalise(train: readonly Clip[], all: readonly Clip[]): void {
  const count = train.length * kBins * kFrames;
  const sumOf = (f: (x: number) => number): number =>
    train.reduce((total, { values }) => total + values.reduce((sum, x) => sum + f(x), 0), 0);
  const centre = sumOf((x) => x) / count;
  const deviation = Math.sqrt(sumOf((x) => (x - centre) ** 2) / count);
  for (const { values } of all) for (let i = 0; i < values.length; i++) values[i] = ((values[i] as number) - centre) / (2 * deviation);
}

interface Task {
  /** [N, 1, bins, frames]. */
  readonly pixels: Tensor;
  /** i64 [N]. */
  readonly labels: Tensor;
  readonly size: number;
}

function taskOf(clips: readonly Clip[], label: (clip: Clip) => number): Task {
  const pixels = new Float32Array(clips.length * kBins * kFrames);
  for (const [i, { values }] of clips.entries()) pixels.set(values, i * kBins * kFrames);
  return {
    pixels: tensor(pixels, { shape: [clips.length, 1, kBins, kFrames] }),
    labels: tensor(BigInt64Array.from(clips.map((clip) => BigInt(label(clip))))),
    size: clips.length,
  };
}

/** Whole numbers below a bound, one after the other (the generator of Lehmer). */
function drawsOf(seed: number): (bound: number) => number {
  let state = (seed * 7919 + 12345) % 2147483647;
  return (bound) => {
    state = (state * 48271) % 2147483647;
    return Math.floor((state / 2147483647) * bound);
  };
}

function run(
  network: VitNetwork,
  parameters: Iterable<Tensor>,
  { pixels, labels, size }: Task,
  steps: number,
  rate: number,
  seed: number,
): void {
  const optimizer = new AdamW([...parameters], { learningRate: rate, betas: [0.9, 0.98], eps: 1e-6, weightDecay: 0.1 });
  const schedule = cosineSchedule({ steps });
  const below = drawsOf(seed);
  for (let step = 0; step < steps; step++) {
    scope(() => {
      const rows = tensor(Int32Array.from({ length: kBatch }, () => below(size)));
      const logits = network.forward({ pixels: indexSelect(pixels, 0, rows) }, { training: true });
      logitsCrossEntropy(logits, indexSelect(labels, 0, rows)).backward();
      optimizer.step({ rateFactor: schedule(step) });
      optimizer.zeroGrad();
    });
  }
  optimizer.dispose();
}

/** Share of right answers in percent. */
function accuracy(network: VitNetwork, { pixels, labels, size }: Task): number {
  return scope(() => {
    const guesses = argmax(
      noGrad(() => network.forward({ pixels }, { training: false })),
      -1,
    ).dataSync();
    const truth = labels.dataSync();
    let right = 0;
    for (let i = 0; i < size; i++) right += Number(guesses[i] === truth[i]);
    return (100 * right) / size;
  });
}

function pretrained(seed: number, task: Task, steps: number): VitNetwork {
  const config = {
    model_type: 'vit',
    image_size: [kBins, kFrames],
    patch_size: 8,
    num_channels: 1,
    hidden_size: 48,
    num_hidden_layers: 3,
    num_attention_heads: 4,
    intermediate_size: 192,
    hidden_act: 'gelu',
    layer_norm_eps: 1e-12,
  };
  const network = new RandomScope(seed).within(() => newVit(config, 'classification', { labels: 10, pooling: { mode: 'mean' } }));
  // A small network that tells places apart from the start learns sooner.
  const positions = network.vit.embeddings.position_embeddings;
  scope(() => noGrad(() => copyInto(positions, mul(positions, 8))));
  run(network, network.trainableParameters(), task, steps, 1.5e-3, seed);
  network.freeze();
  return network;
}

interface Result {
  readonly method: string;
  readonly mean: number;
  readonly deviation: number;
}

/** The required order of mean accuracies, as the published study and its small counterpart find it. */
function claimsOf(results: readonly Result[]): { claim: string; holds: boolean }[] {
  const of = (method: string): number => results.find((result) => result.method === method)?.mean ?? Number.NaN;
  const [linear, bitFit, parallel, sequential, full] = ['linear', 'BitFit', 'parallel', 'sequential', 'full'].map(of) as [
    number,
    number,
    number,
    number,
    number,
  ];
  return [
    { claim: 'linear < BitFit < parallel < full', holds: linear < bitFit && bitFit < parallel && parallel < full },
    { claim: 'parallel at least as good as sequential', holds: parallel >= sequential },
    { claim: 'zero_up within 4 points of trunc_normal', holds: Math.abs(parallel - of('parallel, trunc_normal')) <= 4 },
    { claim: 'all zero at least 10 points below zero_up', holds: of('parallel, all zero') <= parallel - 10 },
  ];
}

/** Means and deviations over the seeds; prints whether each required order holds. `limit`: fewer steps, to try it out. */
export async function runPetlAst(seeds: readonly number[], folder: string, report: Report, limit?: number): Promise<object> {
  const [train, test] = [await readClips(join(folder, 'train')), await readClips(join(folder, 'test'))];
  normalise(train, [...train, ...test]);
  const speakers = [...new Set(train.map(({ speaker }) => speaker))].sort();
  const known = (clip: Clip): boolean => speakers.indexOf(clip.speaker) < 4;
  const digitsOf = (clips: readonly Clip[]): Task => taskOf(clips.filter(known), ({ digit }) => digit);
  const speakersOf = (clips: readonly Clip[]): Task => taskOf(clips, ({ speaker }) => speakers.indexOf(speaker));
  const [oldTrain, oldTest, fresh] = [digitsOf(train), digitsOf(test), speakersOf(test)];
  const accuracies = new Map(Object.keys(methods).map((method) => [method, [] as number[]]));
  for (const seed of seeds) {
    const network = pretrained(seed, oldTrain, Math.min(limit ?? kPretraining, kPretraining));
    report.line(`seed ${seed}: ${rounded(accuracy(network, oldTest), 1)}% of the digits`);
    const below = drawsOf(1000 + seed);
    const few = speakersOf(
      speakers.flatMap((speaker) => {
        const own = train.filter((clip) => clip.speaker === speaker);
        return Array.from({ length: kEach }, () => own.splice(below(own.length), 1)[0] as Clip);
      }),
    );
    const old = network.classifier;
    network.classifier = new Linear(network.shape.hiddenSize, speakers.length, { role: 'head', seed });
    old?.dispose();
    for (const [method, { config, rate = 5e-3 }] of Object.entries(methods)) {
      const set = await attach(network, { ...config, modulesToSave: kSaved } as AdapterConfig, { seed });
      run(network, set.parameters(), few, Math.min(limit ?? kSteps, kSteps), rate, seed);
      accuracies.get(method)?.push(accuracy(network, fresh));
      set.dispose();
    }
    network.dispose();
    for (const x of [few.pixels, few.labels]) x.dispose();
  }
  for (const task of [oldTrain, oldTest, fresh]) for (const x of [task.pixels, task.labels]) x.dispose();
  const results = [...accuracies].map(([method, all]) => {
    const mean = all.reduce((sum, x) => sum + x, 0) / all.length;
    const deviation = Math.sqrt(all.reduce((sum, x) => sum + (x - mean) ** 2, 0) / Math.max(1, all.length - 1));
    return { method, mean, deviation };
  });
  const claims = claimsOf(results);
  report.line('\nSpeakers of spoken digits, % of right answers');
  report.table(results.map(({ method, mean, deviation }) => ({ method, mean: rounded(mean, 1), deviation: rounded(deviation, 1) })));
  for (const { claim, holds } of claims) report.line(`${holds ? 'holds' : 'FAILS'}  ${claim}`);
  return { results, claims };
}
