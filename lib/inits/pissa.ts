import { denseWeight } from '../adapters/trained-copy.js';
import { ConfigError, throwIfAborted } from '../errors.js';
import type { PackedWeight } from '../ops/linalg.js';
import { scope } from '../scope.js';
import type { Tensor } from '../tensor.js';
import { checkFewBits, checkQuantize, type FewBits, inFewBits, lost, type Pair, rest } from './few-bits.js';
import type { InitContext, InitMethod, Start, StartLayer } from './init.js';
import { checkFlavour, exactSvd, fastSvd, leading, type SvdFlavour } from './leading.js';
import { requireWhole } from './require-whole.js';
import { onLayer, sharedPair, warnOfDropout } from './split.js';

/** Options of PiSSA. With `niter` N and no oversampling it is PEFT's `pissa_niter_N`. */
export interface PissaOptions extends SvdFlavour {
  /** Keeps the rest of the weight in few bits (QPiSSA). Default null: in the dtype that the weight had. */
  quantize: FewBits | null;
  /** T: times that the rest is quantised, each time after the first beside the pair nearest to what the rounding before lost. Default 1. */
  rounds: number;
}

const defaults: PissaOptions = { ...exactSvd, quantize: null, rounds: 1 };

function named(text: string): Partial<PissaOptions> | undefined {
  if (text === 'pissa') return {};
  if (text === 'pissa_fast') return fastSvd;
  const steps = /^pissa_niter_(.*)$/.exec(text)?.[1];
  if (steps === undefined) return undefined;
  if (!/^\d+$/.test(steps)) throw new ConfigError(`pissa: the number of power steps must be a whole number; got "${text}"`);
  return { niter: Number(steps) };
}

function check(options: PissaOptions): void {
  const { quantize, rounds } = options;
  checkFlavour('pissa', options);
  checkQuantize('pissa', quantize);
  requireWhole('pissa', 'rounds', rounds, 1);
  if (quantize === null && rounds > 1) throw new ConfigError(`pissa: rounds are those of quantize; got ${rounds} with quantize null`);
}

async function* start(layers: readonly StartLayer[], options: PissaOptions, context: InitContext): AsyncGenerator<Start> {
  warnOfDropout('pissa', layers);
  for (const [index, each] of layers.entries()) {
    throwIfAborted(context.signal, 'pissa');
    const { path, layer, rank, scale } = each;
    const seed = context.seed + context.stream(path, 'pissa');
    if (options.quantize !== null) checkFewBits('pissa', each);
    const made = await onLayer('pissa', path, () => {
      const weight = denseWeight(layer, context.dtype);
      const nearest = (x: Tensor): Pair => scope(() => sharedPair(leading(x, rank, options, seed), 0, rank, scale));
      return options.quantize === null
        ? { ...nearest(weight), base: 'residual' as const }
        : quantizedSplit(weight, nearest, options.rounds, scale, (x) => inFewBits(x, options.quantize as FewBits, layer.weight.dtype));
    });
    context.onProgress({ done: index + 1, total: layers.length, path });
    yield { path, ...made };
  }
}

/** The pair, and Q = W - s B A in few bits. */
function quantizedSplit(
  weight: Tensor,
  nearest: (x: Tensor) => Pair,
  rounds: number,
  scale: number,
  quantize: (x: Tensor) => PackedWeight,
): Pair & { readonly base: PackedWeight } {
  let pair = nearest(weight);
  for (let round = 1; round < rounds; round++) {
    pair = scope(() => {
      using base = quantize(rest(weight, pair, scale));
      return nearest(lost(weight, base));
    });
  }
  return { ...pair, base: scope(() => quantize(rest(weight, pair, scale))) };
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
  formedFromFactors: ({ quantize }) => quantize === null,
  start,
  peft: {
    read: (text) => named(text),
    write: ({ niter }) => ({ init_lora_weights: niter === null ? 'pissa' : `pissa_niter_${niter}` }),
    repeatable: ({ niter, quantize }) => niter === null && quantize === null,
  },
} as const satisfies InitMethod<'pissa', PissaOptions>;
