import { denseWeight } from '../adapters/trained-copy.js';
import { ConfigError, throwIfAborted } from '../errors.js';
import { isJsonObject, type JsonObject } from '../io/json.js';
import type { PackedWeight } from '../ops/linalg.js';
import { scope } from '../scope.js';
import type { Tensor } from '../tensor.js';
import { checkFewBits, inFewBits, lost, type Pair, rest } from './few-bits.js';
import type { InitContext, InitMethod, Start, StartLayer } from './init.js';
import { checkFlavour, exactSvd, leading, type SvdFlavour } from './leading.js';
import { requireWhole } from './require-whole.js';
import { onLayer, sharedPair } from './split.js';

/** Options of LoftQ. */
export interface LoftqOptions extends SvdFlavour {
  /** Of a frozen weight: 4 (the default) is NF4 with a scale for 64 values, 8 is int8 with a scale a row. */
  bits: 4 | 8;
  /** T: times that the weight is quantised and the pair fitted to what that loses. Default 1. */
  rounds: number;
}

const defaults: LoftqOptions = { ...exactSvd, bits: 4, rounds: 1 };

function check(options: LoftqOptions): void {
  const { bits, rounds } = options;
  checkFlavour('loftq', options);
  if (bits !== 4 && bits !== 8) throw new ConfigError(`loftq: bits must be 4 or 8; got ${JSON.stringify(bits)}`);
  requireWhole('loftq', 'rounds', rounds, 1);
}

async function* start(layers: readonly StartLayer[], options: LoftqOptions, context: InitContext): AsyncGenerator<Start> {
  const kind = options.bits === 4 ? 'nf4' : 'int8';
  for (const [index, each] of layers.entries()) {
    throwIfAborted(context.signal, 'loftq');
    const { path, layer, rank, scale } = each;
    const seed = context.seed + context.stream(path, 'loftq');
    checkFewBits('loftq', each);
    const made = await onLayer('loftq', path, () => {
      const weight = denseWeight(layer, context.dtype);
      const nearest = (x: Tensor): Pair => sharedPair(leading(x, rank, options, seed), 0, rank, scale);
      return inTurns(weight, options.rounds, scale, nearest, (x) => inFewBits(x, kind, layer.weight.dtype));
    });
    context.onProgress({ done: index + 1, total: layers.length, path });
    yield { path, ...made };
  }
}

/** Q, quantised from W - s B A with the pair of the round before, and the pair nearest to W - Q. */
function inTurns(
  weight: Tensor,
  rounds: number,
  scale: number,
  nearest: (x: Tensor) => Pair,
  quantize: (x: Tensor) => PackedWeight,
): Pair & { readonly base: PackedWeight } {
  const beside = (base: PackedWeight): Pair & { readonly base: PackedWeight } => {
    try {
      return { ...scope(() => nearest(lost(weight, base))), base };
    } catch (error) {
      base.dispose();
      throw error;
    }
  };
  let found = beside(quantize(weight));
  for (let round = 1; round < rounds; round++) {
    found.base.dispose();
    found = beside(scope(() => quantize(rest(weight, found, scale))));
  }
  return found;
}

/** Throws `ConfigError` for a `loftq_config` of another form. */
function read(text: string, file: JsonObject): Partial<LoftqOptions> | undefined {
  if (text !== 'loftq') return undefined;
  const given = file.loftq_config ?? {};
  if (!isJsonObject(given)) throw new ConfigError(`adapter_config.json: "loftq_config" must be an object; got ${JSON.stringify(given)}`);
  const { loftq_bits: bits = defaults.bits, loftq_iter: rounds = defaults.rounds } = given as { loftq_bits?: 4 | 8; loftq_iter?: number };
  check({ ...defaults, bits, rounds });
  return { bits, rounds };
}

/**
 * Keeps the weight in few bits and starts from the pair nearest to what that loses, by turns. "LoftQ: LoRA-Fine-Tuning-Aware Quantization for Large Language
 * Models".
 */
export const loftq = {
  name: 'loftq',
  defaults,
  named: (text) => (text === 'loftq' ? {} : undefined),
  check,
  usesData: false,
  changesBase: true,
  formedFromFactors: () => false,
  start,
  peft: {
    read,
    write: ({ bits, rounds }) => ({ init_lora_weights: 'loftq', loftq_config: { loftq_bits: bits, loftq_iter: rounds } }),
    repeatable: ({ niter }) => niter === null,
  },
} as const satisfies InitMethod<'loftq', LoftqOptions>;
