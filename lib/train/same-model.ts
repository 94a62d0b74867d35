import { ConfigError } from '../errors.js';
import type { JsonObject } from '../io/json.js';
import { isLanguageModel } from '../model.js';
import type { AnyTrainable, TrainableEncoder } from './trainable.js';

/**
 * What of a model and its trained adapters decides the bits of a run, beside the values of the parameters. Blocks of a file give the bits of its floats, but not
 * where products take their codes.
 */
export function modelIdentity(model: AnyTrainable): JsonObject {
  const stored = model.loadedAs?.dtype;
  const int8 = model.loadedAs?.compute === 'int8';
  const takesCodes = int8 && stored === 'stored';
  const few = stored === 'nf4' || stored === 'int8' || typeof stored === 'object' || takesCodes;
  const adapters = model.active.map((name) => {
    const { method, config } = model.adapters.get(name);
    return [name, { type: method.name, ...config }];
  });
  return JSON.parse(
    JSON.stringify({
      dtype: model.dtype,
      quantized: few ? stored : null,
      ...(int8 ? { compute: takesCodes ? 'int8 of blocks' : 'int8' } : {}),
      ...(isLanguageModel(model) ? {} : taskIdentity(model)),
      adapters: Object.fromEntries(adapters),
    }),
  ) as JsonObject;
}

/** What an encoder is to answer, and what a head that no checkpoint holds was drawn from. */
function taskIdentity(model: TrainableEncoder): JsonObject {
  const { task, labels, network, newParameters = [], headSeed = 0 } = model;
  const trained = new Set(
    model.active.flatMap((name) =>
      model.adapters
        .get(name)
        .placements.flatMap(({ path, module }) => Object.keys(module.replaces?.() ?? {}).map((parameter) => `${path}.${parameter}`)),
    ),
  );
  const isFrozen = newParameters.some((name) => !trained.has(name));
  return {
    task,
    labels: [...labels],
    ...(network.pooling === undefined ? {} : { pooling: { ...network.pooling } as JsonObject }),
    ...(network.positions === undefined ? {} : { positions: network.positions }),
    ...(isFrozen ? { headSeed } : {}),
  };
}

/** Throws `ConfigError` where the model is loaded in another way, or its adapters have other options, than in the checkpoint in `folder`. */
export function requireSameModel(folder: string, was: JsonObject, model: AnyTrainable): void {
  const difference = firstDifference(was, modelIdentity(model), '');
  if (difference === undefined) return;
  const { path, before, now } = difference;
  const shown = (value: unknown): string => (value === undefined ? 'none' : JSON.stringify(value));
  throw new ConfigError(
    `resume: "${path}" of the model differs from that of the run in "${folder}"; got ${shown(now)}, expected ${shown(before)}`,
  );
}

interface Difference {
  readonly path: string;
  readonly before: unknown;
  readonly now: unknown;
}

function firstDifference(before: unknown, now: unknown, path: string): Difference | undefined {
  if (!isMap(before) || !isMap(now)) return JSON.stringify(before) === JSON.stringify(now) ? undefined : { path, before, now };
  for (const key of new Set([...Object.keys(before), ...Object.keys(now)])) {
    const found = firstDifference(before[key], now[key], path === '' ? key : `${path}.${key}`);
    if (found !== undefined) return found;
  }
  return undefined;
}

const isMap = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null && !Array.isArray(value);
