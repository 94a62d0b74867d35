import { AdapterError } from '../errors.js';
import type { ForwardContext, TaskId } from '../nn/context.js';
import type { Linear } from '../nn/linear.js';
import { tensor } from '../ops/create.js';
import { add, cast, mul } from '../ops/elementwise.js';
import { indexSelect } from '../ops/index-ops.js';
import { matmul } from '../ops/linalg.js';
import { lowRankLinear, type RowSegment, sgmv } from '../ops/lowrank.js';
import { contiguous, permute, reshape, select, transpose } from '../ops/shape.js';
import { RandomSource } from '../random.js';
import { isRecording, keep } from '../scope.js';
import type { Tensor } from '../tensor.js';
import { AdapterModule, type LayerCall, type LayerParameters, type MergeDetails } from './adapter.js';
import type { PolyAnnealing } from './poly-config.js';
import type { PolyRouter } from './poly-router.js';

export interface PolyOptions {
  /** alpha / rank. */
  readonly scale: number;
  /** See `PolyConfig`. */
  readonly branchWarmup: number;
  readonly annealing: PolyAnnealing | null;
  /** Where the draws of the gates come from. */
  readonly seed: number;
  readonly path: string;
}

/** The averaged factors of some tasks: A [n, K, R] and B [n, R, N]. */
interface Mixed {
  readonly a: Tensor;
  readonly b: Tensor;
}

/** The factors of one task as LoRA has them: A [R, K], B [N, R]. */
export interface TaskFactors {
  readonly a: Tensor;
  readonly b: Tensor;
}

/** Tasks whose factors are kept at most, where nothing is recorded. */
const kKept = 64;

/**
 * Poly and MHR on a linear layer: y += scale * (x A_t) B_t for a row of task t, where block q of A_t [K, R] is the average over the skills
 * s of A[q, s] with the weights w[t, q, s] of the router, and block q of B_t [R, N] that of B[q, s]. Factors are averaged, then multiplied.
 */
export class PolyLinear extends AdapterModule {
  /** [H, S, K / H, R]. */
  poly_lora_A: Tensor;
  /** [H, S, R, N / H]. */
  poly_lora_B: Tensor;
  readonly poly_router: PolyRouter;
  override readonly random: RandomSource;
  override readonly passes: RandomSource | undefined;
  readonly #options: PolyOptions;
  #factor = 1;
  /** Factors by task, and the tensors that they follow from with their versions. */
  #kept: { readonly sources: readonly Tensor[]; readonly versions: string; readonly factors: Map<TaskId, TaskFactors> } | undefined;

  constructor(a: Tensor, b: Tensor, router: PolyRouter, options: PolyOptions) {
    super();
    this.poly_lora_A = a;
    this.poly_lora_B = b;
    this.poly_router = router;
    this.#options = options;
    this.random = new RandomSource(options.seed, options.path);
    this.passes = options.branchWarmup > 0 || options.annealing !== null ? new RandomSource(0) : undefined;
  }

  get scale(): number {
    return this.#options.scale * this.#factor * this.warmth;
  }

  /** How far the branch has risen in training, from 0 to 1. */
  get warmth(): number {
    return this.#warmthAfter(this.passes?.draws ?? 0);
  }

