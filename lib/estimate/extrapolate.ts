import type { AdapterPlan } from './targets.js';
import { runTrial, type Trial, type TrialPlan } from './trial.js';

/** Up to so many blocks the whole network is built. */
const kDirect = 6;
/** Blocks of the deeper of the two networks whose difference is that of their blocks. */
const kDeep = 3;
/** Vocabulary of those two: the head is measured once, and its noise is not multiplied by the number of blocks. */
const kSmallVocabulary = 512;
/** Tokens of a forward pass above which fewer rows are measured, twice, and a line is drawn through both. */
const kMostTokens = 4096;

/** Told after each trial. */
export type TrialProgress = (progress: { readonly done: number; readonly total: number }) => void;

export type TrialBase = Omit<TrialPlan, 'blocks' | 'vocabulary' | 'rows'>;

/** A trial of the whole model. */
export interface Extrapolation extends Trial {
  /** The part of `extra` that grows with the number of blocks. */
  readonly blocks: number;
}

/** What the steps of a whole model take, from steps of a few of its blocks; linear in blocks and, for large batches, in rows. */
export async function extrapolate(base: TrialBase, plan: AdapterPlan, batch: number, onProgress: TrialProgress): Promise<Extrapolation> {
  const [few, many] = rowCounts(batch, base.length);
  const total = (many === undefined ? 1 : 2) * (plan.blocks <= kDirect ? 2 : 3);
  let done = 0;
  const run: RunTrial = async (varied) => {
    const result = await runTrial({ ...base, ...varied });
    onProgress({ done: ++done, total });
    return result;
  };
  const measure = plan.blocks <= kDirect ? wholeNetwork : fewBlocks;
  const first = await measure(run, base, plan, few);
  if (many === undefined) return first;
  const second = await measure(run, base, plan, many);
  const line = (a: number, b: number): number => a + ((b - a) * (batch - few)) / (many - few);
  return {
    ...first,
    extra: line(first.extra, second.extra),
    blocks: line(first.blocks, second.blocks),
    passSeconds: line(first.passSeconds, second.passSeconds),
  };
}

type RunTrial = (varied: Pick<TrialPlan, 'blocks' | 'rows' | 'vocabulary'>) => Promise<Trial>;

async function wholeNetwork(run: RunTrial, _: TrialBase, { blocks, adapted }: AdapterPlan, rows: number): Promise<Extrapolation> {
  const one = await run({ blocks: adapted.slice(0, 1), rows });
  const whole = await run({ blocks: Array.from({ length: blocks }, (_, number) => number), rows });
  return { ...whole, blocks: blocks === 1 ? whole.extra : perBlock(whole, one, blocks - 1).extra * blocks };
}

async function fewBlocks(run: RunTrial, base: TrialBase, plan: AdapterPlan, rows: number): Promise<Extrapolation> {
  const chosen = chosenBlocks(plan);
  const one = await run({ blocks: chosen.slice(0, 1), rows });
  const small = { rows, ...smallVocabulary(base) };
  const shallow = await run({ blocks: chosen.slice(0, 1), ...small });
  const deep = await run({ blocks: chosen, ...small });
  return addBlocks(one, perBlock(deep, shallow, chosen.length - 1), plan);
}

/** The batch itself, or two smaller ones. */
function rowCounts(batch: number, length: number): readonly [number, number?] {
  if (batch * length <= kMostTokens || batch <= 2) return [batch];
  const few = Math.max(1, Math.floor(kMostTokens / 4 / length));
  const many = Math.max(2, 2 * few);
  return many >= batch ? [batch] : [few, many];
}

function smallVocabulary({ source }: TrialBase): Pick<TrialPlan, 'vocabulary'> {
  const { vocab_size: size } = source.config;
  return typeof size === 'number' && size > kSmallVocabulary ? { vocabulary: kSmallVocabulary } : {};
}

/** Adapted blocks where there are several, else the one and others. */
function chosenBlocks({ blocks, adapted }: AdapterPlan): number[] {
  if (adapted.length > 1) return spread(adapted, kDeep);
  const others = Array.from({ length: blocks }, (_, number) => number).filter((number) => number !== adapted[0]);
  return [...adapted, ...others.slice(0, kDeep - 1)];
}

/** `count` of the numbers, evenly spread, the last among them; at least two where there are two. */
function spread(numbers: readonly number[], count: number): number[] {
  const wanted = Math.min(count, numbers.length);
  const picked = Array.from(
    { length: wanted },
    (_, i) => numbers[Math.round((i * (numbers.length - 1)) / Math.max(1, wanted - 1))] as number,
  );
  return [...new Set(picked)];
}

/** What a forward pass takes of forward and backward. */
const kForwardShare = 1 / 2;

/**
 * Blocks above the first adapted one pass gradients and keep what they need for it; those below run forward only and keep nothing. Only adapted ones
 * carry adapter and optimizer state.
 */
function addBlocks(one: Trial, block: Trial, { blocks, adapted }: AdapterPlan): Extrapolation {
  const below = adapted[0] ?? 0;
  const more = adapted.length - 1;
  const walked = blocks - below - 1;
  return {
    weights: one.weights + block.weights * (blocks - 1),
    adapter: one.adapter + block.adapter * more,
    optimizer: one.optimizer + block.optimizer * more,
    extra: one.extra + block.extra * walked,
    blocks: block.extra * (walked + 1),
    passSeconds: one.passSeconds + block.passSeconds * (walked + below * kForwardShare),
  };
}

/** One of the blocks by which two trials differ; nothing where an adapter is on one block only. */
function perBlock(deep: Trial, shallow: Trial, blocks: number): Trial {
  const each = (key: keyof Trial): number => (blocks === 0 ? 0 : Math.max(0, deep[key] - shallow[key]) / blocks);
  return {
    weights: each('weights'),
    adapter: each('adapter'),
    optimizer: each('optimizer'),
    extra: each('extra'),
    passSeconds: each('passSeconds'),
  };
}
