import { ConfigError, didYouMean } from '../errors.js';
import { pythonRegex } from './python-regex.js';

/**
 * Which modules a method adapts.
 * - `'all-linear'`: every linear layer but the output head.
 * - another string or a `RegExp`: must match a module's whole path.
 * - a list: a module is meant when its path equals an entry or ends with `.` + entry.
 * - `{ roles }`: by what the layer does in the model, whatever its name (`'attention.query'`; `'attention'` means every `attention.*`).
 */
export type Targets = string | RegExp | readonly string[] | { readonly roles: readonly string[] };

/** How a set of modules is chosen; every field but `targets` is optional. */
export interface TargetOptions {
  readonly targets: Targets;
  readonly exclude?: string | RegExp | readonly string[] | null;
  readonly modulesToSave?: readonly string[] | null;
  readonly layersToTransform?: number | readonly number[] | null;
  readonly layersPattern?: string | readonly string[] | null;
  /** The kinds of layers that roles may mean: `'mlp'` is a family of linear layers to one method and a block to another. Default all. */
  readonly kinds?: readonly Candidate['kind'][] | undefined;
  /** Accept list entries that match no module. Default false. */
  readonly allowUnmatched?: boolean;
}

/** What target matching needs to know about a module. */
export interface Candidate {
  readonly path: string;
  readonly kind: 'linear' | 'embedding' | 'conv' | 'other';
  readonly role?: string | undefined;
  readonly shape?: readonly number[] | undefined;
}

export type Decision = 'matched' | 'excluded' | 'unmatched';

const isList = (value: unknown): value is readonly string[] => Array.isArray(value);
const isRoles = (targets: Targets): targets is { readonly roles: readonly string[] } =>
  typeof targets === 'object' && !isList(targets) && !(targets instanceof RegExp);
const equalsOrEnds = (path: string, entry: string): boolean => path === entry || path.endsWith(`.${entry}`);
const sourceOf = (pattern: string | RegExp): string => (typeof pattern === 'string' ? pattern : pattern.source);
const fullMatch = (key: string, pattern: string | RegExp, path: string): boolean =>
  pattern instanceof RegExp
    ? new RegExp(`^(?:${pattern.source})$`, pattern.flags.replace(/[gy]/g, '')).test(path)
    : pythonRegex(key, pattern).test(path);

/** True for the literal that means every linear layer but the output head. */
export function isAllLinear(targets: Targets): boolean {
  return typeof targets === 'string' && targets.toLowerCase() === 'all-linear';
}

/** True when a module of `role` is meant by the wish `wanted`: the same role, or a member of its family. */
export function hasRole(role: string | undefined, wanted: string): boolean {
  return role !== undefined && (role === wanted || role.startsWith(`${wanted}.`));
}

function isExcluded(options: TargetOptions, path: string): boolean {
  const { exclude, modulesToSave } = options;
  if (isList(exclude)) {
    if (exclude.some((entry) => equalsOrEnds(path, entry))) return true;
  } else if (exclude != null && fullMatch('exclude', exclude, path)) return true;
  return (modulesToSave ?? []).some((entry) => pythonRegex('modulesToSave', `(^|.*\\.)${entry}($|\\..*)`, '^', '').test(path));
}

/** The layer filter: the first of the patterns that finds a number in the path decides. */
function inLayers(options: TargetOptions, path: string): boolean {
  const layers = options.layersToTransform;
  if (layers == null || (typeof layers !== 'number' && layers.length === 0)) return true;
  const given = options.layersPattern ?? [];
  const patterns = (typeof given === 'string' ? [given] : given).filter((pattern) => pattern !== '');
  const expressions = patterns.length > 0 ? patterns.map((pattern) => `(?:^|.*?\\.)${pattern}\\.(\\d+)\\.`) : ['.*?\\.[^.]*\\.(\\d+)\\.'];
  for (const expression of expressions) {
    const match = pythonRegex('layersPattern', expression, '^', '').exec(path);
    if (match === null) continue;
    const index = Number(match.at(-1) ?? Number.NaN);
    return typeof layers === 'number' ? layers === index : layers.includes(index);
  }
  return false;
}

