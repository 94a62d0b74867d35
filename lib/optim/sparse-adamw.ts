import { InvalidArgumentError } from '../errors.js';
import { op } from '../native.js';
import { zeros } from '../ops/create.js';
import { clone } from '../ops/elementwise.js';
import { maskedGather, maskedUpdate } from '../ops/sparse.js';
import { keep, noGrad, scope, unscoped } from '../scope.js';
import type { Tensor } from '../tensor.js';
import { type AdamWOptions, type AdamWSettings, checkAdamWSettings, stepAdamW } from './adamw.js';
import { likeParameter, Optimizer, type OptimizerState, type Slot, type StateSpec, type StepOptions } from './optimizer.js';
import type { ParameterGroup } from './parameter-groups.js';

const maskedAdamwStepOp = op('maskedAdamwStep');

/** Which entries of a parameter are trained: a bitmask or an index list (see `topKMask`), and how many they are. */
export interface ParameterMask {
  readonly mask: Tensor;
  readonly count: number;
}

const kMask = 'mask';

/**
 * AdamW on the entries that masks own: the others keep their bits, whatever their gradient and the decay, and owned ones get the bits of `AdamW`. Moments are
 * kept of the owned entries alone, so memory is proportional to those. Parameters without a mask are trained whole. The masks are copied, belong to `state()`, and
 * come back with `loadState`, which may bring others.
 *
 * ```ts
 * const mask = topKMask(difference, 1000);
 * const optimizer = new SparseAdamW([weight], new Map([[weight, { mask, count: 1000 }]]), { learningRate: 1e-3 });
 * ```
 *
 * Throws `InvalidArgumentError` for a mask of a tensor that is no parameter. A mask that owns another number of entries than `count` fails when the first step runs.
 */
export class SparseAdamW extends Optimizer<AdamWSettings> {
  readonly kind = 'sparse-adamw';
  #masks: Map<Tensor, ParameterMask>;

  constructor(
    parameters: Iterable<Tensor> | Iterable<ParameterGroup<AdamWSettings>>,
    masks: ReadonlyMap<Tensor, ParameterMask>,
    options: AdamWOptions = {},
  ) {
    const { learningRate = 1e-3, betas = [0.9, 0.999], eps = 1e-8, weightDecay = 0.01 } = options;
    super('SparseAdamW', parameters, { learningRate, betas, eps, weightDecay }, (settings, group) =>
      checkAdamWSettings('SparseAdamW', settings, group),
    );
    const known = new Set(this.#parameters());
    for (const parameter of masks.keys()) {
      if (!known.has(parameter))
        throw new InvalidArgumentError(`SparseAdamW: a mask is of no parameter; got one for a tensor [${parameter.shape.join(', ')}]`);
    }
    this.#masks = new Map([...masks].map(([parameter, { mask, count }]) => [parameter, { mask: owned(mask), count }]));
  }

  #parameters(): Tensor[] {
    return this.groups.flatMap(({ parameters }) => [...parameters]);
  }

  /** Entries that are trained. */
  get trainedEntries(): number {
    return this.#parameters().reduce((total, parameter) => total + (this.#masks.get(parameter)?.count ?? parameter.size), 0);
  }

  /** Sets the gradient of what the masks do not own to zero: for norms, and clipping, of the owned entries alone. */
  maskGradients(): void {
    for (const [parameter, { mask, count }] of this.#masks) {
      const { grad } = parameter;
      if (grad === null || grad === undefined) continue;
      const masked = unscoped(() =>
        scope(() => noGrad(() => maskedUpdate(zeros(grad.shape, { dtype: grad.dtype }), mask, maskedGather(grad, mask, count)))),
      );
      parameter.setGrad(masked);
      masked.dispose();
    }
  }

  protected statesOf(parameter: Tensor): readonly StateSpec[] {
    const whole = likeParameter(parameter, ['firstMoment', 'secondMoment']);
    const mask = this.#masks.get(parameter);
    return mask === undefined ? whole : whole.map((spec) => ({ ...spec, shape: [mask.count] }));
  }

  protected update(slots: readonly Slot[], settings: AdamWSettings, options: StepOptions): void {
    const whole = slots.filter(({ parameter }) => !this.#masks.has(parameter));
    const masked = slots.filter(({ parameter }) => this.#masks.has(parameter));
    if (whole.length > 0) stepAdamW(whole, settings, options);
    if (masked.length > 0) this.#stepMasked(masked, settings, options);
  }

  #stepMasked(slots: readonly Slot[], settings: AdamWSettings, { clipScale, rateFactor = 1 }: StepOptions): void {
    maskedAdamwStepOp(
      slots.map(({ parameter }) => parameter.handle),
      slots.map(({ parameter }) => (this.#masks.get(parameter) as ParameterMask).mask.handle),
      slots.map(({ states }) => (states[0] as Tensor).handle),
      slots.map(({ states }) => (states[1] as Tensor).handle),
      slots.map(({ step }) => step),
      settings.learningRate * rateFactor,
      settings.betas[0],
      settings.betas[1],
      settings.eps,
      settings.weightDecay,
      clipScale?.handle,
    );
  }

  override state(): OptimizerState {
    const { tensors, ...numbers } = super.state();
    const masks = this.#parameters().flatMap((parameter, i) => {
      const own = this.#masks.get(parameter);
      return own === undefined ? [] : [[`${i}.${kMask}`, noGrad(() => clone(own.mask))] as const];
    });
    return { ...numbers, tensors: { ...tensors, ...Object.fromEntries(masks) } };
  }

  override loadState(state: OptimizerState): void {
    const before = this.#masks;
    const given = state.kind === this.kind ? this.#masksOf(state) : before;
    const next = new Map([...given].map(([parameter, { mask, count }]) => [parameter, { mask: owned(mask), count }]));
    // The sizes of the moments follow from the masks.
    this.#masks = next;
    try {
      super.loadState(state);
    } catch (error) {
      this.#masks = before;
      for (const { mask } of next.values()) mask.dispose();
      throw error;
    }
    for (const { mask } of before.values()) mask.dispose();
  }

  /** The masks of a state, still its own. Throws `InvalidArgumentError` for those that do not fit the parameters. */
  #masksOf({ tensors }: OptimizerState): Map<Tensor, ParameterMask> {
    const masks = new Map<Tensor, ParameterMask>();
    for (const [i, parameter] of this.#parameters().entries()) {
      const mask = tensors[`${i}.${kMask}`];
      const before = this.#masks.get(parameter);
      if ((mask === undefined) !== (before === undefined))
        throw new InvalidArgumentError(`SparseAdamW: the state has ${mask ? 'a' : 'no'} mask for parameter ${i}; expected the opposite`);
      if (mask === undefined || before === undefined) continue;
      const count = tensors[`${i}.firstMoment`]?.size ?? before.count;
      const size = mask.dtype === 'i32' ? count : Math.ceil(parameter.size / 8);
      if (mask.rank !== 1 || mask.size !== size || (mask.dtype !== 'i32' && mask.dtype !== 'u8'))
        throw new InvalidArgumentError(
          `SparseAdamW: the mask of parameter ${i} does not fit it and its moments; got ${mask.dtype} [${mask.shape.join(', ')}], expected i32 [${count}] or u8 [${Math.ceil(parameter.size / 8)}]`,
        );
      masks.set(parameter, { mask, count });
    }
    return masks;
  }

  override dispose(): void {
    super.dispose();
    for (const { mask } of this.#masks.values()) mask.dispose();
    this.#masks.clear();
  }
}

const owned = (mask: Tensor): Tensor => unscoped(() => keep(noGrad(() => clone(mask))));
