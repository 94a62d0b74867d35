import { AdapterError } from '../errors.js';
import type { RowAdapters } from '../nn/context.js';
import type { Module } from '../nn/module.js';
import { TokenNetwork, type VirtualTokenSource, type VirtualTokens } from '../nn/virtual-tokens.js';
import type { Activation } from './adapted-layer.js';
import type { AdapterModule, Placement } from './adapter.js';

/** The path of what belongs to the whole network. */
export const kWhole = '';

/** The name of a tensor in the model: below the path of its layer, by itself where it belongs to the whole network. */
export const nameOf = (path: string, end: string): string => (path === kWhole ? end : `${path}.${end}`);

/** Throws `AdapterError` where adapters that are to be merged belong to the whole network: no weight can take them up. */
export function refuseWhole(placements: readonly Placement[]): void {
  const whole = placements.find(({ path }) => path === kWhole);
  if (whole !== undefined)
    throw new AdapterError(`merge: the adapter of the whole network (${whole.module.constructor.name}) cannot be folded into weights`);
}

/** Adapter modules that belong to a whole network rather than to one of its layers: their virtual tokens stand in front of its rows. Owns them. */
export class WholeNetwork implements VirtualTokenSource {
  readonly #activation: Activation;
  readonly #adapters = new Map<string, readonly AdapterModule[]>();

  private constructor(activation: Activation) {
    this.#activation = activation;
  }

  /** Those of a network, made where there are none. Throws `AdapterError` for a network that does not look for virtual tokens. */
  static on(network: Module, activation: Activation): WholeNetwork {
    if (!(network instanceof TokenNetwork))
      throw new AdapterError(
        `adapter: ${network.constructor.name} does not look for virtual tokens; expected a language model or an encoder of tokens`,
      );
    const present = network.virtualTokens;
    if (present instanceof WholeNetwork) return present;
    const made = new WholeNetwork(activation);
    network.virtualTokens = made;
    return made;
  }

  add(name: string, module: AdapterModule): void {
    if (module.virtual === undefined)
      throw new AdapterError(`adapter: ${module.constructor.name} has no virtual tokens for a whole network; expected the path of a layer`);
    this.#adapters.set(name, [...(this.#adapters.get(name) ?? []), module]);
  }

  /** Takes the modules of an adapter off `network` and disposes them. */
  static remove(network: Module, name: string): void {
    const whole = network instanceof TokenNetwork ? network.virtualTokens : undefined;
    if (!(whole instanceof WholeNetwork)) return;
    for (const module of whole.#adapters.get(name) ?? []) module.dispose();
    whole.#adapters.delete(name);
    if (whole.#adapters.size === 0) delete (network as TokenNetwork).virtualTokens;
  }

  get all(): readonly VirtualTokens[] {
    return [...this.#adapters.values()].flatMap(virtualOf);
  }

  of(rows: RowAdapters | undefined, batch: number): readonly (readonly VirtualTokens[])[] {
    const modulesOf = (names: readonly string[]): VirtualTokens[] => names.flatMap((name) => virtualOf(this.#adapters.get(name) ?? []));
    if (rows !== undefined) return this.#activation.routed(rows).map(modulesOf);
    return new Array<readonly VirtualTokens[]>(batch).fill(modulesOf(this.#activation.running));
  }
}

const virtualOf = (modules: readonly AdapterModule[]): VirtualTokens[] => modules.flatMap((module) => module.virtual?.() ?? []);
