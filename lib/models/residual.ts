import type { JsonObject } from '../io/json.js';
import type { Module } from '../nn/module.js';

/**
 * Key of a `config.json`: the weights are what this initialisation left of the published ones, and belong together with an adapter. Key of that adapter's
 * `adapter_config.json` too.
 */
export const kResidual = 'lorikeet_residual';

/** Networks that were loaded with such weights, and hold the adapter's part by now. */
const completed = new WeakSet<Module>();

/** The initialisation whose adapter is missing from the weights that a model was loaded with; undefined where they are whole. */
export function residualOf({ config, network }: { readonly config: JsonObject; readonly network: Module }): string | undefined {
  const name = config[kResidual];
  return typeof name === 'string' && !completed.has(network) ? name : undefined;
}

/** Says whether the adapter's part is merged into the weights of such a network. */
export function setCompleted(network: Module, on: boolean): void {
  if (on) completed.add(network);
  else completed.delete(network);
}
