import { ConfigError, didYouMean } from '../errors.js';
import type { AnyMethod, CommonConfig } from './adapter.js';
import { adapterNames, isAdapterName, methodOf } from './registry.js';
import { checkTargetOptions, type TargetOptions } from './targets.js';

/** The targets of a config: those given, or the method's own roles. */
export function targetOptions(method: AnyMethod, config: CommonConfig): TargetOptions {
  const { kinds, roles } = method;
  return config.targets === null
    ? { ...config, kinds, targets: { roles: typeof roles === 'function' ? roles(config) : roles }, allowUnmatched: true }
    : { ...config, kinds, targets: config.targets };
}

/** A method and a config with all its options, checked. */
export interface ResolvedConfig {
  readonly method: AnyMethod;
  readonly config: CommonConfig;
}

/** Finds the method of a config and fills in its defaults. Throws `ConfigError` for an unknown method or option, and for values that cannot work. */
export function resolveConfig(config: Readonly<Record<string, unknown>>): ResolvedConfig {
  if (typeof config !== 'object' || config === null)
    throw new ConfigError(`adapter config: must be an object with "type"; got ${JSON.stringify(config) ?? 'nothing'}`);
  const { type, ...options } = config;
  if (!isAdapterName(type)) {
    const hint = typeof type === 'string' ? didYouMean(type, adapterNames) : '';
    throw new ConfigError(
      `adapter config: unknown type; got ${JSON.stringify(type) ?? 'nothing'}, expected one of ${adapterNames.join(', ')}${hint}`,
    );
  }
  return resolveOptions(methodOf(type), options);
}

/** The same for a method that is at hand. */
export function resolveOptions(method: AnyMethod, options: Readonly<Record<string, unknown>>): ResolvedConfig {
  const known = Object.keys(method.defaults);
  for (const key of Object.keys(options)) {
    if (!known.includes(key)) throw new ConfigError(`adapter config: unknown key "${key}" for "${method.name}"${didYouMean(key, known)}`);
  }
  const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
  const config = { ...method.defaults, ...given } as CommonConfig;
  checkCommon(method.name, config);
  method.check(config);
  return { method, config };
}

const isNames = (value: unknown): boolean => Array.isArray(value) && value.every((entry) => typeof entry === 'string' && entry !== '');
const isIndex = (value: unknown): boolean => Number.isSafeInteger(value) && (value as number) >= 0;

/** Shapes of the options every method has: recipes and files bring values that types have not seen. */
function checkCommon(type: string, config: CommonConfig): void {
  const { targets, exclude, modulesToSave, layersToTransform, layersPattern } = config;
  const wrong = (key: string, got: unknown, expected: string): ConfigError =>
    new ConfigError(`${type}: ${key} is of the wrong kind; got ${JSON.stringify(got)}, expected ${expected}`);
  const isExpression = (value: unknown): boolean => value instanceof RegExp || (typeof value === 'string' && value !== '');
  const isRoles = (value: unknown): boolean => typeof value === 'object' && value !== null && isNames((value as { roles?: unknown }).roles);
  if (targets !== null && !isExpression(targets) && !isNames(targets) && !isRoles(targets)) {
    throw wrong('targets', targets, '"all-linear", an expression, a list of names or { roles }');
  }
  if (exclude !== null && !isExpression(exclude) && !isNames(exclude)) throw wrong('exclude', exclude, 'an expression or a list of names');
  if (modulesToSave !== null && !isNames(modulesToSave)) throw wrong('modulesToSave', modulesToSave, 'a list of names');
  if (
    layersToTransform !== null &&
    !isIndex(layersToTransform) &&
    !(Array.isArray(layersToTransform) && layersToTransform.every(isIndex))
  ) {
    throw wrong('layersToTransform', layersToTransform, 'a layer number or a list of them');
  }
  if (layersPattern !== null && typeof layersPattern !== 'string' && !isNames(layersPattern))
    throw wrong('layersPattern', layersPattern, 'a name or a list of names');
  if (typeof config.allowUnmatched !== 'boolean') throw wrong('allowUnmatched', config.allowUnmatched, 'true or false');
  checkTargetOptions(type, { ...config, targets: targets ?? { roles: [] } });
}
