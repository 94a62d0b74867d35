import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ConfigError, FormatError } from '../errors.js';
import { kPoolingModes, modesOf, type Pooling, type PoolingMode } from '../models/pooling.js';
import { writeFileAtomically } from './atomic-file.js';
import { describeJson, isJsonObject, type JsonObject, readJsonObjectIfAny } from './json.js';

/** Flags of older pooling configs, in the order in which several results are joined. */
const flags: readonly (readonly [string, PoolingMode])[] = [
  ['pooling_mode_cls_token', 'cls'],
  ['pooling_mode_max_tokens', 'max'],
  ['pooling_mode_mean_tokens', 'mean'],
  ['pooling_mode_mean_sqrt_len_tokens', 'mean_sqrt_len_tokens'],
  ['pooling_mode_weightedmean_tokens', 'weightedmean'],
  ['pooling_mode_lasttoken', 'lasttoken'],
];

/** One entry of `modules.json`: the last part of its class, and its folder. */
interface ModuleEntry {
  readonly name: string;
  readonly path: string;
}

/**
 * How a folder of sentence-transformers makes embeddings: the modules after the encoder in `modules.json`, or the pooling of `1_Pooling` where there is no such
 * file; undefined where there is neither. Throws `ConfigError` for modules other than pooling and normalisation, `FormatError` for broken files.
 */
export async function readPooling(folder: string): Promise<Pooling | undefined> {
  const entries = await readModules(join(folder, 'modules.json'));
  if (entries === undefined) return poolingIn(join(folder, '1_Pooling'));
  let pooling: Pooling | undefined;
  for (const { name, path } of entries) {
    if (name === 'Pooling') pooling = { ...(await poolingIn(join(folder, path))) };
    else if (name === 'Normalize') pooling = { ...pooling, normalize: true };
    else if (name !== 'Transformer')
      throw new ConfigError(
        `${folder}: modules.json has a module that is not supported; got ${name}, expected Transformer, Pooling, Normalize`,
      );
  }
  return pooling;
}

async function readModules(file: string): Promise<ModuleEntry[] | undefined> {
  let value: unknown;
  try {
    value = JSON.parse(await readFile(file, 'utf8'));
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new FormatError(`${file}: cannot be read; ${(cause as Error).message}`, { cause });
  }
  if (!Array.isArray(value)) throw new FormatError(`${file}: expected a list of modules; got ${describeJson(value)}`);
  return value.map((entry: unknown) => {
    const { type, path } = isJsonObject(entry) ? entry : {};
    if (typeof type !== 'string' || typeof path !== 'string')
      throw new FormatError(`${file}: every module must have a type and a path; got ${describeJson(entry)}`);
    return { name: type.slice(type.lastIndexOf('.') + 1), path };
  });
}

async function poolingIn(folder: string): Promise<Pooling | undefined> {
  const file = join(folder, 'config.json');
  const config = await readJsonObjectIfAny(file);
  if (config === undefined) return undefined;
  return { mode: config.pooling_mode === undefined ? flagged(config) : named(config.pooling_mode, file) };
}

function flagged(config: JsonObject): PoolingMode[] | undefined {
  const found = flags.filter(([key]) => config[key] === true).map(([, mode]) => mode);
  return found.length === 0 ? undefined : found;
}

function named(value: unknown, file: string): PoolingMode[] {
  return [value].flat().map((name) => {
    const mode = kPoolingModes.find((known) => known === name);
    if (mode === undefined)
      throw new ConfigError(`${file}: unknown "pooling_mode" ${describeJson(name)}; expected one of ${kPoolingModes.join(', ')}`);
    return mode;
  });
}

const kModules = 'sentence_transformers.models';

/** Writes what makes the folder of an encoder one of sentence-transformers: the modules after the encoder, whose hidden states have this `width`. */
export async function writePooling(folder: string, pooling: Pooling, width: number): Promise<void> {
  const modules = [
    { type: 'Transformer', path: '' },
    { type: 'Pooling', path: '1_Pooling' },
    ...(pooling.normalize ? [{ type: 'Normalize', path: '2_Normalize' }] : []),
  ].map(({ type, path }, idx) => ({ idx, name: String(idx), path, type: `${kModules}.${type}` }));
  for (const { path } of modules) await mkdir(join(folder, path), { recursive: true });
  await writeJson(join(folder, 'modules.json'), modules);
  await writeJson(join(folder, '1_Pooling', 'config.json'), { word_embedding_dimension: width, ...configOf(modesOf(pooling)) });
}

/** Flags, which every version reads, or where they would put the results of several in another order the names. */
function configOf(modes: readonly PoolingMode[]): JsonObject {
  const flagged = flags.filter(([, mode]) => modes.includes(mode)).map(([, mode]) => mode);
  if (flagged.join() !== modes.join()) return { pooling_mode: [...modes] };
  return Object.fromEntries(flags.map(([key, mode]) => [key, modes.includes(mode)]));
}

const writeJson = (file: string, value: unknown): Promise<void> => writeFileAtomically(file, `${JSON.stringify(value, undefined, 2)}\n`);