/**
 * The decision about one module, by PEFT's rules: exclusion first (`exclude`, then `modulesToSave`), then the targets; `layersToTransform` filters only
 * modules found by their suffix or role, never one named by its whole path.
 */
export function decide(options: TargetOptions, candidate: Candidate): Decision {
  const { targets } = options;
  const { path } = candidate;
  if (isExcluded(options, path)) return 'excluded';
  if (isAllLinear(targets)) return candidate.kind === 'linear' && candidate.role !== 'head' ? 'matched' : 'unmatched';
  if (isList(targets)) {
    if (targets.includes(path)) return 'matched';
    return targets.some((entry) => path.endsWith(`.${entry}`)) && inLayers(options, path) ? 'matched' : 'unmatched';
  }
  if (isRoles(targets)) {
    const possible = options.kinds?.includes(candidate.kind) ?? true;
    return possible && targets.roles.some((role) => hasRole(candidate.role, role)) && inLayers(options, path) ? 'matched' : 'unmatched';
  }
  return fullMatch('targets', targets, path) ? 'matched' : 'unmatched';
}

/** The entries of a list of targets, or of roles, that mean no module at all, exclusions and layer filters left aside. */
export function unmatchedEntries(targets: Targets, candidates: readonly Candidate[]): string[] {
  if (isList(targets)) return targets.filter((entry) => !candidates.some(({ path }) => equalsOrEnds(path, entry)));
  if (isRoles(targets)) return targets.roles.filter((entry) => !candidates.some(({ role }) => hasRole(role, entry)));
  return [];
}

/** Throws `ConfigError` for settings that contradict each other whatever the model is. */
export function checkTargetOptions(method: string, options: TargetOptions): void {
  const { targets, layersToTransform, layersPattern } = options;
  const named = isList(targets) || isRoles(targets);
  const hasLayers = layersToTransform != null;
  const hasPattern = layersPattern != null && layersPattern.length > 0;
  if (isList(targets) && targets.length === 0) throw new ConfigError(`${method}: targets is empty; expected at least one name`);
  if (!named && (hasLayers || hasPattern)) {
    const option = hasLayers ? 'layersToTransform' : 'layersPattern';
    throw new ConfigError(`${method}: ${option} needs a list of targets or roles; got targets ${describeTargets(targets)}`);
  }
  if (hasPattern && !hasLayers) {
    throw new ConfigError(
      `${method}: layersPattern does nothing without layersToTransform; got layersPattern ${JSON.stringify(layersPattern)}`,
    );
  }
}

/** The targets as they read in a message. */
export function describeTargets(targets: Targets): string {
  return targets instanceof RegExp ? String(targets) : JSON.stringify(targets);
}

/** The modules to adapt, in the model's order. Throws `ConfigError` when nothing is left, or an entry means no module. */
export function selectTargets<C extends Candidate>(method: string, candidates: readonly C[], options: TargetOptions): C[] {
  checkTargetOptions(method, options);
  const { targets } = options;
  const missing = options.allowUnmatched ? [] : unmatchedEntries(targets, candidates);
  if (missing.length > 0) {
    const names = isRoles(targets) ? candidates.flatMap(({ role }) => role ?? []) : candidates.flatMap(({ path }) => [last(path), path]);
    const hints = missing.map((entry) => `"${entry}"${didYouMean(entry, names)}`).join(', ');
    throw new ConfigError(
      `${method}: no module matches ${hints}\n${available(candidates, isRoles(targets))}\nallowUnmatched: true accepts this`,
    );
  }
  const decisions = candidates.map((candidate) => decide(options, candidate));
  const matched = candidates.filter((_, index) => decisions[index] === 'matched');
  if (matched.length === 0) throw new ConfigError(nothingMatched(method, candidates, options));
  return matched;
}

