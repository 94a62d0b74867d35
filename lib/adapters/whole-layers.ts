import { ConfigError } from '../errors.js';
import type { AdapterModule, CommonConfig, CreateContext, Preparation, Target } from './adapter.js';
import { isSavedWhole } from './targets.js';
import { TrainedCopy } from './trained-copy.js';

/** Which parameters of a layer are trained; none: it stays as it is. */
export type TrainedNames = (target: Target) => readonly string[];

/** The names of the parameters that a layer itself owns, a weight tied from elsewhere left aside. */
export const ownNames = ({ layer }: Pick<Target, 'layer'>): string[] => [...layer.ownParameters()].map(([name]) => name);

/**
 * Trained copies on the targets for which `namesOf` says so and that `modulesToSave` leaves. Throws `ConfigError` where nothing is trained.
 */
export function trainedLayers<Config extends CommonConfig>(
  method: string,
  targets: readonly Target[],
  config: Config,
  { dtype }: CreateContext,
  namesOf: TrainedNames,
): Preparation<Config> {
  const names = new Map(targets.filter(({ path }) => !isSavedWhole(config, path)).map((target) => [target.path, namesOf(target)] as const));
  const chosen = targets.filter(({ path }) => (names.get(path) ?? []).length > 0);
  if (chosen.length === 0 && config.modulesToSave === null)
    throw new ConfigError(
      `${method}: there is nothing to train; got ${targets.length} layers, none of which has the parameters of this method`,
    );
  return {
    config,
    targets: chosen,
    create: ({ path, layer }: Target): AdapterModule => new TrainedCopy(layer, dtype, names.get(path) ?? []),
    dispose: () => {},
  };
}
