import { AdapterError } from '../errors.js';
import { Conv } from '../nn/conv.js';
import { Embedding } from '../nn/embedding.js';
import { Linear } from '../nn/linear.js';
import { Layer, type Module } from '../nn/module.js';
import { TokenNetwork } from '../nn/virtual-tokens.js';
import { type Activation, AdaptedLayer } from './adapted-layer.js';
import type { AdapterModule, AnyMethod, Placement, Target } from './adapter.js';
import { kItself, kWhole, WholeNetwork } from './whole-network.js';

/** Every layer of a network that can be adapted, in the model's order; layers that carry adapters count as the bare ones. */
export function layersOf(network: Module): Target[] {
  const found: Target[] = [];
  for (const [path, module] of network.namedModules()) {
    if (!(module instanceof Layer) || path === '') continue;
    const layer = module;
    if (layer instanceof Linear) {
      found.push({ path, layer, kind: 'linear', role: layer.role, shape: [layer.outFeatures, layer.inFeatures] });
    } else if (layer instanceof Embedding) {
      found.push({ path, layer, kind: 'embedding', role: layer.role, shape: [layer.size, layer.width] });
    } else if (layer instanceof Conv) {
      found.push({ path, layer, kind: 'conv', role: layer.role, shape: layer.weightShape });
    } else {
      found.push({ path, layer, kind: 'other', role: layer.role });
    }
  }
  return found;
}

/** What a method can adapt: every layer, and before them, for methods that ask for it, the network with the tensors that it holds itself. */
export function candidatesOf(network: Module, { adaptsNetwork = false }: Pick<AnyMethod, 'adaptsNetwork'>): Target[] {
  const layers = layersOf(network);
  const holds = adaptsNetwork && network instanceof TokenNetwork && [...network.ownParameters()].length > 0;
  // Such a method reads its tensors, and never runs it as a layer.
  return holds ? [{ path: kItself, layer: network as Module as Layer, kind: 'other' }, ...layers] : layers;
}

/** The adapted layer at `path`: the one that is there, or a new one around the bare layer. */
function adaptedAt(network: Module, path: string, activation: Activation): AdaptedLayer {
  const present = network.module(path);
  if (present instanceof AdaptedLayer) return present;
  if (!(present instanceof Layer)) throw new AdapterError(`adapter: the module at "${path}" is not a layer that can be adapted`);
  const adapted = new AdaptedLayer(present, activation);
  network.setModule(path, adapted);
  return adapted;
}

/** Puts the modules of an adapter onto the layers of a network, all or none: where it fails they are disposed. */
export function inject(network: Module, name: string, placements: readonly Placement[], activation: Activation): void {
  const done: string[] = [];
  try {
    for (const { path, module } of placements) {
      if (path === kWhole) WholeNetwork.on(network, activation).add(name, module);
      else adaptedAt(network, path, activation).add(name, module);
      done.push(path);
    }
  } catch (error) {
    eject(network, name, done, false);
    for (const { module } of placements.slice(done.length)) module.dispose();
    throw error;
  }
}

/**
 * Takes an adapter off again and disposes its modules; layers without adapters become the bare ones they were. `giveBack` false: what the adapter took out of the
 * weights is in them (it was merged), or was not taken yet.
 */
export function eject(network: Module, name: string, paths: Iterable<string>, giveBack = true): void {
  for (const path of new Set(paths)) {
    if (path === kWhole) WholeNetwork.remove(network, name);
    const layer = network.module(path);
    if (!(layer instanceof AdaptedLayer)) continue;
    if (giveBack) for (const { taken } of layer.adaptersOf(name)) taken?.putBack(layer.base);
    layer.remove(name);
    if (layer.names.length === 0) network.setModule(path, layer.base);
  }
}

/** What carries adapters, and what it stands for: a layer, or the network itself with the tensors that it holds. */
export type Carrier = { readonly base: Module; adaptersOf(name: string): readonly AdapterModule[] } & Partial<Pick<AdaptedLayer, 'run'>>;

/** What carries any of these adapters, by path. */
export function carriersOf(network: Module, paths: Iterable<string>): [string, Carrier][] {
  const found: [string, Carrier][] = [];
  for (const path of new Set(paths)) {
    const carrier = path === kWhole ? WholeNetwork.of(network) : network.module(path);
    if (carrier instanceof AdaptedLayer || carrier instanceof WholeNetwork) found.push([path, carrier]);
  }
  return found;
}

/** The modules of the given adapters on one carrier, in that order. */
export function modulesOn(carrier: Carrier, names: readonly string[]): AdapterModule[] {
  return names.flatMap((name) => carrier.adaptersOf(name));
}
