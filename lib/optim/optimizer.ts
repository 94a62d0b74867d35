import { kDtypeBytes } from '../dtype.js';
import { InvalidArgumentError } from '../errors.js';
import { op } from '../native.js';
import { zeros } from '../ops/create.js';
import { clone } from '../ops/elementwise.js';
import { copyInto } from '../ops/shape.js';
import { keep, noGrad, unscoped } from '../scope.js';
import type { DType, Tensor } from '../tensor.js';
import { type Group, type ParameterGroup, readGroups } from './parameter-groups.js';

const haveGradientsOp = op('haveGradients');
const clearGradientsOp = op('clearGradients');

export interface StepOptions {
  /** One number as a tensor (f32 or f64): factor of every gradient, applied as it is read. See `clipScale`. */
  readonly clipScale?: Tensor;
  /** Factor of every group's learning rate in this step: what a schedule returns. Default 1. */
  readonly rateFactor?: number;
}

/** All that an optimizer remembers, as tensors (ready for a safetensors file) and plain numbers (ready for JSON). */
export interface OptimizerState {
  readonly kind: string;
  /** Named `<parameter index>.<state name>`, parameters counted over all groups in order. */
  readonly tensors: Readonly<Record<string, Tensor>>;
  /** Steps made by each parameter. */
  readonly steps: readonly number[];
  readonly groups: readonly { readonly name: string; readonly settings: object }[];
}

/** What belongs to one parameter. States appear with its first gradient. */
export interface Slot {
  readonly parameter: Tensor;
  step: number;
  states: Tensor[];
}

/** A state of a parameter that is not there yet: all zeros. */
export interface StateSpec {
  readonly name: string;
  readonly shape: readonly number[];
  readonly dtype: DType;
}

/**
 * Base of the optimizers: groups, states, saving. Parameters without a gradient are left alone in a step. States are made with a parameter's first gradient, and owned by the optimizer until `dispose()`.
 */
export abstract class Optimizer<Settings extends object> {
  abstract readonly kind: string;
  /** The states of a parameter under the settings of its group. */
  protected abstract statesOf(parameter: Tensor, settings: Settings): readonly StateSpec[];
  /** Changes the parameters of one group: those that have a gradient in this step. */
  protected abstract update(slots: readonly Slot[], settings: Settings, options: StepOptions): void;

  /** The groups in order; their settings may be changed between steps. */
  readonly groups: readonly Group<Settings>[];
  readonly #slots: readonly (readonly Slot[])[];

  protected constructor(
    op: string,
    parameters: Iterable<Tensor> | Iterable<ParameterGroup<Settings>>,
    defaults: Settings,
    check: (settings: Settings, name: string) => void,
  ) {
    this.groups = readGroups(op, parameters, defaults, check);
    this.#slots = this.groups.map((group) => group.parameters.map((parameter) => ({ parameter, step: 0, states: [] })));
  }

  /** One update from the gradients collected in `grad`. Queued like any op; nothing is read back. */
  step(options: StepOptions = {}): void {
    this.groups.forEach((group, i) => {
      const all = this.#slots[i] as readonly Slot[];
      const have = haveGradientsOp(all.map(({ parameter }) => parameter.handle));
      const slots = all.filter((_, j) => have[j]);
      if (slots.length === 0) return;
      for (const slot of slots) {
        slot.step++;
        if (slot.states.length === 0)
          slot.states = this.statesOf(slot.parameter, group.settings).map((spec) => newState(spec, slot.parameter));
      }
      this.update(slots, group.settings, options);
    });
  }

  /** Drops the gradients of all parameters. */
  zeroGrad(): void {
    clearGradientsOp(this.groups.flatMap(({ parameters }) => parameters.map(({ handle }) => handle)));
  }

  /** Bytes of the states once every parameter has had a gradient. */
  get stateBytes(): number {
    const specs = this.groups.flatMap(({ parameters, settings }) => parameters.flatMap((parameter) => this.statesOf(parameter, settings)));
    return specs.reduce((sum, { shape, dtype }) => sum + shape.reduce((size, length) => size * length, 1) * kDtypeBytes[dtype], 0);
  }

