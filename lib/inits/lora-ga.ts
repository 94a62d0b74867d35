import { denseWeight } from '../adapters/trained-copy.js';
import { permutation } from '../data/shuffle.js';
import { ConfigError, didYouMean, throwIfAborted } from '../errors.js';
import { isJsonObject, type JsonObject } from '../io/json.js';
import { type LowrankFactors, svdLowrank } from '../linalg/svd-lowrank.js';
import { tensor } from '../ops/create.js';
import { abs, clamp, div, greater, mul, sqrt, where } from '../ops/elementwise.js';
import { indexSelect } from '../ops/index-ops.js';
import { matmul } from '../ops/linalg.js';
import { max, mean } from '../ops/reduce.js';
import { contiguous, narrow, select, transpose } from '../ops/shape.js';
import { disposeTensors } from '../scope.js';
import type { Tensor } from '../tensor.js';
import { GradientSketch, sketchWidths } from './gradient-sketch.js';
import { type GradientSum, gradientSums } from './gradient-sums.js';
import type { InitContext, InitMethod, Start, StartLayer } from './init.js';
import { requireWhole } from './require-whole.js';
import { onLayer, warnOfDropout } from './split.js';
import { wholeGradient } from './weight-gradients.js';

const kModes = ['official', 'peft'] as const;
const kDirections = ['ArB2r', 'A2rBr', 'ArBr', 'random'] as const;
const kScales = ['stable', 'unit', 'gd', 'weightS'] as const;

/** Options of LoRA-GA. N outputs, s = alpha / R or alpha / sqrt(R). */
export interface LoraGaOptions {
  /** `official` (default): as the authors' library, A and B of one size. `peft`: as PEFT, B times singular values of the gradient, A of size 1. */
  mode: (typeof kModes)[number];
  /** Which of the 2 R leading singular vectors start A and B. Default `ArB2r`: the first R and the next; the other way round, every other one, or `random`. */
  direction: (typeof kDirections)[number];
  /** Size of the factors: `stable` (default) N^(1/4) / sqrt(stableGamma), `unit` 1, `gd` 1 / s, `weightS` by the singular values of the weight. */
  scale: (typeof kScales)[number];
  /** Default 16; the larger, the smaller the factors. */
  stableGamma: number;
  /** Batches to average the gradient over, at most. Default 64. */
  batches: number;
  /** Rows of a batch, where a recipe has them read. Default 2. */
  batchSize: number;
  /**
   * Keep sketches of the gradients, of 4 R N + (8 R + 1) K numbers a layer, where that is less than the gradients themselves: one pass over the batches for models of any
   * size, and less exact vectors. Default false.
   */
  sketch: boolean;
  /** Shrink the factors where the largest entry of s B A exceeds that of the weight (mode `official`). Default false. */
  normClip: boolean;
}

const defaults: LoraGaOptions = {
  mode: 'official',
  direction: 'ArB2r',
  scale: 'stable',
  stableGamma: 16,
  batches: 64,
  batchSize: 2,
  sketch: false,
  normClip: false,
};

function check({ mode, direction, scale, stableGamma, batches, batchSize, sketch, normClip }: LoraGaOptions): void {
  const oneOf = (option: string, got: unknown, known: readonly string[]): void => {
    if (known.includes(got as string)) return;
    const hint = typeof got === 'string' ? didYouMean(got, known) : '';
    throw new ConfigError(
      `lora-ga: unknown ${option}; got ${JSON.stringify(got) ?? 'nothing'}, expected one of ${known.join(', ')}${hint}`,
    );
  };
  oneOf('mode', mode, kModes);
  oneOf('direction', direction, kDirections);
  oneOf('scale', scale, kScales);
  if (!(typeof stableGamma === 'number' && Number.isFinite(stableGamma) && stableGamma > 0))
    throw new ConfigError(`lora-ga: stableGamma must be a number above 0; got ${JSON.stringify(stableGamma)}`);
  for (const [option, value] of Object.entries({ batches, batchSize })) requireWhole('lora-ga', option, value, 1);
  for (const [option, value] of Object.entries({ sketch, normClip }))
    if (typeof value !== 'boolean') throw new ConfigError(`lora-ga: ${option} must be true or false; got ${JSON.stringify(value)}`);
  if (normClip && mode === 'peft') throw new ConfigError('lora-ga: PEFT clips no norms; expected normClip false or mode "official"');
}

