import { ConfigError } from '../errors.js';
import type { StartLayer } from '../inits/init.js';
import { type PrincipalOptions, resolveLatentInit } from '../inits/latent.js';
import { principal } from '../inits/leading.js';
import { type LatentStart, loraSbStarts } from '../inits/lora-sb.js';
import { onLayer } from '../inits/split.js';
import { qr } from '../linalg/qr.js';
import { Linear } from '../nn/linear.js';
import { normal, uniform } from '../ops/create.js';
import { mul } from '../ops/elementwise.js';
import { contiguous, unsqueeze } from '../ops/shape.js';
import { keep, noGrad, scope, unscoped } from '../scope.js';
import type { Tensor } from '../tensor.js';
import type { CreateContext, Preparation, Target } from './adapter.js';
import { foundStarts, type InitialFactors, noInitial } from './initial-factors.js';
import { rankAndScale } from './lora.js';
import { closing, requireData, requireRank, startsByPath } from './lora-start.js';
import { type LoraXsConfig, plainConfig } from './lora-xs-config.js';
import { LoraXsLinear } from './lora-xs-linear.js';
import { denseWeight } from './trained-copy.js';

/** Deviation of R_w where it starts near zero. */
const kSpread = 1e-5;
/** Columns of a randomised decomposition of the weight beyond R. */
const kOversample = 10;

type Factors = Omit<LatentStart, 'path'>;

/** Runs LoRA-SB over the data, or takes what it led to before; undefined for the starts that are made layer by layer. */
export async function prepareLoraXs(
  targets: readonly Target[],
  config: LoraXsConfig,
  context: CreateContext,
): Promise<Preparation<LoraXsConfig> | undefined> {
  const { type, options } = resolveLatentInit(config.init);
  const { initial } = context;
  if (type !== 'lora-sb' && initial !== undefined) throw noInitial('lora-xs');
  if (type !== 'lora-sb' || context.loading) return undefined;
  if (initial === undefined) requireData('lora-xs: init "lora-sb"', context);
  const layers = new Map(targets.map((target) => [target.path, startLayer(target, config)]));
  const all = [...layers.values()];
  checkScale(all);
  const begun = initial === undefined ? loraSbStarts(all, options, context) : startsFrom(all, initial, context);
  const starts = await startsByPath(closing(begun, context), release, context.signal);
  return {
    config,
    targets,
    create: ({ path }) => {
      const start = starts.get(path) as LatentStart;
      starts.delete(path);
      return moduleOf(layers.get(path) as StartLayer, start, config, context);
    },
    dispose: () => {
      for (const start of starts.values()) release(start);
    },
  };
}

/** A and B of plain LoRA as A, Q and R_w, where B = Q R_w with Qᵀ Q = 1: the same change of the weights, to rounding. */
function* startsFrom(layers: readonly StartLayer[], initial: InitialFactors, { dtype }: CreateContext): Generator<LatentStart> {
  for (const { path, a, b } of foundStarts(layers, initial, { changesBase: true }, dtype)) {
    const { q, r } = unscoped(() => scope(() => noGrad(() => qr(b))));
    b.dispose();
    yield { path, a, b: q, latent: r };
  }
}

/** The module of one target that starts from its own weight, or at random. */
export async function createLoraXs(target: Target, config: LoraXsConfig, context: CreateContext): Promise<LoraXsLinear> {
  const layer = startLayer(target, config);
  const init = resolveLatentInit(config.init);
  const factors = await onLayer('lora-xs', target.path, () =>
    init.type === 'svd' && !context.loading ? principalFactors(layer, init.options, context) : randomFactors(layer, context),
  );
  return moduleOf(layer, factors, config, context);
}

function startLayer({ path, layer }: Target, config: LoraXsConfig): StartLayer {
  if (!(layer instanceof Linear))
    throw new ConfigError(`lora-xs: cannot adapt "${path}" (${layer.constructor.name}); it adapts linear layers`);
  const { rank, scale } = rankAndScale(plainConfig(config), path);
  requireRank('lora-xs:', { path, layer }, rank, Math.min(layer.inFeatures, layer.outFeatures));
  return { path, layer, rank, alpha: scale * rank, scale, dropout: config.dropout, alphaAt: (other) => scale * other };
}

/** LoRA-SB takes the scale out of R_w again: at another scale than 1 its steps are no longer those of the projected update. */
function checkScale(layers: readonly StartLayer[]): void {
  const none = layers.find(({ scale }) => scale === 0);
  if (none !== undefined) throw new ConfigError(`lora-xs: LoRA-SB cannot start at a scale of 0; got alpha 0 on "${none.path}"`);
  const other = layers.find(({ scale }) => scale !== 1);
  if (other !== undefined)
    process.emitWarning(
      `lora-xs: LoRA-SB is made for a scale of 1; got alpha ${other.alpha} and rank ${other.rank} on "${other.path}", expected alpha null`,
      'LorikeetWarning',
    );
}

function moduleOf(
  { path, scale }: StartLayer,
  { a, b, latent }: Factors,
  { dropout }: LoraXsConfig,
  { seed }: CreateContext,
): LoraXsLinear {
  for (const factor of [a, b]) keep(factor);
  return new LoraXsLinear(a, b, keep(latent).setRequiresGrad(true), { scale, dropout, seed, path });
}

function release({ a, b, latent }: Factors): void {
  for (const factor of [a, b, latent]) factor.dispose();
}

/** W ~ U diag(S) Vᵀ: A = diag(S) Vᵀ, B = U. */
function principalFactors(
  { path, layer, rank }: StartLayer,
  { niter }: PrincipalOptions,
  context: CreateContext,
): Factors & Record<string, Tensor> {
  const weight = denseWeight(layer, context.dtype);
  const { u, s, vt } = principal(weight, rank, { niter, oversample: kOversample }, context.seed + context.stream(path, 'lora-xs'));
  return { a: contiguous(mul(vt, unsqueeze(s, 1))), b: contiguous(u), latent: nearZero(path, rank, context) };
}

/** A within 1 / sqrt(K), B within 1 / sqrt(R): the bounds of a linear layer's own start. */
function randomFactors({ path, layer, rank }: StartLayer, context: CreateContext): Factors & Record<string, Tensor> {
  const bounded = (name: string, shape: [number, number]): Tensor => {
    const high = 1 / Math.sqrt(shape[1]);
    return uniform(shape, { dtype: context.dtype, seed: context.seed, stream: context.stream(path, name), low: -high, high });
  };
  return {
    a: bounded('lora_A.weight', [rank, layer.inFeatures]),
    b: bounded('lora_B.weight', [layer.outFeatures, rank]),
    latent: nearZero(path, rank, context),
  };
}

const nearZero = (path: string, rank: number, { dtype, seed, stream }: CreateContext): Tensor =>
  normal([rank, rank], { dtype, seed, stream: stream(path, 'lora_latent_mapping.weight'), std: kSpread });
