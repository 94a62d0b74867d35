/** Counters of one random draw; the numbers are a pure function of these and the element's index. */
export interface Draw {
  readonly seed: bigint;
  readonly stream: bigint;
}

let log: number[] | undefined;
let replay: { readonly draws: readonly number[]; next: number } | undefined;

/** A 32-bit number from a name (FNV-1a), to keep the draws of different layers apart. */
export function hashName(name: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name.charCodeAt(i), 0x01000193);
  return hash >>> 0;
}

/**
 * Counters for something that draws anew each time it runs (dropout): `seed` and `name` choose the sequence, `draws` the place in it. A checkpoint that keeps
 * `draws` goes on with the same numbers.
 */
export class RandomSource {
  readonly seed: bigint;
  readonly #high: bigint;
  draws = 0;

  constructor(seed: number | bigint, name = '') {
    this.seed = BigInt(seed);
    this.#high = BigInt(hashName(name)) << 32n;
  }

  /** The next counters; inside a recomputation, those of the first time. */
  next(): Draw {
    return { seed: this.seed, stream: this.#high | BigInt(this.place()) };
  }

  /** The place of the next draw, from 0, which counts as made; inside a recomputation, that of the first time. */
  place(): number {
    const place = replay?.draws[replay.next++] ?? this.draws++;
    log?.push(place);
    return place;
  }
}

/** @internal Runs `fn` and returns with its result the draws it made, in order. */
export function loggingDraws<T>(fn: () => T): { readonly result: T; readonly draws: readonly number[] } {
  const before = log;
  const draws: number[] = [];
  log = draws;
  try {
    return { result: fn(), draws };
  } finally {
    log = before;
    before?.push(...draws);
  }
}

/** @internal Runs `fn` with the draws that `loggingDraws` saw. */
export function replayingDraws<T>(draws: readonly number[], fn: () => T): T {
  const before = replay;
  replay = { draws, next: 0 };
  try {
    return fn();
  } finally {
    replay = before;
  }
}

let environment = new RandomSource(0);

/** Where the random draws of this environment (thread) stand. */
export interface RandomState {
  readonly seed: bigint;
  /** How many draws were made since the seed was set. */
  readonly draws: number;
}

/** Starts the draws of this environment again: the same seed gives the same numbers on every machine, whatever the number of threads. */
export function manualSeed(seed: number | bigint): void {
  environment = new RandomSource(seed);
}

/** The state to give to {@link setRandomState} later, for instance kept with a checkpoint. */
export function randomState(): RandomState {
  return { seed: environment.seed, draws: environment.draws };
}

/** Goes back to a state of {@link randomState}. */
export function setRandomState(state: RandomState): void {
  environment = new RandomSource(state.seed);
  environment.draws = state.draws;
}

/** Draws of one's own: what runs in `within` draws from here, and seeds and states that it sets are set here. */
export class RandomScope {
  #source: RandomSource;

  constructor(seed: number | bigint) {
    this.#source = new RandomSource(seed);
  }

  /** Runs `fn` (synchronous). */
  within<T>(fn: () => T): T {
    const outer = environment;
    environment = this.#source;
    try {
      return fn();
    } finally {
      this.#source = environment;
      environment = outer;
    }
  }
}

/** @internal The next draw of this environment. */
export function nextDraw(): Draw {
  return environment.next();
}