function nothingMatched(method: string, candidates: readonly Candidate[], options: TargetOptions): string {
  const { exclude, modulesToSave, layersToTransform } = options;
  const unfiltered = { targets: options.targets } satisfies TargetOptions;
  const free = { ...options, exclude: null, modulesToSave: null } satisfies TargetOptions;
  const said = describeTargets(options.targets);
  if (candidates.some((candidate) => decide(free, candidate) === 'matched')) {
    const by = [
      ...(exclude == null ? [] : [`exclude ${exclude instanceof RegExp ? exclude : JSON.stringify(exclude)}`]),
      ...(modulesToSave == null ? [] : [`modulesToSave ${JSON.stringify(modulesToSave)}`]),
    ];
    return `${method}: every module that targets ${said} match is excluded; got ${by.join(' and ')}`;
  }
  if (layersToTransform != null && candidates.some((candidate) => decide(unfiltered, candidate) === 'matched')) {
    return `${method}: targets ${said} match no module in the chosen layers; got layersToTransform ${JSON.stringify(layersToTransform)}`;
  }
  const hint =
    typeof options.targets === 'string'
      ? didYouMean(
          options.targets,
          candidates.map(({ path }) => last(path)),
        )
      : '';
  return `${method}: targets ${said} match no module${hint}\n${available(candidates, false)}`;
}

const last = (path: string): string => path.slice(path.lastIndexOf('.') + 1);

/** One line a name: `q_proj [2048, 2048] x 16`, for the linear layers, embeddings and convolutions of a model. */
export function available(candidates: readonly Candidate[], byRole: boolean): string {
  const rows = new Map<string, number>();
  for (const candidate of candidates) {
    const name = byRole ? candidate.role : last(candidate.path);
    if (candidate.kind === 'other' || name === undefined) continue;
    const row = `  ${name} [${(candidate.shape ?? []).join(', ')}]`;
    rows.set(row, (rows.get(row) ?? 0) + 1);
  }
  return `available:\n${[...rows].map(([row, count]) => `${row} x ${count}`).join('\n')}`;
}

/**
 * Modules copied whole into the adapter: those whose path ends with an entry (PEFT's rule, without a dot before it). Every entry must hit one; with `allowUnmatched`,
 * one of them must: PEFT writes all names of heads that it knows.
 */
export function selectModulesToSave<C extends Candidate>(
  method: string,
  candidates: readonly C[],
  entries: readonly string[],
  allowUnmatched = false,
): C[] {
  const missing = entries.filter((entry) => entry === '' || !candidates.some(({ path }) => path.endsWith(entry)));
  const [first] = missing;
  if (first !== undefined && (!allowUnmatched || missing.length === entries.length)) {
    const hint = didYouMean(
      first,
      candidates.map(({ path }) => last(path)),
    );
    throw new ConfigError(`${method}: modulesToSave "${first}" matches no module${hint}`);
  }
  return candidates.filter(({ path }) => entries.some((entry) => entry !== '' && path.endsWith(entry)));
}

/** Whether `modulesToSave` means the module at `path` or one that it lies in. */
export function isSavedWhole({ modulesToSave }: { readonly modulesToSave: readonly string[] | null }, path: string): boolean {
  const roots = path.split('.').map((_, i, parts) => parts.slice(0, i + 1).join('.'));
  return (modulesToSave ?? []).some((entry) => entry !== '' && roots.some((root) => root.endsWith(entry)));
}

/**
 * Targets in the form a PEFT file holds: strings and lists as given; roles and `'all-linear'` as the shortest list of names that means the same modules,
 * a list of full paths when names alone would mean more.
 */
export function portableTargets(options: TargetOptions, candidates: readonly Candidate[]): string | string[] {
  const { targets } = options;
  if (isList(targets)) return [...targets];
  if (!isRoles(targets) && !isAllLinear(targets)) return sourceOf(targets as string | RegExp);
  const wanted = candidates.filter((candidate) => decide(options, candidate) === 'matched').map(({ path }) => path);
  const names = [...new Set(wanted.map(last))].sort();
  const same = candidates.filter((candidate) => decide({ ...options, targets: names, layersToTransform: null }, candidate) === 'matched');
  return same.length === wanted.length ? names : wanted;
}
