import { readdir } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { FormatError } from '../errors.js';
import { withFile } from './byte-source.js';
import { describeJson, isJsonObject, readJsonObject } from './json.js';
import { parseSafetensorsHeader, type SafetensorsEntry, type SafetensorsHeader, safetensorsHeaderLength } from './safetensors-header.js';

/** A tensor of a safetensors checkpoint: its entry and the file that holds it. */
export interface StoredTensor extends SafetensorsEntry {
  readonly file: string;
  /** Size of that file in bytes when its header was read. */
  readonly fileBytes: number;
}

/** One safetensors file, or all shards of an index, seen as one set of tensors. No tensor data is read. */
export interface SafetensorsFiles {
  readonly files: readonly string[];
  readonly tensors: ReadonlyMap<string, StoredTensor>;
  readonly metadata: Readonly<Record<string, string>>;
  /** Tensors that lie in a shard without being in the index; they are not among `tensors`. */
  readonly unexpected: readonly string[];
}

/** Reads and checks the header of a safetensors file of any size. Throws `FormatError` for a broken one. */
export function readSafetensorsHeader(path: string): SafetensorsHeader {
  return withFile(path, (source) => {
    const length = safetensorsHeaderLength(source.read(0, Math.min(8, source.size)).slice(), source.size, path);
    return parseSafetensorsHeader(source.read(0, 8 + length), source.size, path);
  });
}

/**
 * Reads the headers of a checkpoint: `path` is a `.safetensors` file, or a `.safetensors.index.json` whose `weight_map` names the shard of each tensor.
 *
 * Throws `FormatError` when a shard is missing or broken, lies outside the folder of the index, or lacks a tensor that the index puts there.
 */
export async function readSafetensorsFiles(path: string): Promise<SafetensorsFiles> {
  if (path.endsWith('.json')) return readShards(path);
  const { tensors, metadata, fileBytes } = readSafetensorsHeader(path);
  const stored = Array.from(tensors.values(), (entry) => [entry.name, { ...entry, file: path, fileBytes }] as const);
  return { files: [path], tensors: new Map(stored), metadata, unexpected: [] };
}

async function readShards(index: string): Promise<SafetensorsFiles> {
  const { weight_map: weightMap, metadata } = await readJsonObject(index);
  if (!isJsonObject(weightMap)) throw new FormatError(`${index}: "weight_map" must be an object; got ${describeJson(weightMap)}`);
  const namesByShard = new Map<string, Set<string>>();
  for (const [name, shard] of Object.entries(weightMap)) {
    if (typeof shard !== 'string' || shard === '' || shard === '..' || basename(shard) !== shard || shard.includes('\\')) {
      throw new FormatError(`${index}: "weight_map" must name files of the same folder; got ${describeJson(shard)} for "${name}"`);
    }
    const names = namesByShard.get(shard);
    if (names === undefined) namesByShard.set(shard, new Set([name]));
    else names.add(name);
  }
  const present = new Set(await readdir(dirname(index)));
  const missing = [...namesByShard.keys()].filter((shard) => !present.has(shard));
  if (missing.length > 0)
    throw new FormatError(
      `${index}: ${missing.length} of ${namesByShard.size} shards are missing; expected ${missing.slice(0, 5).join(', ')} beside it`,
    );

  const tensors = new Map<string, StoredTensor>();
  const unexpected: string[] = [];
  for (const [shard, names] of [...namesByShard].sort(([a], [b]) => (a < b ? -1 : 1))) {
    const file = join(dirname(index), shard);
    const { tensors: found, fileBytes } = readSafetensorsHeader(file);
    for (const name of names) {
      const entry = found.get(name);
      if (entry === undefined) throw new FormatError(`${file}: tensor "${name}" is missing, which ${basename(index)} expects here`);
      tensors.set(name, { ...entry, file, fileBytes });
    }
    unexpected.push(...[...found.keys()].filter((name) => !names.has(name)));
  }
  const files = [...namesByShard.keys()].sort().map((shard) => join(dirname(index), shard));
  return { files, tensors, metadata: textValues(metadata), unexpected };
}

function textValues(value: unknown): Record<string, string> {
  if (!isJsonObject(value)) return {};
  return Object.fromEntries(Object.entries(value).map(([key, entry]) => [key, typeof entry === 'string' ? entry : JSON.stringify(entry)]));
}
