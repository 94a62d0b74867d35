import type { AdapterSet } from '../adapters/adapter-set.js';
import type { SaveAdapterOptions } from '../adapters/tuned.js';
import { InvalidArgumentError } from '../errors.js';
import type { LanguageModel } from '../model.js';
import { randomState, setRandomState } from '../random.js';
import type { TaskModel } from '../task-model.js';
import type { Tensor } from '../tensor.js';

/** Parameters to train of whatever model, and a way to save them. */
interface Trainable {
  readonly source: string;
  /** Names of the adapters that are trained. */
  readonly active: readonly string[];
  /** Options of each adapter, and where its random draws stand. */
  readonly adapters: Pick<AdapterSet, 'active' | 'get' | 'namedParameters' | 'randomState' | 'restoreRandomState'>;
  namedParameters(): Iterable<[string, Tensor]>;
  save(folder: string, options?: Pick<SaveAdapterOptions, 'name' | 'form'>): Promise<unknown>;
}

/** A language model with parameters to train and a way to save them; a `TunedModel` is one. */
export interface TrainableModel extends LanguageModel, Trainable {}

/** The same of an encoder with a head; a `TunedEncoder` is one. */
export interface TrainableEncoder extends TaskModel, Trainable {}

export type AnyTrainable = TrainableModel | TrainableEncoder;

/** What random draws are kept of. */
interface DrawingModel extends Pick<Trainable, 'active'> {
  readonly adapters: Pick<AdapterSet, 'randomState' | 'restoreRandomState'>;
}

/** Places of all random sources that a training step draws from. */
export interface DrawState {
  readonly environment: { readonly seed: string; readonly draws: number };
  readonly adapters: Readonly<Record<string, Readonly<Record<string, number>>>>;
}

export function drawState({ active, adapters }: DrawingModel): DrawState {
  const { seed, draws } = randomState();
  return {
    environment: { seed: String(seed), draws },
    adapters: Object.fromEntries(active.map((name) => [name, adapters.randomState(name)])),
  };
}

export function setDrawState({ active, adapters }: DrawingModel, state: DrawState): void {
  const { seed, draws } = state.environment;
  setRandomState({ seed: BigInt(seed), draws });
  for (const name of active) adapters.restoreRandomState(name, state.adapters[name] ?? {});
}

/** The tensors to train by name. Throws `InvalidArgumentError` when there are none. */
export function trainableOf(model: Pick<Trainable, 'namedParameters'>): Map<string, Tensor> {
  const found = new Map([...model.namedParameters()].filter(([, parameter]) => parameter.requiresGrad));
  if (found.size === 0) throw new InvalidArgumentError('train: the model has no parameters to train; attach an adapter and make it active');
  return found;
}

/** Drops whatever an interrupted step left on the parameters. */
export function resetGradients(model: Pick<Trainable, 'namedParameters'>): void {
  for (const [, parameter] of model.namedParameters()) if (parameter.requiresGrad) parameter.clearGrad();
}
