import { AdapterError } from '../errors.js';
import type { TaskId } from '../nn/context.js';
import { Module } from '../nn/module.js';
import { full, tensor, uniform } from '../ops/create.js';
import { dropout } from '../ops/dropout.js';
import { add, clamp, div, equal, log, mul, neg, round, sigmoid, sqrt, square, sub, where } from '../ops/elementwise.js';
import { embedding } from '../ops/index-ops.js';
import { concat } from '../ops/join.js';
import { sum } from '../ops/reduce.js';
import { narrow, reshape } from '../ops/shape.js';
import type { RandomSource } from '../random.js';
import { noGrad } from '../scope.js';
import type { Tensor } from '../tensor.js';
import type { PolyConfig } from './poly-config.js';

export type RouterSettings = Pick<PolyConfig, 'skills' | 'splits' | 'gates' | 'gateDropout' | 'sharedSkill' | 'averageCorrection'>;

/** Keeps the weights finite where every gate is zero. */
const kEpsilon = 1e-12;
/** Uniform numbers stay so far from 0 and 1 that their logits are finite. */
const kMargin = 1e-7;

/** Logits Z [T, H * S], and the weights of the skills that follow from them. */
export class PolyRouter extends Module {
  /** Z; in a checkpoint its name is that of PEFT. */
  module_logits: Tensor;
  readonly settings: RouterSettings;
  /** Whether every skill counts the same, whatever the task. */
  readonly isMean: boolean;

  constructor(logits: Tensor, settings: RouterSettings, isMean = false) {
    super();
    this.module_logits = logits;
    this.settings = settings;
    this.isMean = isMean;
  }

  /** T. */
  get tasks(): number {
    return this.module_logits.shape[0] ?? 0;
  }

  /** Throws `AdapterError` unless there is a weight for each of these tasks. */
  check(tasks: readonly TaskId[]): void {
    const wrong = tasks.find((task) => task !== 'mean' && !(Number.isInteger(task) && task >= 0 && task < this.tasks));
    if (wrong !== undefined)
      throw new AdapterError(`poly: there is no such task; got ${wrong}, expected 0 to ${this.tasks - 1}, or "mean"`);
  }

  /** Whether weights are drawn anew for each row. */
  draws(training: boolean): boolean {
    return training && !this.isMean && (this.settings.gates === 'relaxed' || this.settings.gateDropout > 0);
  }

  /** Weights [n, H, S] of the skills for n tasks; where they are drawn, for each entry by itself. `evenness`: which share of them is in equal parts. */
  weights(tasks: readonly TaskId[], training: boolean, random: RandomSource, evenness = 0): Tensor {
    const { skills, splits } = this.settings;
    const { dtype } = this.module_logits;
    const even = (rows: number): Tensor => full([rows, splits, skills], 1 / skills, { dtype });
    if (this.isMean || tasks.every((task) => task === 'mean')) return even(tasks.length);
    const ids = BigInt64Array.from(tasks, (task) => BigInt(task === 'mean' ? 0 : task));
    const logits = reshape(embedding(this.module_logits, tensor(ids)), [tasks.length, splits, skills]);
    const own = this.#weightsOf(logits, training, random);
    const routed = evenness === 0 ? own : add(mul(own, 1 - evenness), evenness / skills);
    if (!tasks.includes('mean')) return routed;
    const isMean = tensor(
      tasks.map((task) => (task === 'mean' ? 1 : 0)),
      { shape: [tasks.length, 1, 1] },
    );
    return where(equal(isMean, 1), even(1), routed);
  }

  #weightsOf(logits: Tensor, training: boolean, random: RandomSource): Tensor {
    const { skills, splits, gates, gateDropout, sharedSkill, averageCorrection } = this.settings;
    if (gates === 'l2') return div(logits, add(sqrt(sum(square(logits), -1, { keepDim: true })), kEpsilon));
    let gate = gates === 'relaxed' && training ? sigmoid(add(logits, logistic(logits, random))) : sigmoid(logits);
    if (gates === 'straight-through') {
      const soft = gate;
      gate = add(
        soft,
        noGrad(() => sub(round(soft), soft)),
      );
    }
    if (training && gateDropout > 0) gate = dropout(gate, gateDropout, random.next());
    if (sharedSkill) {
      const always = full([gate.shape[0] ?? 0, splits, 1], 1, { dtype: gate.dtype });
      gate = skills === 1 ? always : concat([narrow(gate, 2, 0, skills - 1), always], 2);
    }
    return averageCorrection ? mul(gate, Math.sqrt(splits / skills)) : div(gate, add(sum(gate, -1, { keepDim: true }), kEpsilon));
  }
}

/** Draws log u - log(1 - u), the noise that makes sigmoid a sample of a relaxed Bernoulli variable at temperature 1. */
function logistic({ shape, dtype }: Tensor, random: RandomSource): Tensor {
  const u = clamp(uniform(shape, { dtype, ...random.next() }), kMargin, 1 - kMargin);
  return sub(log(u), log(add(neg(u), 1)));
}
