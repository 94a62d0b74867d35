import { ConfigError, InvalidArgumentError } from '../errors.js';
import { arange } from '../ops/create.js';
import { abs, cast, equal, mul, sign } from '../ops/elementwise.js';
import { max } from '../ops/reduce.js';
import { contiguous, unsqueeze } from '../ops/shape.js';
import { noGrad, scope } from '../scope.js';
import type { Tensor } from '../tensor.js';
import type { InitContext, StartLayer } from './init.js';
import { principal } from './leading.js';
import { requireWhole } from './require-whole.js';
import { type Factors, onLayer } from './split.js';
import { weightGradients } from './weight-gradients.js';

/** Options of LoRA-SB. */
export interface LoraSbOptions {
  /** Learning rate of the update that is imitated. Default: `learningRate` over the steps of `warmup`, the rate of a training's first update. */
  eta: number | null;
  /** The learning rate of the training that follows. */
  learningRate: number | null;
  /** Steps of its warm-up; below 1 a share of `steps`. */
  warmup: number | null;
  /** Its optimizer steps, for a warm-up that is a share of them. */
  steps: number | null;
  /** Batches of the data to estimate from. Default: all that `attach` gets; from a recipe 64. */
  batches: number | null;
  /** Rows of a batch, where a recipe has them read. Default 4. */
  batchSize: number | null;
  /** `sign`: the first step of AdamW, -eta sign(G); `gradient`: that of SGD, -eta G. Default `sign`. */
  update: 'sign' | 'gradient';
  /** Power steps of the randomised decomposition; null for the exact one. Default 10. */
  niter: number | null;
}

export const loraSbDefaults: LoraSbOptions = {
  eta: null,
  learningRate: null,
  warmup: null,
  steps: null,
  batches: null,
  batchSize: null,
  update: 'sign',
  niter: 10,
};

/** The three factors of a layer: delta W = scale * B R_w A. The receiver owns the tensors. */
export interface LatentStart {
  readonly path: string;
  /** [R, K]. */
  readonly a: Tensor;
  /** [N, R]. */
  readonly b: Tensor;
  /** R_w [R, R]. */
  readonly latent: Tensor;
}

const wrong = (what: string, got: unknown): ConfigError => new ConfigError(`lora-sb: ${what}; got ${JSON.stringify(got)}`);

/** Throws `ConfigError` for options that cannot work, whatever the model. */
export function checkLoraSb(options: LoraSbOptions): void {
  const { batches, batchSize, update, niter } = options;
  for (const key of ['eta', 'learningRate', 'warmup', 'steps'] as const) {
    const value = options[key];
    const least = key === 'warmup' ? 0 : Number.MIN_VALUE;
    if (value !== null && !(Number.isFinite(value) && value >= least)) throw wrong(`${key} must be a positive number`, value);
  }
  for (const [key, value] of Object.entries({ batches, batchSize })) requireWhole('lora-sb', key, value, 1, 'null');
  if (update !== 'sign' && update !== 'gradient') throw wrong('update must be "sign" or "gradient"', update);
  requireWhole('lora-sb', 'niter', niter, 0, 'null');
  firstRate(options);
}

/** eta_1, the learning rate of the first update. */
export function firstRate({ eta, learningRate, warmup, steps }: LoraSbOptions): number {
  if (eta !== null) return eta;
  if (learningRate === null || warmup === null)
    throw new ConfigError(
      'lora-sb: the learning rate of the first update is not known; expected eta, or learningRate and warmup of the training',
    );
  if (warmup === 0) throw new ConfigError('lora-sb: without warm-up there is no first step of it; expected eta, or a warmup above 0');
  if (warmup < 1 && steps === null) throw new ConfigError(`lora-sb: a warmup of ${warmup} is a share of the steps; expected steps as well`);
  return learningRate / (warmup < 1 ? warmup * (steps ?? 0) : warmup);
}

/**
 * Starts from an estimate D of the first update that full fine-tuning would make: with the truncated decomposition D ~ U diag(S) Vᵀ, B = U, A = Vᵀ and
 * R_w = diag(S) / scale. "Initialization using Update Approximation is a Silver Bullet for Extremely Efficient Low-Rank Fine-Tuning".
 */
export async function* loraSbStarts(
  layers: readonly StartLayer[],
  options: LoraSbOptions,
  context: InitContext,
): AsyncGenerator<LatentStart> {
  const eta = firstRate(options);
  const byPath = new Map(layers.map((layer) => [layer.path, layer]));
  const batches = options.batches === null ? {} : { batches: options.batches };
  for await (const { path, gradient } of weightGradients(layers, context, { ...batches, reduce: 'mean' })) {
    try {
      await requireSome(path, gradient);
      const { rank, scale } = byPath.get(path) as StartLayer;
      const start = await onLayer('lora-sb', path, () => {
        const update = mul(options.update === 'sign' ? sign(gradient) : gradient, -eta);
        return factorsOf(
          principal(update, rank, { niter: options.niter, oversample: 0 }, context.seed + context.stream(path, 'lora-sb')),
          1 / scale,
        );
      });
      yield { path, ...start };
    } finally {
      gradient.dispose();
    }
  }
}

function factorsOf({ u, s, vt }: Factors, factor: number): Omit<LatentStart, 'path'> {
  return { a: contiguous(vt), b: contiguous(u), latent: diagonal(mul(s, factor)) };
}

/** The square matrix with x [R] on its diagonal. */
export function diagonal(x: Tensor): Tensor {
  const index = arange(x.size);
  return mul(unsqueeze(x, 1), cast(equal(unsqueeze(index, 1), index), x.dtype));
}

/** Throws for a gradient that is zero everywhere: there is no direction to start in. */
async function requireSome(path: string, gradient: Tensor): Promise<void> {
  const largest = await scope(() => noGrad(() => max(abs(gradient))).item());
  if (largest === 0)
    throw new InvalidArgumentError(`lora-sb: the gradient of "${path}" is zero everywhere; expected data whose loss depends on it`);
}
