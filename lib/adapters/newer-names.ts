import type { PeftFolder } from '../io/peft.js';
import type { Module } from '../nn/module.js';
import type { CommonConfig } from './adapter.js';
import type { Attached } from './adapter-set.js';
import { layersOf } from './inject.js';
import { patternKey } from './patterns.js';
import { targetOptions } from './resolve-config.js';
import { type Candidate, decide } from './targets.js';

/** A network whose modules some programs call by newer names than those of the published weights. */
interface RenamedNetwork extends Module {
  /** The newer name of the module at a path. */
  newerName(path: string): string;
}

type Rename = (path: string) => string;

const isRenamed = (network: Module): network is RenamedNetwork => 'newerName' in network;
const last = (path: string): string => path.slice(path.lastIndexOf('.') + 1);

/** The part of a tensor's name that is a path among `paths`, and the rest. */
function split(name: string, paths: { has(path: string): boolean }): [path: string, end: string] | undefined {
  for (let at = name.lastIndexOf('.'); at > 0; at = name.lastIndexOf('.', at - 1))
    if (paths.has(name.slice(0, at))) return [name.slice(0, at), name.slice(at)];
  return undefined;
}

/** The shortest list of names that means these of the candidates: last parts of paths, or whole paths where those would mean more. */
function shortened(paths: readonly string[], candidates: readonly Candidate[]): string[] {
  const names = [...new Set(paths.map(last))].sort();
  const meant = candidates.filter((candidate) => decide({ targets: names }, candidate) === 'matched');
  return meant.length === paths.length ? names : [...paths];
}

/** An adapter folder by the published names of a network, where it has the newer ones: as PEFT writes it over transformers 5. */
export function withPublishedNames(folder: PeftFolder, network: Module): PeftFolder {
  if (!isRenamed(network)) return folder;
  const newer: Rename = (path) => network.newerName(path);
  const layers = layersOf(network);
  const published = new Map(layers.map(({ path }) => [newer(path), path]));
  const isNewer = (name: string): boolean => {
    const path = split(name, published)?.[0];
    return path !== undefined && published.get(path) !== path;
  };
  if (![...folder.tensors.keys()].some(isNewer)) return folder;
  const tensors = [...folder.tensors].map(([name, value]) => {
    const [path, end] = split(name, published) ?? [name, ''];
    return [(published.get(path) ?? path) + end, value] as const;
  });
  const { config } = folder.config;
  if (config.targets === null) return { ...folder, tensors: new Map(tensors) };
  const options = targetOptions(folder.config.method, config);
  const chosen = layers.filter((layer) => decide(options, { ...layer, path: newer(layer.path) }) === 'matched');
  const paths = chosen.map(({ path }) => path);
  const renamed: CommonConfig = {
    ...config,
    ...patterns(config, paths, newer, (path) => path),
    targets: shortened(paths, layers),
    layersToTransform: null,
    layersPattern: null,
  };
  return { config: { ...folder.config, config: renamed }, tensors: new Map(tensors) };
}

/** Settings by layer, whose keys mean layers by one spelling, with whole paths of the other one as keys. */
function patterns(config: object, paths: readonly string[], from: Rename, to: Rename): object {
  const found: Record<string, Record<string, unknown>> = {};
  for (const option of ['rankPattern', 'alphaPattern']) {
    const pattern = (config as Record<string, Record<string, unknown> | undefined>)[option];
    if (pattern === undefined) continue;
    const keys = paths.map((path) => [path, patternKey(Object.keys(pattern), from(path), option)] as const);
    found[option] = Object.fromEntries(
      keys.flatMap(([path, key]) => (key === undefined ? [] : [[`^${to(path).replaceAll('.', '\\.')}`, pattern[key]]])),
    );
  }
  return found;
}

/** How an adapter is written by the newer names of its network; undefined where it has none. */
export function newerNames(
  attached: Attached,
  network: Module,
): { readonly patterns: object; readonly targets: readonly string[]; readonly nameOf: Rename } | undefined {
  if (!isRenamed(network)) return undefined;
  const newer: Rename = (path) => network.newerName(path);
  const layers = layersOf(network);
  const paths = new Set(layers.map(({ path }) => path));
  const options = targetOptions(attached.method, attached.config);
  const chosen = layers.filter((layer) => decide(options, layer) === 'matched').map(({ path }) => path);
  return {
    patterns: patterns(attached.config, chosen, (path) => path, newer),
    targets: shortened(
      chosen.map(newer),
      layers.map((layer) => ({ ...layer, path: newer(layer.path) })),
    ),
    nameOf(tensor) {
      const [path, end] = split(tensor, paths) ?? [tensor, ''];
      return newer(path) + end;
    },
  };
}
