import { permutation } from '../data/shuffle.js';
import { ConfigError } from '../errors.js';
import { customGrad } from '../gradient.js';
import { parameter } from '../nn/init.js';
import { Module, ModuleList } from '../nn/module.js';
import { ones, tensor, zeros } from '../ops/create.js';
import { add, cast, clone, div, equal, mul, where } from '../ops/elementwise.js';
import { mean, sum } from '../ops/reduce.js';
import { select } from '../ops/shape.js';
import { maskedUpdate, topKMask } from '../ops/sparse.js';
import { noGrad, unscoped } from '../scope.js';
import type { Tensor } from '../tensor.js';

/**
 * What a tensor of n experts becomes after training, from the values V that they own and the common start W0: `mean` the mean of the
 * experts, (V + (n - 1) W0) / n; `joint` V / n; `sum` V.
 */
export type ExpertMerge = 'mean' | 'joint' | 'sum';

/** One tensor in n versions, of which a pass takes one. */
export abstract class ExpertValues extends Module {
  /** Version `index`, on the tape. */
  abstract expert(index: number): Tensor;
  /** All versions in one, of the same shape. */
  abstract merged(merge: ExpertMerge): Tensor;
}

/** How many of `size` entries expert `index` owns: the counts differ by 1 at most. */
export function ownedCount(size: number, experts: number, index: number): number {
  return Math.floor(((index + 1) * size) / experts) - Math.floor((index * size) / experts);
}

/** The expert that owns each entry, u8 of that shape: entries in a random order, cut into n runs. The same on every machine. */
export function ownerMap(shape: readonly number[], experts: number, { seed, stream }: { seed: number; stream: number }): Tensor {
  const size = shape.reduce((product, length) => product * length, 1);
  const owners = new Uint8Array(size);
  let [owner, end] = [0, ownedCount(size, experts, 0)];
  for (const [rank, entry] of permutation(size, seed, stream).entries()) {
    while (rank >= end) {
      owner++;
      end += ownedCount(size, experts, owner);
    }
    owners[entry] = owner;
  }
  return unscoped(() => tensor(owners, { shape: [...shape] }));
}

/**
 * decay * start; the gradient of decay is zero, so that an optimizer with weight decay shrinks it as it shrinks entries that nothing else
 * moves.
 */
function decayed(start: Tensor, decay: Tensor): Tensor {
  return customGrad(
    [decay],
    (factor) => mul(start, factor),
    () => [zeros([1], { dtype: decay.dtype })],
  )[0] as Tensor;
}

const one = (like: Tensor): Tensor => parameter(() => ones([1], { dtype: like.dtype }));

/** How a tensor is split. */
export interface SplitOptions {
  readonly experts: number;
  readonly seed: number;
  /** Number of the random sequence of the owner map. */
  readonly stream: number;
  /** Entries that nobody owns in a version keep their first values; otherwise they are zero, as those values are. */
  readonly keepsStart: boolean;
}

/**
 * The own-value form of n copies of a tensor that each train the entries they own: V holds what each entry is in the version that owns it,
 * W0 what it is in all others. Every step of an optimizer moves V whole, with a gradient of zero where no version that ran owns an entry,
 * as if each copy were stepped.
 */
export class OwnValues extends ExpertValues {
  /** V. */
  readonly values: Tensor;
  /** u8, of the shape of V. */
  readonly owner: Tensor;
  /** W0 as it began; absent where it is zero. */
  readonly start?: Tensor;
  /** [1], by which weight decay has shrunk W0. */
  readonly decay?: Tensor;
  readonly #experts: number;

  /** Takes `values` over, a tensor to train. */
  constructor(values: Tensor, { experts, seed, stream, keepsStart }: SplitOptions) {
    super();
    this.#experts = experts;
    this.values = values;
    this.owner = ownerMap(values.shape, experts, { seed, stream });
    if (!keepsStart) return;
    this.start = startOf(values);
    this.decay = one(values);
  }

