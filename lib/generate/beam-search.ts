import { NonFiniteError, throwIfAborted } from '../errors.js';
import type { LanguageModel } from '../model.js';
import type { KeyValueCache } from '../nn/cache.js';
import { tensor } from '../ops/create.js';
import { topK } from '../ops/index-ops.js';
import { repetitionPenalty } from '../ops/sampling.js';
import { logSoftmax } from '../ops/softmax.js';
import { noGrad, scope } from '../scope.js';
import type { Tensor } from '../tensor.js';
import { DecodeStep } from './decode-step.js';
import { type Choice, passOptions, promptLogits } from './decoder.js';
import type { Settings } from './options.js';

/** What a search begins with: the ids of a prompt, and how many tokens may follow it. */
export interface BeamPrompt {
  readonly prompt: readonly number[];
  readonly limit: number;
}

/** A continuation that has ended. */
export interface FinishedBeam {
  readonly choices: readonly Choice[];
  /** The sum of its log-probabilities divided by its number of tokens to the power of `lengthPenalty`. */
  readonly score: number;
}

/** A continuation on its way. */
interface Beam {
  readonly choices: readonly Choice[];
  /** Of its log-probabilities. */
  readonly sum: number;
}

/** A beam with one token more. */
interface Candidate extends Beam {
  /** The place of the beam that it continues. */
  readonly parent: number;
  readonly ends: boolean;
}

/** A token after a beam, with the logarithm of its probability. */
type NextToken = Pick<Choice, 'id' | 'logProbability'>;

/** The search over the continuations of one prompt, as transformers makes it. */
class BeamSearch {
  readonly #settings: Settings;
  readonly #limit: number;
  /** Best first. */
  finished: readonly FinishedBeam[] = [];
  running: readonly Beam[] = [{ choices: [], sum: 0 }];

  constructor(settings: Settings, limit: number) {
    this.#settings = settings;
    this.#limit = limit;
  }

