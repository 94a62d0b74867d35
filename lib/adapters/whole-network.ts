import { AdapterError } from '../errors.js';
import type { RowAdapters } from '../nn/context.js';
import type { Module } from '../nn/module.js';
import { TokenNetwork, type VirtualTokenSource, type VirtualTokens } from '../nn/virtual-tokens.js';
import { cast } from '../ops/elementwise.js';
import { concat } from '../ops/join.js';
import type { Tensor } from '../tensor.js';
import type { Activation } from './adapted-layer.js';
import type { AdapterModule, Placement } from './adapter.js';

/** The path of what belongs to the whole network. */
export const kWhole = '';

/** What targets call the network itself, with the tensors that it holds in no layer. */
export const kItself = '.';

/** The name of a tensor in the model: below the path of its layer, by itself where it belongs to the whole network. */
export const nameOf = (path: string, end: string): string => (path === kWhole ? end : `${path}.${end}`);

/** Throws `AdapterError` where adapters that are to be merged put virtual tokens in front of the whole network: no weight can take them up. */
export function refuseWhole(placements: readonly Placement[]): void {
  const whole = placements.find(({ path, module }) => path === kWhole && module.replaces === undefined);
  if (whole !== undefined)
    throw new AdapterError(`merge: the adapter of the whole network (${whole.module.constructor.name}) cannot be folded into weights`);
}

/**
 * Adapter modules that belong to a whole network rather than to one of its layers: their virtual tokens stand in front of its rows, or their tensors for those that
 * it holds itself. Owns them.
 */
export class WholeNetwork implements VirtualTokenSource {
  readonly base: Module;
  readonly #activation: Activation;
  readonly #adapters = new Map<string, readonly AdapterModule[]>();

  private constructor(network: Module, activation: Activation) {
    this.base = network;
    this.#activation = activation;
  }

  /** Those that a network has, if it has any. */
  static of(network: Module): WholeNetwork | undefined {
    const present = network instanceof TokenNetwork ? network.virtualTokens : undefined;
    return present instanceof WholeNetwork ? present : undefined;
  }

  /** Those of a network, made where there are none. Throws `AdapterError` for a network that does not look for virtual tokens. */
  static on(network: Module, activation: Activation): WholeNetwork {
    if (!(network instanceof TokenNetwork))
      throw new AdapterError(
        `adapter: ${network.constructor.name} does not look for virtual tokens; expected a language model or an encoder of tokens`,
      );
    const present = WholeNetwork.of(network);
    if (present !== undefined) return present;
    const made = new WholeNetwork(network, activation);
    network.virtualTokens = made;
    return made;
  }

  add(name: string, module: AdapterModule): void {
    if (module.virtual === undefined && module.replaces === undefined)
      throw new AdapterError(
        `adapter: ${module.constructor.name} has neither virtual tokens nor tensors for a whole network; expected the path of a layer`,
      );
    this.#adapters.set(name, [...this.adaptersOf(name), module]);
  }

  /** Takes the modules of an adapter off `network` and disposes them. */
  static remove(network: Module, name: string): void {
    const whole = WholeNetwork.of(network);
    if (whole === undefined) return;
    for (const module of whole.adaptersOf(name)) module.dispose();
    whole.#adapters.delete(name);
    if (whole.#adapters.size === 0) delete (network as TokenNetwork).virtualTokens;
  }

  adaptersOf(name: string): readonly AdapterModule[] {
    return this.#adapters.get(name) ?? [];
  }

  get all(): readonly VirtualTokens[] {
    return [...this.#adapters.values()].flatMap(virtualOf);
  }

  of(rows: RowAdapters | undefined, batch: number): readonly (readonly VirtualTokens[])[] {
    const tokensOf = (names: readonly string[]): VirtualTokens[] => virtualOf(this.#modulesOf(names));
    if (rows !== undefined) return this.#activation.routed(rows).map(tokensOf);
    return new Array<readonly VirtualTokens[]>(batch).fill(tokensOf(this.#activation.running));
  }

  #modulesOf(names: readonly string[]): AdapterModule[] {
    return names.flatMap((name) => this.adaptersOf(name));
  }

  /** The tensor of the last adapter that has one, in the dtype of the network's own. */
  held(name: string, value: Tensor, rows: RowAdapters | undefined): Tensor {
    const heldBy = (names: readonly string[]): Tensor =>
      this.#modulesOf(names).reduce((found, module) => module.replaces?.()[name] ?? found, value);
    const own = (rows === undefined ? [this.#activation.running] : this.#activation.routed(rows)).map(heldBy);
    const wide = own.map((each) => (each.dtype === value.dtype ? each : cast(each, value.dtype)));
    return own.every((each) => each === own[0]) ? (wide[0] ?? value) : concat(wide, 0);
  }
}

const virtualOf = (modules: readonly AdapterModule[]): VirtualTokens[] => modules.flatMap((module) => module.virtual?.() ?? []);