  get #others(): Tensor | number {
    return this.start === undefined || this.decay === undefined ? 0 : decayed(this.start, this.decay);
  }

  override expert(index: number): Tensor {
    return where(equal(this.owner, index), this.values, this.#others);
  }

  override merged(merge: ExpertMerge): Tensor {
    const n = this.#experts;
    if (merge === 'sum') return clone(this.values);
    if (merge === 'joint' || this.start === undefined) return div(this.values, n);
    return div(add(this.values, mul(this.#others, n - 1)), n);
  }
}

const startOf = (values: Tensor): Tensor => unscoped(() => noGrad(() => clone(values)));

/** What one version owns, one entry after the other. */
class OwnedPart extends Module {
  readonly values: Tensor;
  readonly decay?: Tensor;

  constructor(values: Tensor, decay?: Tensor) {
    super();
    this.values = values;
    if (decay !== undefined) this.decay = decay;
  }
}

/**
 * Like `OwnValues`, with the values of each version in a tensor of its own: an optimizer skips those of versions that did not run in a
 * step.
 */
export class OwnValuesApart extends ExpertValues {
  readonly part: ModuleList<OwnedPart>;
  readonly owner: Tensor;
  readonly start?: Tensor;

  /** Takes `values` over. They are all W0 or all zero, so the parts begin as cuts of them. */
  constructor(values: Tensor, { experts, seed, stream, keepsStart }: SplitOptions) {
    super();
    this.owner = ownerMap(values.shape, experts, { seed, stream });
    const owners = this.owner.dataSync() as Uint8Array;
    const numbers = values.dataSync() as Float32Array | Float64Array;
    this.part = new ModuleList(
      Array.from({ length: experts }, (_, index) => {
        const own = parameter(() =>
          tensor(
            numbers.filter((_value, entry) => owners[entry] === index),
            { dtype: values.dtype },
          ),
        );
        return new OwnedPart(own, keepsStart ? one(values) : undefined);
      }),
    );
    if (keepsStart) this.start = startOf(values);
    values.dispose();
  }

  #put(into: Tensor, index: number): Tensor {
    const { values } = this.part.at(index);
    return maskedUpdate(into, topKMask(cast(equal(this.owner, index), 'f32'), values.size), values);
  }

  override expert(index: number): Tensor {
    const { values, decay } = this.part.at(index);
    const { start } = this;
    const others = start === undefined || decay === undefined ? zeros(this.owner.shape, { dtype: values.dtype }) : decayed(start, decay);
    return this.#put(others, index);
  }

  override merged(merge: ExpertMerge): Tensor {
    const n = this.part.length;
    const each = Array.from({ length: n }, (_, index) => index);
    if (merge === 'mean')
      return div(
        each.map((index) => this.expert(index)).reduce((total, version) => add(total, version)),
        n,
      );
    const own = each.reduce((whole, index) => this.#put(whole, index), zeros(this.owner.shape, { dtype: this.part.at(0).values.dtype }));
    return merge === 'sum' ? own : div(own, n);
  }
}

/** n whole copies of a small tensor, a bias: [n, size]. `joint` is their mean, `sum` their sum. */
export class Copies extends ExpertValues {
  readonly values: Tensor;

  /** Begins at zero. */
  constructor(experts: number, like: Tensor) {
    super();
    this.values = parameter(() => zeros([experts, ...like.shape], { dtype: like.dtype }));
  }

  override expert(index: number): Tensor {
    return select(this.values, 0, index);
  }

  override merged(merge: ExpertMerge): Tensor {
    return merge === 'sum' ? sum(this.values, 0) : mean(this.values, 0);
  }
}

/** Like `Copies`, each in a tensor of its own. */
export class CopiesApart extends ExpertValues {
  readonly part: ModuleList<OwnedPart>;

  constructor(experts: number, like: Tensor) {
    super();
    const zero = (): Tensor => parameter(() => zeros(like.shape, { dtype: like.dtype }));
    this.part = new ModuleList(Array.from({ length: experts }, () => new OwnedPart(zero())));
  }

  override expert(index: number): Tensor {
    return this.part.at(index).values;
  }

  override merged(merge: ExpertMerge): Tensor {
    const total = [...this.part].map(({ values }) => values).reduce((all, values) => add(all, values));
    return merge === 'sum' ? clone(total) : div(total, this.part.length);
  }
}

/** Throws `ConfigError` where a tensor has fewer entries than there are experts. */
export function requireEntries(name: string, size: number, experts: number): void {
  if (size < experts)
    throw new ConfigError(`mosa: "${name}" cannot be split; got ${size} entries for ${experts} experts, expected at least one each`);
}
