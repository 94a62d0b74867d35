import type { AnyMethod, CommonConfig } from '../adapters/adapter.js';
import { methodOfPeft } from '../adapters/registry.js';
import { ConfigError, didYouMean } from '../errors.js';
import type { JsonObject } from './json.js';
import { isNeutral, readValue } from './peft-values.js';

/** Keys of every PEFT config that say nothing about the result; kept and written back as they came. */
const administrative = [
  'peft_type',
  'task_type',
  'base_model_name_or_path',
  'revision',
  'auto_mapping',
  'peft_version',
  'inference_mode',
  'runtime_config',
] as const;

const variantKeys = (method: AnyMethod, file: JsonObject | undefined): readonly string[] =>
  method.peftVariants?.[String(file?.peft_type)] ?? [];

/** A PEFT config that was understood. */
export interface PeftConfig {
  readonly method: AnyMethod;
  readonly config: CommonConfig;
  /** The file as read: what is not ours to change is written back from here. */
  readonly file: JsonObject;
  /** Keys nobody knows; kept. */
  readonly unknownKeys: readonly string[];
}

const commonKeys = ['target_modules', 'exclude_modules', 'modules_to_save', 'layers_to_transform', 'layers_pattern'] as const;

function readCommon(file: JsonObject): Partial<CommonConfig> {
  const pattern = readValue<string | string[] | null>(file, 'layers_pattern', 'names', null);
  const saved = readValue<string[]>(file, 'modules_to_save', 'strings', []);
  const layers = readValue<number | number[] | null>(file, 'layers_to_transform', 'layers', null);
  return {
    targets: readValue<string | string[] | null>(file, 'target_modules', 'names', null),
    exclude: emptyToNull(readValue<string | string[] | null>(file, 'exclude_modules', 'names', null)),
    modulesToSave: saved.length === 0 ? null : saved,
    layersToTransform: Array.isArray(layers) && layers.length === 0 ? null : layers,
    layersPattern: emptyToNull(pattern),
  };
}

const emptyToNull = <T extends string | readonly string[]>(value: T | null): T | null =>
  value === null || value.length === 0 ? null : value;

/**
 * Reads the object in an `adapter_config.json`; `tensors` are the names in the model of those beside it, where they are known. Throws
 * `ConfigError` for a `peft_type` without a method here, and for any key whose value would change the result and is not supported; unknown
 * keys that switch nothing on are kept and reported.
 */
export function readPeftConfig(file: JsonObject, tensors: readonly string[] = []): PeftConfig {
  const type = file.peft_type;
  const method = typeof type === 'string' ? methodOfPeft(type, file, tensors) : undefined;
  if (method?.peft === undefined)
    throw new ConfigError(`adapter_config.json: no method here reads "peft_type" ${JSON.stringify(type) ?? '(missing)'}`);
  const known = new Set<string>([
    ...administrative,
    ...commonKeys,
    ...Object.keys(method.peft.keys),
    ...(method.peft.further ?? []),
    ...variantKeys(method, file),
  ]);
  const unknownKeys = Object.keys(file).filter((key) => !known.has(key));
  for (const key of unknownKeys) {
    if (key.startsWith('use_') && !isNeutral(file[key])) {
      throw new ConfigError(`adapter_config.json: "${key}" is not supported; got ${JSON.stringify(file[key])}${didYouMean(key, known)}`);
    }
  }
  const config = { ...method.defaults, ...readCommon(file), ...method.peft.read(file) } as CommonConfig;
  return { method, config, file, unknownKeys };
}

/** What goes into a file for one adapter. */
export interface PeftWrite {
  readonly method: AnyMethod;
  readonly config: CommonConfig;
  /** The targets in the form of a file. */
  readonly targets: string | readonly string[] | null;
  /** The file the adapter came from, if any. */
  readonly file?: JsonObject | undefined;
  readonly baseModel?: string | undefined;
  /** The class of PEFT that wraps the model; null: its general one. Default CAUSAL_LM. */
  readonly taskType?: string | null | undefined;
}

const source = (value: unknown): unknown => (value instanceof RegExp ? value.source : value);

function fieldsOf(method: AnyMethod, config: CommonConfig, targets: unknown): Record<string, unknown> {
  if (method.whole !== undefined) return { ...method.peft?.write(config), modules_to_save: config.modulesToSave };
  return {
    ...method.peft?.write(config),
    target_modules: source(targets),
    exclude_modules: source(config.exclude),
    modules_to_save: config.modulesToSave,
    layers_to_transform: config.layersToTransform,
    layers_pattern: config.layersPattern,
  };
}

/**
 * The text of an `adapter_config.json`: keys sorted, indented by 2, `inference_mode` true. Keys of the file the adapter came from stay as they were, but for
 * options that have another value now.
 */
export function writePeftConfig({ method, config, targets, file, baseModel, taskType = 'CAUSAL_LM' }: PeftWrite): string {
  if (method.peft === undefined) throw new ConfigError(`save: the method "${method.name}" has no PEFT form`);
  const further = new Set(method.peft.further);
  const whole: Record<string, unknown> = {
    task_type: taskType,
    base_model_name_or_path: baseModel ?? null,
    revision: null,
    auto_mapping: null,
    ...method.peft.keys,
    ...Object.fromEntries(Object.entries(file ?? {}).filter(([key]) => !further.has(key))),
    peft_type: method.peftType,
    inference_mode: true,
  };
  const before =
    file === undefined
      ? {}
      : fieldsOf(method, { ...method.defaults, ...readCommon(file), ...method.peft.read(file) }, readCommon(file).targets);
  for (const [key, value] of Object.entries(fieldsOf(method, config, targets))) {
    if (further.has(key) || file?.[key] === undefined || JSON.stringify(before[key]) !== JSON.stringify(value)) whole[key] = value;
  }
  for (const key of method.peft.lacks ?? []) if (whole[key] === null && file?.[key] === undefined) delete whole[key];
  for (const key of ['runtime_config', ...variantKeys(method, file)]) delete whole[key];
  return JSON.stringify(
    Object.fromEntries(
      Object.keys(whole)
        .sort()
        .map((key) => [key, whole[key]]),
    ),
    null,
    2,
  );
}