  #warmthAfter(passes: number): number {
    const { branchWarmup } = this.#options;
    return branchWarmup === 0 ? 1 : Math.min(passes / branchWarmup, 1);
  }

  /** Which share of the weights is in equal parts in pass number `pass` of training, from 0. */
  #evenness(pass: number): number {
    const { annealing } = this.#options;
    if (annealing === null) return 0;
    const progress = Math.min(Math.max((pass + 1 - annealing.after) / annealing.passes, 0), 1);
    return progress === 1 ? 1 : 1 - Math.cos((progress * Math.PI) / 2);
  }

  /** Multiplies the configured scale; a later call replaces an earlier one. */
  override setScale(factor: number): void {
    this.#factor = factor;
  }

  override forward({ x, context, base, next, first }: LayerCall): Tensor {
    const tasks = this.#tasksOf(x, context);
    const training = context?.training ?? false;
    const pass = training ? this.passes?.place() : undefined;
    const scale = pass === undefined ? this.scale : this.#options.scale * this.#factor * this.#warmthAfter(pass + 1);
    const evenness = pass === undefined ? 0 : this.#evenness(pass);
    const distinct = [...new Set(tasks)];
    const drawn = this.poly_router.draws(training);
    // A checkpointed pass runs twice, recorded and not: both must take the same way.
    const learns = training || context?.checkpointing === true || isRecording();
    if (drawn || (learns && distinct.length > 1)) {
      const mixed = this.#mixed(drawn ? tasks : distinct, training, evenness);
      return this.#byRow(x, next(x), mixed, scale, drawn ? undefined : tasks.map((task) => distinct.indexOf(task)));
    }
    const adapters = this.#factorsOf(distinct, training, learns, evenness).map((factors) => ({ ...factors, scale }));
    const segments = segmentsOf(tasks, distinct, x.size / (x.shape.at(-1) ?? 1) / tasks.length);
    if (!first) return add(next(x), sgmv(x, adapters, segments));
    const { weight, bias } = base as Linear;
    return lowRankLinear(x, weight, { ...(bias === undefined ? {} : { bias }), adapters, segments });
  }

  /** The task of each row; rows of x are those of the batch, each repeated the same number of times. */
  #tasksOf(x: Tensor, context: ForwardContext | undefined): readonly TaskId[] {
    const tasks = context?.tasks ?? this.#onlyTask();
    const leading = x.shape[0] ?? 0;
    if (tasks.length === 0 || leading % tasks.length !== 0)
      throw new AdapterError(
        `poly: got the tasks of ${tasks.length} rows for a batch of ${leading} on "${this.#options.path}"; expected one a row`,
      );
    this.poly_router.check(tasks);
    return tasks;
  }

  #onlyTask(): readonly TaskId[] {
    const { tasks } = this.poly_router;
    if (tasks === 1) return [0];
    throw new AdapterError(
      `poly: "${this.#options.path}" is shared by ${tasks} tasks; got no task, expected the task of each row (tasks: [0, …] of forward, loss and logits, task of generate)`,
    );
  }

  /** The change of each row by its own factors: entry i of the batch has those of `index[i]`, or of i. */
  #byRow(x: Tensor, y: Tensor, { a, b }: Mixed, scale: number, index: readonly number[] | undefined): Tensor {
    const rows = index?.length ?? a.shape[0] ?? 1;
    const own = (factors: Tensor): Tensor =>
      index === undefined ? factors : indexSelect(factors, 0, tensor(BigInt64Array.from(index, BigInt)));
    const input = reshape(x.dtype === a.dtype ? x : cast(x, a.dtype), [rows, -1, x.shape.at(-1) ?? 1]);
    const change = mul(matmul(matmul(input, own(a)), own(b)), scale);
    return add(y, reshape(change.dtype === y.dtype ? change : cast(change, y.dtype), y.shape));
  }

  /** The averaged factors of n tasks. */
  #mixed(tasks: readonly TaskId[], training: boolean, evenness = 0): Mixed {
    const { poly_lora_A: a, poly_lora_B: b } = this;
    const [splits = 1, skills = 1, inputs = 1, rank = 1] = a.shape;
    const outputs = b.shape[3] ?? 1;
    const n = tasks.length;
    const weights = permute(this.poly_router.weights(tasks, training, this.random, evenness), [1, 0, 2]);
    // [H, n, S] times [H, S, size of a block]: one average for each block and task.
    const averaged = (factors: Tensor, block: readonly [number, number]): Tensor =>
      reshape(matmul(weights, reshape(factors, [splits, skills, block[0] * block[1]])), [splits, n, ...block]);
    return {
      a: reshape(permute(averaged(a, [inputs, rank]), [1, 0, 2, 3]), [n, splits * inputs, rank]),
      b: reshape(permute(averaged(b, [rank, outputs]), [1, 2, 0, 3]), [n, rank, splits * outputs]),
    };
  }

  /** The factors of one task as plain LoRA, on the tape. */
  factors(task: TaskId): TaskFactors {
    this.poly_router.check([task]);
    const { a, b } = this.#mixed([task], false);
    return asLora({ a, b }, 0);
  }

  #factorsOf(distinct: readonly TaskId[], training: boolean, learns: boolean, evenness: number): TaskFactors[] {
    if (learns) {
      const mixed = this.#mixed(distinct, training, evenness);
      return distinct.map((_, i) => asLora(mixed, i));
    }
    const kept = this.#keptFactors();
    const missing = distinct.filter((task) => !kept.has(task));
    if (kept.size + missing.length > kKept) this.#forget(kept);
    const absent = distinct.filter((task) => !kept.has(task));
    if (absent.length > 0) {
      const mixed = this.#mixed(absent, training);
      for (const [i, task] of absent.entries()) {
        const { a, b } = asLora(mixed, i);
        kept.set(task, { a: keep(a), b: keep(b) });
      }
    }
    return distinct.map((task) => kept.get(task) as TaskFactors);
  }

  #keptFactors(): Map<TaskId, TaskFactors> {
    const sources = [this.poly_lora_A, this.poly_lora_B, this.poly_router.module_logits];
    const versions = sources.map(({ version }) => version).join(' ');
    if (this.#kept?.versions !== versions || this.#kept.sources.some((source, i) => source !== sources[i])) {
      if (this.#kept !== undefined) this.#forget(this.#kept.factors);
      this.#kept = { sources, versions, factors: new Map() };
    }
    return this.#kept.factors;
  }

  #forget(factors: Map<TaskId, TaskFactors>): void {
    for (const { a, b } of factors.values()) {
      a.dispose();
      b.dispose();
    }
    factors.clear();
  }

  override merge(_pristine: LayerParameters, merged: LayerParameters, { task }: MergeDetails = {}): LayerParameters {
    if (task === undefined && this.poly_router.tasks > 1)
      throw new AdapterError(
        `merge: "${this.#options.path}" is shared by ${this.poly_router.tasks} tasks, and weights are of one; got no task, expected task: 0 to ${this.poly_router.tasks - 1}, or "mean"`,
      );
    const { a, b } = this.factors(task ?? 0);
    return { ...merged, weight: add(merged.weight as Tensor, mul(matmul(b, a), this.scale)) };
  }

  override dispose(): void {
    super.dispose();
    if (this.#kept !== undefined) this.#forget(this.#kept.factors);
  }
}

/** Entry i as LoRA has it. */
const asLora = ({ a, b }: Mixed, i: number): TaskFactors => ({
  a: contiguous(transpose(select(a, 0, i))),
  b: contiguous(transpose(select(b, 0, i))),
});

/** Neighbouring rows of one task together, `perRow` rows of the product for each. */
function segmentsOf(tasks: readonly TaskId[], distinct: readonly TaskId[], perRow: number): RowSegment[] {
  const segments: RowSegment[] = [];
  for (const [row, task] of tasks.entries()) {
    const adapter = distinct.indexOf(task);
    const last = segments.at(-1);
    if (last?.adapters[0] === adapter) segments[segments.length - 1] = { ...last, end: (row + 1) * perRow };
    else segments.push({ start: row * perRow, end: (row + 1) * perRow, adapters: [adapter] });
  }
  return segments;
}