  /** Takes the likeliest tokens after each running beam; returns the places of the beams that those which run from here on continue: none when the search is over. */
  advance(nexts: readonly (readonly NextToken[])[]): readonly number[] {
    const { beams, earlyStopping } = this.#settings;
    const candidates = this.#candidates(nexts);
    if (candidates.length === 0) throw new NonFiniteError('generate: processors rule out every token');
    // Continuations beyond the first so many are there to run on in place of those that end.
    const ended = candidates.slice(0, beams).filter(({ ends }) => ends);
    this.finished = [...this.finished, ...ended.map((beam) => ({ choices: beam.choices, score: this.#score(beam) }))]
      .sort((a, b) => b.score - a.score)
      .slice(0, beams);
    const running = candidates.filter(({ ends }) => !ends).slice(0, beams);
    const isOver = this.finished.length === beams && (earlyStopping === true || !this.#canImprove(running[0]));
    this.running = isOver ? [] : running;
    return isOver ? [] : running.map(({ parent }) => parent);
  }

  /** The best continuations by one token, at least so many that run on as there are beams. */
  #candidates(nexts: readonly (readonly NextToken[])[]): readonly Candidate[] {
    const { endTokens } = this.#settings;
    const all = this.running.flatMap((beam, parent) =>
      (nexts[parent] ?? []).map((next) => ({ parent, beam, next, sum: beam.sum + next.logProbability })),
    );
    all.sort((a, b) => b.sum - a.sum);
    return all.slice(0, candidatesOf(this.#settings)).map(({ parent, beam: { choices }, next, sum }) => ({
      parent,
      sum,
      choices: [...choices, { ...next, drawLogProbability: 0 }],
      ends: endTokens.includes(next.id) || choices.length + 1 >= this.#limit,
    }));
  }

  /** What a running beam would score, were it to end with `length` tokens. */
  #score({ sum, choices }: Beam, length = choices.length): number {
    return sum / length ** this.#settings.lengthPenalty;
  }

  /** Whether the best running beam may come to score more than the worst finished one. */
  #canImprove(best: Beam | undefined): boolean {
    if (best === undefined) return false;
    const { earlyStopping, lengthPenalty } = this.#settings;
    const length = earlyStopping === 'never' && lengthPenalty > 0 ? this.#limit : best.choices.length;
    return this.#score(best, length) > (this.finished.at(-1)?.score ?? Number.NEGATIVE_INFINITY);
  }
}

/** How many continuations are looked at: of each beam all end tokens and one more may come first. */
const candidatesOf = ({ beams, endTokens }: Settings): number => Math.max(2, 1 + endTokens.length) * beams;

/**
 * The `beams` best continuations of each prompt, best first: a breadth-first search that keeps as many at each length, with the semantics of transformers. Prompts
 * do not depend on each other. Throws `CancelledError`, and `NonFiniteError` for logits that are no numbers.
 */
export async function searchBeams(
  model: LanguageModel,
  prompts: readonly BeamPrompt[],
  settings: Settings,
): Promise<readonly (readonly FinishedBeam[])[]> {
  const ids = prompts.map(({ prompt }) => prompt);
  const capacity = Math.max(...prompts.map(({ prompt, limit }) => prompt.length + limit));
  const all = prompts.map(({ limit }) => new BeamSearch(settings, limit));
  const promptOf = new Map(all.map((search, place) => [search, ids[place] ?? []]));
  const cache = model.cache(prompts.length, Math.min(capacity, model.network.shape.contextLength));
  let pass: DecodeStep | undefined;
  try {
    let nexts = await likeliest(
      () => promptLogits(model, ids, passOptions(cache, ids.length, settings)),
      () => ids,
      settings,
    );
    for (let searches: readonly BeamSearch[] = all; ; ) {
      throwIfAborted(settings.signal, 'generate');
      const rows: number[] = [];
      let first = 0;
      for (const search of searches) {
        const count = search.running.length;
        const start = first;
        for (const parent of search.advance(nexts.slice(start, start + count))) rows.push(start + parent);
        first += count;
      }
      searches = searches.filter(({ running }) => running.length > 0);
      if (searches.length === 0) return all.map(({ finished }) => finished);
      if (!moveRows(cache, rows)) {
        pass?.dispose();
        pass = undefined;
      }
      pass ??= new DecodeStep(model, cache, passOptions(cache, rows.length, settings));
      const step = pass;
      const beams = searches.flatMap((search) => search.running.map(({ choices }) => [promptOf.get(search) ?? [], choices] as const));
      const last = BigInt64Array.from(beams, ([, choices]) => BigInt(choices.at(-1)?.id ?? 0));
      const whole = () => beams.map(([prompt, choices]) => [...prompt, ...choices.map(({ id }) => id)]);
      nexts = await likeliest(() => step.logits(tensor(last)), whole, settings);
    }
  } finally {
    pass?.dispose();
    cache.dispose();
  }
}

/** Goes on with these rows; false where what was captured over the cache no longer holds. */
function moveRows(cache: KeyValueCache, rows: readonly number[]): boolean {
  const { lengths } = cache;
  const isInPlace = rows.length === lengths.length && rows.every((from, row) => lengths[from] === lengths[row]);
  if (!isInPlace) cache.keepRows(rows);
  else if (rows.some((from, row) => from !== row)) cache.exchangeRows(rows);
  return isInPlace;
}

/** The likeliest tokens of each row, best first; those that a processor rules out are left out. */
async function likeliest(logits: () => Tensor, ids: () => readonly (readonly number[])[], settings: Settings): Promise<NextToken[][]> {
  const { processors, repetitionPenalty: penalty } = settings;
  return scope(async () => {
    const { values, indices } = noGrad(() => {
      let scores = logSoftmax(logits());
      if (penalty !== 1) scores = repetitionPenalty(scores, ids(), penalty);
      for (const process of processors) scores = process(scores, ids());
      return topK(scores, Math.min(candidatesOf(settings), scores.shape[1] ?? 0));
    });
    const [rows = 0, width = 0] = values.shape;
    const [logProbabilities, tokens] = await Promise.all([values.data(), indices.data()]);
    return Array.from({ length: rows }, (_, row) => {
      const found = Array.from({ length: width }, (_, place) => ({
        id: Number(tokens[row * width + place]),
        logProbability: Number(logProbabilities[row * width + place]),
      }));
      if (found.some(({ logProbability }) => Number.isNaN(logProbability)))
        throw new NonFiniteError('generate: the logits of the model are not finite');
      return found.filter(({ logProbability }) => logProbability > Number.NEGATIVE_INFINITY);
    });
  });
}