/** Places of the singular vectors that start A and B. */
interface Places {
  readonly a: readonly number[];
  readonly b: readonly number[];
}

function placesOf({ direction, mode }: LoraGaOptions, rank: number, seed: number): Places {
  const first = Array.from({ length: rank }, (_, i) => i);
  const next = first.map((i) => rank + i);
  if (direction === 'ArB2r') return { a: first, b: next };
  if (direction === 'A2rBr') return { a: next, b: first };
  if (direction === 'ArBr') return { a: first.map((i) => 2 * i + 1), b: first.map((i) => 2 * i) };
  const mixed = [...permutation(2 * rank, seed, 0)];
  const a = mixed.slice(0, rank);
  // PEFT draws one set for both.
  return { a, b: mode === 'peft' ? a : mixed.slice(rank) };
}

type Pair = { readonly a: Tensor; readonly b: Tensor };

const sized = ({ a, b }: Pair, size: number | Tensor): Pair => ({ a: mul(a, size), b: mul(b, size) });

/** A and B with A Aᵀ = Bᵀ B = c² I. */
function officialPair(pair: Pair, layer: StartLayer, options: LoraGaOptions, weight: () => Tensor, seed: number): Pair {
  const { rank, scale } = layer;
  const outputs = layer.layer.outFeatures;
  const size = (): number | Tensor => {
    if (options.scale === 'stable') return outputs ** 0.25 / Math.sqrt(options.stableGamma);
    if (options.scale === 'unit') return 1;
    if (options.scale === 'gd') return 1 / scale;
    return mean(sqrt(mul(narrow(singularValues(weight(), 4 * rank, seed), 0, 0, rank), 1 / scale)));
  };
  const whole = sized(pair, size());
  if (!options.normClip) return whole;
  const ratio = div(max(abs(weight())), max(abs(mul(matmul(whole.b, whole.a), scale))));
  return sized(whole, sqrt(clamp(ratio, 0, 1)));
}

/** A of size 1, B times the singular values of the gradient. */
function peftPair({ a, b }: Pair, s: Tensor, layer: StartLayer, options: LoraGaOptions, weight: () => Tensor, seed: number): Pair {
  const whole = { a, b: mul(b, s) };
  const outputs = layer.layer.outFeatures;
  if (options.scale === 'stable') return { a, b: mul(whole.b, outputs ** 0.25 / Math.sqrt(options.stableGamma)) };
  if (options.scale === 'unit') return whole;
  if (options.scale === 'gd') return sized(whole, 1 / layer.scale);
  const first = select(s, 0, 0);
  const ratio = div(select(singularValues(weight(), layer.rank, seed), 0, 0), first);
  return { a, b: mul(whole.b, where(greater(first, 0), ratio, 1)) };
}

const singularValues = (weight: Tensor, width: number, seed: number): Tensor =>
  svdLowrank(weight, { q: Math.min(width, ...weight.shape), niter: 4, seed }).s;

function pairOf({ u, s, v }: LowrankFactors, layer: StartLayer, options: LoraGaOptions, context: InitContext, seed: number): Pair {
  const places = placesOf(options, layer.rank, seed);
  const [a, b] = [places.a, places.b].map((list) => tensor(list, { dtype: 'i64' })) as [Tensor, Tensor];
  const pair = { a: transpose(indexSelect(v, 1, a)), b: indexSelect(u, 1, b) };
  const weight = (): Tensor => denseWeight(layer.layer, context.dtype);
  const found =
    options.mode === 'peft'
      ? peftPair(pair, indexSelect(s, 0, b), layer, options, weight, seed)
      : officialPair(pair, layer, options, weight, seed);
  return { a: contiguous(found.a), b: contiguous(found.b) };
}