  /** A copy of everything remembered, as of the steps queued so far; its tensors belong to the caller. */
  state(): OptimizerState {
    const tensors: Record<string, Tensor> = {};
    const slots = this.#slots.flat();
    this.#eachState((name, state) => {
      tensors[name] = noGrad(() => clone(state));
    });
    return {
      kind: this.kind,
      tensors,
      steps: slots.map((slot) => slot.step),
      groups: this.groups.map(({ name, settings }) => ({ name, settings: { ...settings } })),
    };
  }

  /** Goes back to a state of {@link state}: same groups of the same parameters. The given tensors are copied. Throws `InvalidArgumentError`, and changes nothing, for one that does not fit. */
  loadState(state: OptimizerState): void {
    const slots = this.#slots.flat();
    if (state.kind !== this.kind)
      throw new InvalidArgumentError(`${this.kind}: this state belongs to another optimizer; got "${state.kind}"`);
    if (state.steps.length !== slots.length || state.groups.length !== this.groups.length) {
      throw new InvalidArgumentError(
        `${this.kind}: the state does not fit; got ${state.steps.length} parameters in ${state.groups.length} groups, expected ${slots.length} in ${this.groups.length}`,
      );
    }
    const groups = state.groups.map(({ settings }, i) => ({ ...this.groups[i]?.settings, ...settings }) as Settings);
    const states = slots.map((slot, i) => {
      if (state.steps[i] === 0) return [];
      return this.statesOf(slot.parameter, groups[this.#groupOf(i)] as Settings).map((spec) => ({
        spec,
        given: this.#fitting(state, `${i}.${spec.name}`, spec),
      }));
    });
    // From here on nothing fails.
    this.groups.forEach((group, i) => {
      Object.assign(group.settings, groups[i]);
    });
    slots.forEach((slot, i) => {
      slot.step = state.steps[i] as number;
      for (const old of slot.states) old.dispose();
      slot.states = (states[i] ?? []).map(({ spec, given }) => {
        const own = newState(spec, slot.parameter);
        copyInto(own, given);
        return own;
      });
    });
  }

  /** The tensor of a state. Throws `InvalidArgumentError` where there is none of the wanted shape and dtype. */
  #fitting({ tensors }: OptimizerState, name: string, { shape, dtype }: StateSpec): Tensor {
    const given = tensors[name];
    if (!given) throw new InvalidArgumentError(`${this.kind}: the state lacks the tensor "${name}"`);
    if (given.shape.join() === shape.join() && given.dtype === dtype) return given;
    throw new InvalidArgumentError(
      `${this.kind}: "${name}" is of another kind; got ${given.dtype} [${given.shape.join(', ')}], expected ${dtype} [${shape.join(', ')}]`,
    );
  }

  /** Releases the states. The parameters are the caller's. */
  dispose(): void {
    for (const slot of this.#slots.flat()) {
      for (const state of slot.states) state.dispose();
      slot.states = [];
    }
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  /** The number of the group of a parameter. */
  #groupOf(parameter: number): number {
    let first = 0;
    for (const [i, group] of this.groups.entries()) {
      first += group.parameters.length;
      if (parameter < first) return i;
    }
    throw new InvalidArgumentError(`${this.kind}: no parameter ${parameter}`);
  }

  #eachState(visit: (name: string, state: Tensor) => void): void {
    this.#slots.flat().forEach((slot, i) => {
      const specs = this.statesOf(slot.parameter, (this.groups[this.#groupOf(i)] as Group<Settings>).settings);
      for (const [j, state] of slot.states.entries()) visit(`${i}.${specs[j]?.name}`, state);
    });
  }
}

/** States of the parameter's shape under these names, in f32 (f64 for f64 parameters). */
export function likeParameter(parameter: Tensor, names: readonly string[]): StateSpec[] {
  const dtype = parameter.dtype === 'f64' ? 'f64' : 'f32';
  return names.map((name) => ({ name, shape: parameter.shape, dtype }));
}

function newState({ shape, dtype }: StateSpec, { device }: Tensor): Tensor {
  return unscoped(() => keep(zeros(shape, { dtype, device })));
}
