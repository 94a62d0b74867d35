import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { ConfigError, LorikeetError } from '../errors.js';
import { adapterWeights, kAdapterWeights, readAdapterWeights } from '../io/adapter-weights.js';
import { readGguf } from '../io/gguf.js';
import { readJsonObject } from '../io/json.js';
import { weightsFile } from '../io/model-files.js';
import { encoderModality } from '../load-encoder.js';
import { createNetwork } from '../models/registry.js';
import { type RunSummary, readRun, summarize } from '../report/index.js';
import { checkpointSteps } from '../train/run-folder.js';

/** What a path holds. */
export interface Inspection {
  readonly kind: 'model folder' | 'gguf file' | 'adapter folder' | 'safetensors file' | 'run folder';
  readonly path: string;
  readonly parameters: number;
  readonly bytes: number;
  /** Parameters by dtype. */
  readonly dtypes: Readonly<Record<string, number>>;
  readonly names: readonly string[];
  readonly shapes: Readonly<Record<string, readonly number[]>>;
  readonly config: Readonly<Record<string, unknown>>;
  readonly problems: readonly string[];
  /** Of a run: how far it is, and its numbers. */
  readonly run?: RunSummary & { readonly checkpoints: readonly number[]; readonly locked: boolean };
}

/** Looks at headers and configs only. Throws `ConfigError` for a path that holds none of the kinds, `FormatError` for a broken file. */
export async function inspectPath(path: string): Promise<Inspection> {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (stat === undefined) throw new ConfigError(`inspect: there is nothing at "${path}"`);
  if (stat.isDirectory()) {
    if (existsSync(join(path, 'metrics.jsonl')) || (existsSync(join(path, 'recipe.yaml')) && existsSync(join(path, 'checkpoints'))))
      return inspectRun(path);
    if (existsSync(join(path, 'adapter_config.json'))) return inspectAdapter(path);
    if (existsSync(join(path, 'config.json'))) return inspectModel(path);
    const [blocks, ...others] = readdirSync(path).filter((name) => name.endsWith('.gguf'));
    if (blocks !== undefined && others.length === 0) return inspectGguf(join(path, blocks));
    throw new ConfigError(
      `inspect: folder "${path}" is no model, adapter or run; expected config.json, adapter_config.json, metrics.jsonl or one .gguf file in it`,
    );
  }
  if (path.toLowerCase().endsWith('.gguf')) return inspectGguf(path);
  if (path.endsWith('.safetensors') || path.endsWith('.safetensors.index.json')) {
    const { config, ...tensors } = await tensorsOf(path);
    return { kind: 'safetensors file', path, ...tensors, config };
  }
  throw new ConfigError(`inspect: "${path}" is of no known kind; expected a folder, .gguf or .safetensors`);
}

type Tensors = Pick<Inspection, 'parameters' | 'bytes' | 'dtypes' | 'names' | 'shapes' | 'config' | 'problems'>;

interface Entry {
  readonly name: string;
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly bytes: number;
}

function summary(entries: readonly Entry[], config: Readonly<Record<string, unknown>>, problems: readonly string[]): Tensors {
  const dtypes: Record<string, number> = {};
  let parameters = 0;
  let bytes = 0;
  for (const entry of entries) {
    const count = entry.shape.reduce((product, size) => product * size, 1);
    parameters += count;
    bytes += entry.bytes;
    dtypes[entry.dtype] = (dtypes[entry.dtype] ?? 0) + count;
  }
  const names = entries.map(({ name }) => name);
  return {
    parameters,
    bytes,
    dtypes,
    names,
    shapes: Object.fromEntries(entries.map(({ name, shape }) => [name, shape])),
    config,
    problems,
  };
}

async function tensorsOf(file: string): Promise<Tensors> {
  const { tensors, metadata, unexpected } = await readAdapterWeights(file);
  return summary(
    [...tensors].map(([name, { dtype, shape, bytes }]) => ({ name, dtype, shape, bytes })),
    metadata,
    unexpected.map((name) => `tensor "${name}" lies in a shard and is not in the index`),
  );
}

async function inspectModel(path: string): Promise<Inspection> {
  const config = await readJsonObject(join(path, 'config.json'));
  const problems: string[] = [];
  const tensors = await collecting(problems, () => tensorsOf(join(path, weightsFile(path, readdirSync(path)))), summary([], {}, []));
  const modality = encoderModality(config);
  if ((modality ?? 'text') === 'text' && !existsSync(join(path, 'tokenizer.json')))
    problems.push('no tokenizer.json: text cannot be encoded');
  if (modality === undefined) await collecting(problems, async () => createNetwork(config).dispose(), undefined);
  return { kind: 'model folder', path, ...tensors, config, problems: [...problems, ...tensors.problems] };
}

async function inspectAdapter(path: string): Promise<Inspection> {
  const config = await readJsonObject(join(path, 'adapter_config.json'));
  const problems: string[] = [];
  const file = adapterWeights(path);
  let tensors = summary([], {}, []);
  if (file === undefined) problems.push(`no ${kAdapterWeights}`);
  else tensors = await collecting(problems, () => tensorsOf(file), tensors);
  if (config.peft_type === undefined) problems.push('adapter_config.json has no "peft_type"');
  return { kind: 'adapter folder', path, ...tensors, config, problems: [...problems, ...tensors.problems] };
}

function inspectGguf(path: string): Inspection {
  const header = readGguf(path);
  const entries = [...header.tensors.values()].map(({ name, type, shape, bytes }) => ({ name, dtype: type.name, shape, bytes }));
  const unreadable = new Set([...header.tensors.values()].filter(({ type }) => !type.readable).map(({ type }) => type.name));
  // Whole vocabularies stand in the metadata; a list is told by its length.
  const config = Object.fromEntries([...header.metadata].map(([key, value]) => [key, plain(value)]));
  return {
    kind: 'gguf file',
    path,
    ...summary(
      entries,
      config,
      [...unreadable].map((type) => `tensors of type ${type} cannot be read`),
    ),
  };
}

function plain(value: unknown): unknown {
  if (typeof value === 'bigint') return Number(value);
  if (Array.isArray(value)) return value.length > 16 ? `a list of ${value.length}` : value.map(plain);
  return value;
}

async function inspectRun(path: string): Promise<Inspection> {
  const problems: string[] = [];
  const adapter = join(path, 'adapter');
  const held = existsSync(join(adapter, 'adapter_config.json'))
    ? await collecting(problems, () => inspectAdapter(adapter), undefined)
    : undefined;
  const run = readRun(path);
  problems.push(...run.problems);
  const { parameters, bytes, dtypes, names, shapes, config } = held ?? summary([], {}, []);
  return {
    kind: 'run folder',
    path,
    parameters,
    bytes,
    dtypes,
    names,
    shapes,
    config,
    run: {
      ...summarize(run),
      checkpoints: checkpointSteps(path),
      locked: existsSync(join(path, 'lock')),
    },
    problems: [...problems, ...(held?.problems ?? ['no adapter yet'])],
  };
}

/** What `read` gives, or `otherwise` with the reason among the problems when its file is broken. */
async function collecting<T, U>(problems: string[], read: () => Promise<T>, otherwise: U): Promise<T | U> {
  try {
    return await read();
  } catch (error) {
    if (!(error instanceof LorikeetError)) throw error;
    problems.push(error.message);
    return otherwise;
  }
}