function checkRank({ path, layer, rank }: StartLayer): void {
  const most = Math.floor(Math.min(layer.inFeatures, layer.outFeatures) / 2);
  if (rank > most)
    throw new ConfigError(
      `lora-ga: "${path}" needs 2 R singular vectors of its gradient [${layer.outFeatures}, ${layer.inFeatures}]; ` +
        `got rank ${rank}, expected at most ${most} (see rankPattern)`,
    );
}

async function* start(layers: readonly StartLayer[], options: LoraGaOptions, context: InitContext): AsyncGenerator<Start> {
  warnOfDropout('lora-ga', layers);
  for (const layer of layers) checkRank(layer);
  const whole = wholeGradient(context);
  const sketch = new GradientSketch(context);
  const sketched = (layer: StartLayer): boolean => options.sketch && sketchWidths(layer) !== undefined;
  const of = (layer: StartLayer): GradientSum => (sketched(layer) ? sketch : whole);
  const kept: GradientSum = {
    create: (layer) => of(layer).create(layer),
    size: (layer) => of(layer).size(layer),
    add: (sums, layer, x, dy) => of(layer).add(sums, layer, x, dy),
  };
  for await (const { layer, sums } of gradientSums(layers, context, { batches: options.batches, reduce: 'mean' }, kept)) {
    try {
      throwIfAborted(context.signal, 'lora-ga');
      const { path, rank } = layer;
      const seed = context.seed + context.stream(path, 'lora-ga');
      const pair = await onLayer('lora-ga', path, () => {
        const [gradient] = sums as [Tensor];
        const factors = sketched(layer)
          ? sketch.factors(layer, sums)
          : svdLowrank(gradient, { q: Math.min(4 * rank, ...gradient.shape), niter: 4, seed });
        return pairOf(factors, layer, options, context, seed);
      });
      yield { path, ...pair, base: 'residual' };
    } finally {
      disposeTensors(sums);
    }
  }
}

const kPeftScales = { stable: 'stable', unit: 'unit', gd: 'gd_scale', weightS: 'weight_svd' } as const;

function readPeft(text: string, file: JsonObject): Partial<LoraGaOptions> | undefined {
  if (text !== 'lora_ga') return undefined;
  // The authors' library keeps the options beside the others and spells scales as here.
  const official = file.peft_type === 'LORAGA';
  const given = official ? file : isJsonObject(file.lora_ga_config) ? file.lora_ga_config : {};
  const { direction, scale, stable_gamma: stableGamma, iters, bsz } = given as Record<string, unknown>;
  const known = Object.entries(kPeftScales).find(([, name]) => name === scale)?.[0];
  const found = {
    mode: official ? 'official' : 'peft',
    ...(direction === undefined ? {} : { direction }),
    ...(scale === undefined ? {} : { scale: official ? scale : (known ?? scale) }),
    ...(stableGamma === undefined ? {} : { stableGamma }),
    ...(official && iters !== undefined ? { batches: iters } : {}),
    ...(official && bsz !== undefined ? { batchSize: bsz } : {}),
  } as Partial<LoraGaOptions>;
  check({ ...defaults, ...found });
  return found;
}

/**
 * Starts from singular vectors of the loss's gradient with respect to the weight, so that the first step of A and B is that of full fine-tuning as nearly as
 * rank 2 R allows; the frozen weight keeps W - s B A. "LoRA-GA: Low-Rank Adaptation with Gradient Approximation".
 */
export const loraGa = {
  name: 'lora-ga',
  defaults,
  named: (text) => (text === 'lora-ga' || text === 'lora_ga' ? {} : undefined),
  check,
  usesData: true,
  changesBase: true,
  start,
  peft: {
    read: readPeft,
    write: ({ direction, scale, stableGamma }) => ({
      init_lora_weights: 'lora_ga',
      lora_ga_config: { direction, scale: kPeftScales[scale], stable_gamma: stableGamma },
    }),
    repeatable: () => false,
  },
} as const satisfies InitMethod<'lora-ga', LoraGaOptions>;
