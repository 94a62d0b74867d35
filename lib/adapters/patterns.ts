import { ConfigError, didYouMean } from '../errors.js';
import { pythonRegex } from './python-regex.js';

/** Settings per layer: each key is a regular expression matched against the end of a module path, at a dot or at its start. */
export type Pattern = Readonly<Record<string, number>>;

/**
 * The key of `pattern` that decides for `path`: the first in insertion order for which `(.*\.)?(KEY)$` matches; undefined when none does.
 * `^foo` is bound to the root, `foo` fits every `….foo` but no `barfoo`, and dots are wildcards, as in PEFT.
 */
export function patternKey(keys: Iterable<string>, path: string, option = 'rankPattern'): string | undefined {
  for (const key of keys) {
    if (pythonRegex(option, key, '^(?:.*\\.)?').test(path)) return key;
  }
  return undefined;
}

/** The value of the first fitting key, else `fallback`. */
export function fromPattern(pattern: Pattern, path: string, fallback: number, option = 'rankPattern'): number {
  const key = patternKey(Object.keys(pattern), path, option);
  return key === undefined ? fallback : (pattern[key] ?? fallback);
}

/** The keys of `pattern` that decide for none of `paths`: they are misspelt, or shadowed by an earlier key. */
export function unusedPatternKeys(pattern: Pattern, paths: readonly string[], option = 'rankPattern'): string[] {
  const used = new Set(paths.map((path) => patternKey(Object.keys(pattern), path, option)));
  return Object.keys(pattern).filter((key) => !used.has(key));
}

/** A pattern key that decides for no layer is misspelt, or hidden by one before it. Throws `ConfigError`. */
export function checkPatternKeys(
  method: string,
  targets: readonly { readonly path: string }[],
  config: { readonly rankPattern: Pattern; readonly alphaPattern: Pattern; readonly allowUnmatched: boolean },
): void {
  if (config.allowUnmatched) return;
  const paths = targets.map(({ path }) => path);
  for (const option of ['rankPattern', 'alphaPattern'] as const) {
    const [unused] = unusedPatternKeys(config[option], paths, option);
    if (unused === undefined) continue;
    const hint = didYouMean(
      unused,
      paths.flatMap((path) => [path.slice(path.lastIndexOf('.') + 1), path]),
    );
    throw new ConfigError(`${method}: ${option} key "${unused}" decides for no adapted layer${hint}; allowUnmatched: true accepts this`);
  }
}
