import type { ResolvedConfig } from '../adapters/resolve-config.js';
import { TunedModel } from '../adapters/tuned-model.js';
import type { RowSet } from '../data/dataset.js';
import type { Sequence } from '../data/encode.js';
import { throwIfAborted } from '../errors.js';
import { Model } from '../model.js';
import { loadWeights } from '../models/load-weights.js';
import { createNetwork } from '../models/registry.js';
import { readDtype } from '../models/weight-storage.js';
import type { Recipe } from '../recipe.js';
import { memory, resetPeakMemory, scope, synchronize } from '../scope.js';
import { measureLanguage } from '../tasks/language.js';
import type { TrainingSettings } from '../train/options.js';
import { TrainingSession } from '../train/session.js';
import { resetGradients } from '../train/trainable.js';
import { keepBlocks } from './partial-network.js';
import { randomWeights } from './random-weights.js';
import type { SourceModel } from './source-model.js';
import { plainly } from './targets.js';
import { weightBytes } from './weight-bytes.js';

/** What is tried: a network of some blocks of a model with random weights, and its adapter. */
export interface TrialPlan {
  readonly source: SourceModel;
  /** How the recipe keeps weights. */
  readonly loading: Pick<Recipe, 'dtype' | 'compute' | 'layout'>;
  readonly adapter: ResolvedConfig;
  readonly settings: TrainingSettings;
  /** Numbers of the blocks that are built. */
  readonly blocks: readonly number[];
  /** Tokens of the vocabulary that is built; default: all. */
  readonly vocabulary?: number;
  /** Rows of a forward pass, and their tokens. */
  readonly rows: number;
  readonly length: number;
  /** Whether a forward pass over held-out rows counts as well. */
  readonly evaluates: boolean;
  readonly signal: AbortSignal | undefined;
}

/** What training steps took; all sizes in bytes. */
export interface Trial {
  /** Frozen weights in all layouts that training uses, but those that stay in the mapped file. */
  readonly weights: number;
  readonly adapter: number;
  readonly optimizer: number;
  /** Most that was in use beside weights, adapter and optimizer: gradients, activations, workspace. */
  readonly extra: number;
  /** Shortest time of one forward and backward pass with its share of the update, in seconds. */
  readonly passSeconds: number;
}

/** Milliseconds after which no further step is begun: the second may hold what the first left behind, more of them only sharpen the time. */
const kBudgets = { second: 1500, more: 600 };
const kMostSteps = 5;
/** Rows of a forward pass of the trainer's evaluation. */
const kEvaluationRows = 8;

/** Builds the network and the adapter, runs real training steps, and takes everything down again. */
export async function runTrial(plan: TrialPlan): Promise<Trial> {
  const { source, loading, vocabulary, settings, adapter, signal } = plan;
  const { storage, compute, int8 } = readDtype(loading.dtype, loading.compute);
  await synchronize();
  const start = memory().bytes;
  const config = vocabulary === undefined ? source.config : { ...source.config, vocab_size: vocabulary };
  const network = createNetwork(config);
  keepBlocks(network, plan.blocks);
  const model = new Model({ network, config, device: 'cpu', endTokens: [], tokenizer: undefined, source: 'random weights' });
  let session: TrainingSession | undefined;
  try {
    await loadWeights(
      network,
      randomWeights(network, (name) => compute ?? source.storedDtype(name), source),
      { dtype: compute, storage, layout: loading.layout, int8, signal },
    );
    await synchronize();
    const loaded = memory().bytes;
    // The random weights lie in memory; those of a file that is read in place will not.
    const { mapped } = weightBytes(network, source, loading);
    const tuned = TunedModel.of(model);
    const { method, config: plain } = plainly(adapter);
    await tuned.adapters.add({ method, config: { ...plain, allowUnmatched: true } }, { seed: settings.seed });
    await synchronize();
    const attached = memory().bytes;
    const short = rowOf(Math.min(plan.length, kShortRow), network.shape.vocabularySize);
    await backwardOnce(tuned, [...short.ids]);
    const walked = memory().bytes;
    session = new TrainingSession(tuned, settings);
    await session.run([short]);
    await synchronize();
    const base = memory().bytes;
    const passes = Math.min(settings.accumulate, 2);
    const rows = Array.from({ length: plan.rows * passes }, () => rowOf(plan.length, network.shape.vocabularySize));
    resetPeakMemory();
    const seconds = await fastestStep(session, rows, signal);
    if (plan.evaluates) await measureLanguage(tuned, rowSet(rows[0] as Sequence));
    return {
      weights: loaded - start - mapped + walked - attached,
      adapter: attached - loaded,
      optimizer: base - walked,
      extra: memory().peakBytes - base,
      passSeconds: seconds / passes,
    };
  } finally {
    session?.dispose();
    TunedModel.of(model).dispose();
    model.dispose();
    await synchronize().catch(() => undefined);
  }
}

const kShortRow = 16;

/** The first backward packs frozen weights for the gradient of their input as well; it leaves nothing else. */
async function backwardOnce(tuned: TunedModel, ids: number[]): Promise<void> {
  await scope(async () => {
    tuned.loss({ ids: [ids], tasks: [0], training: true }).backward();
    await synchronize();
  });
  resetGradients(tuned);
  await synchronize();
}

async function fastestStep(session: TrainingSession, rows: readonly Sequence[], signal: AbortSignal | undefined): Promise<number> {
  const start = performance.now();
  let fastest = Number.POSITIVE_INFINITY;
  for (let step = 0; step < kMostSteps; step++) {
    const spent = performance.now() - start;
    if (step > 0 && spent > (step === 1 ? kBudgets.second : kBudgets.more)) break;
    throwIfAborted(signal, 'estimate');
    fastest = Math.min(fastest, (await session.run(rows)).seconds);
  }
  return fastest;
}

/** A row of `length` tokens, all of them learnt, of the first task where an adapter asks. */
function rowOf(length: number, vocabulary: number): Sequence {
  let state = 1;
  const ids = Int32Array.from({ length }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state % vocabulary;
  });
  return { ids, learnt: new Uint8Array(length).fill(1, 1), where: 'a row of random tokens', task: 0 };
}

/** A few times the same row. */
const rowSet = (row: Sequence): RowSet => ({
  length: kEvaluationRows,
  name: row.where,
  sources: [],
  longest: row.ids.length,
  skipped: { count: 0, first: [] },
  rows: async (indices) => indices.map(() => row),
  lengths: async () => new Uint32Array(kEvaluationRows).fill(row.ids.length),
  close: async () => undefined,
});
