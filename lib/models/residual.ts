import type { JsonObject } from '../io/json.js';

/** Key of a `config.json`: the weights are what this initialisation left of the published ones, and belong together with an adapter. */
export const kResidual = 'lorikeet_residual';

/** The initialisation whose adapter is missing from the weights of a config; undefined where they are whole. */
export function residualOf(config: JsonObject): string | undefined {
  const name = config[kResidual];
  return typeof name === 'string' ? name : undefined;
}
