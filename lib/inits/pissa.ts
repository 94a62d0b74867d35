import { denseParameters } from '../adapters/trained-copy.js';
import { ConfigError, throwIfAborted } from '../errors.js';
import { svd } from '../linalg/svd.js';
import { svdLowrank } from '../linalg/svd-lowrank.js';
import type { Tensor } from '../tensor.js';
import type { InitContext, InitMethod, Start, StartLayer } from './init.js';
import { onLayer, sharedPair, withVt } from './split.js';

/** Options of PiSSA. */
export interface PissaOptions {
  /** Power steps of a randomised decomposition of width R; null (the default) for the exact one. PEFT's `pissa_niter_N`. */
  niter: number | null;
}

const defaults: PissaOptions = { niter: null };

function named(text: string): Partial<PissaOptions> | undefined {
  if (text === 'pissa') return {};
  const rest = /^pissa_niter_(.*)$/.exec(text)?.[1];
  if (rest === undefined) return undefined;
  if (!/^\d+$/.test(rest)) throw new ConfigError(`pissa: the number of power steps must be a whole number; got "${text}"`);
  return { niter: Number(rest) };
}

function check({ niter }: PissaOptions): void {
  if (niter !== null && (!Number.isSafeInteger(niter) || niter < 0))
    throw new ConfigError(`pissa: niter must be null or a whole number; got ${JSON.stringify(niter)}`);
}

async function* start(layers: readonly StartLayer[], { niter }: PissaOptions, context: InitContext): AsyncGenerator<Start> {
  for (const [index, { path, layer, rank, scale }] of layers.entries()) {
    throwIfAborted(context.signal, 'pissa');
    const pair = await onLayer('pissa', path, () => {
      const { weight } = denseParameters(layer, context.dtype, ['weight']) as { weight: Tensor };
      const seed = context.seed + context.stream(path, 'pissa');
      const factors = niter === null ? svd(weight) : withVt(svdLowrank(weight, { q: rank, niter, seed }));
      return sharedPair(factors, 0, rank, scale);
    });
    context.onProgress({ done: index + 1, total: layers.length, path });
    yield { path, ...pair, base: 'residual' };
  }
}

/**
 * Starts from the principal R singular vectors of the weight itself; the frozen weight keeps the rest. "PiSSA: Principal Singular Values and Singular Vectors
 * Adaptation of Large Language Models".
 */
export const pissa = {
  name: 'pissa',
  defaults,
  named,
  check,
  usesData: false,
  changesBase: true,
  start,
  peft: {
    read: (text) => named(text),
    write: ({ niter }) => ({ init_lora_weights: niter === null ? 'pissa' : `pissa_niter_${niter}` }),
    repeatable: ({ niter }) => niter === null,
  },
} as const satisfies InitMethod<'pissa', PissaOptions>;
