import { readFileSync, statSync } from 'node:fs';
import { dirname, isAbsolute, resolve } from 'node:path';
import { type Document, isMap, LineCounter, parseDocument, stringify, type YAMLParseError, type YAMLWarning } from 'yaml';
import { z } from 'zod';
import { ConfigError, didYouMean } from './errors.js';
import { kLater } from './recipe-later.js';
import { type kDtypes, recipeSchema } from './recipe-schema.js';

/** A complete recipe: what `lorikeet train` does, with every default filled in. */
export type Recipe = z.output<typeof recipeSchema>;

/** A recipe as a user writes it. */
export type RecipeInput = z.input<typeof recipeSchema>;

/** Dtypes that `dtype` takes. */
export type RecipeDtype = (typeof kDtypes)[number];

/**
 * A recipe object with defaults filled in.
 *
 * Throws `ConfigError`: unknown keys with the nearest name, wrong values with what was expected, and settings of later versions by name.
 */
export function parseRecipe(input: unknown): Recipe {
  return checked(recipeSchema, input, '');
}

/**
 * Reads a YAML recipe, with `sets` (`training.steps=50`) laid over it. Relative paths in it (`model`, `adapter`, data files, `out`) are taken
 * from the working directory where they exist there, else from the recipe's own folder.
 */
export function readRecipe(path: string, sets: readonly string[] = []): Recipe {
  const document = readDocument(path);
  const input = document.toJS() as Record<string, unknown>;
  for (const set of sets) applySet(input, set);
  const recipe = parseRecipe(input);
  return withPaths(recipe, dirname(path));
}

/** The one document of a YAML file, which must be a map. */
function readDocument(path: string): Document {
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(readFileSync(path));
  } catch (cause) {
    const reason = cause instanceof TypeError ? 'it is not UTF-8' : (cause as Error).message;
    throw new ConfigError(`recipe: cannot read "${path}"; ${reason}`, { cause });
  }
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, merge: true });
  const problem = document.errors[0] ?? document.warnings[0];
  if (problem !== undefined) {
    const { line, col } = lines.linePos(problem.pos[0]);
    throw new ConfigError(`recipe: ${path}:${line}:${col}: ${reasonOf(problem)}`, { cause: problem });
  }
  if (!isMap(document.contents)) throw new ConfigError(`recipe: "${path}" must be a map of keys (model, adapter, data, training, out)`);
  return document;
}

/** What is wrong with YAML, in one line and without the place. */
function reasonOf({ code, message }: YAMLParseError | YAMLWarning): string {
  if (code === 'MULTIPLE_DOCS') return 'a second document begins here; expected one recipe in a file';
  return (message.split('\n')[0] ?? '').replace(/ at line \d+, column \d+:?$/, '');
}

/** The recipe as YAML, readable by `readRecipe`. */
export function formatRecipe(recipe: Recipe): string {
  // Folded lines lose line breaks where a text begins with white space.
  return stringify(recipe, { lineWidth: 0 });
}

/** Lays `key.path=value` (value in YAML) over a recipe object. */
export function applySet(recipe: Record<string, unknown>, set: string): void {
  const equals = set.indexOf('=');
  if (equals < 1) throw new ConfigError(`--set: got "${set}", expected key.path=value`);
  const keys = set.slice(0, equals).split('.');
  const document = parseDocument(set.slice(equals + 1));
  if (document.errors[0] !== undefined) throw new ConfigError(`--set ${set}: the value is not YAML; ${reasonOf(document.errors[0])}`);
  let target = recipe;
  for (const key of keys.slice(0, -1)) {
    const next = target[key] ?? {};
    if (typeof next !== 'object' || Array.isArray(next)) throw new ConfigError(`--set ${set}: "${key}" is not a map`);
    target[key] = { ...next };
    target = target[key] as Record<string, unknown>;
  }
  const last = keys.at(-1) as string;
  if (keys.some((key) => key === '' || key === '__proto__')) throw new ConfigError(`--set: got "${set}", expected key.path=value`);
  target[last] = document.toJS();
}

/** `input` by `schema`; the first problem as a `ConfigError` that names the key below `prefix`. */
export function checked<S extends z.ZodType>(schema: S, input: unknown, prefix: string): z.output<S> {
  refuseLater(input, prefix);
  const result = schema.safeParse(input);
  if (result.success) return result.data;
  throw new ConfigError(`recipe: ${explain(result.error.issues, schema, input, prefix)}`, { cause: result.error });
}

function explain(issues: readonly z.core.$ZodIssue[], schema: z.ZodType, input: unknown, prefix: string): string {
  const unknown = issues.find((issue) => issue.code === 'unrecognized_keys');
  const issue = unknown ?? issues[0];
  if (issue === undefined) return 'invalid';
  if (issue.code === 'invalid_union') {
    const nested = issue.errors.flat();
    const given = valueAt(input, issue.path);
    const inner =
      typeof given === 'object'
        ? nested.find(({ path, code }) => path.length > 0 || code === 'unrecognized_keys')
        : nested.find(({ code }) => code === 'invalid_value');
    if (inner !== undefined)
      return explain([{ ...inner, path: [...issue.path, ...inner.path] } as z.core.$ZodIssue], schema, input, prefix);
  }
  const path = [prefix, ...issue.path.map(String)].filter((part) => part !== '').join('.');
  if (issue.code === 'unrecognized_keys') {
    const key = issue.keys[0] ?? '';
    const known = keysAt(schema, issue.path);
    return `unknown key "${key}"${path === '' ? '' : ` in "${path}"`}${didYouMean(key, known) || `; expected one of ${known.join(', ')}`}`;
  }
  const got = valueAt(input, issue.path);
  if (got === undefined) return `"${path}" is missing; ${expectation(issue)}`;
  return `"${path}" is wrong; got ${shown(got)}, ${expectation(issue)}${issue.code === 'invalid_value' && typeof got === 'string' ? didYouMean(got, issue.values.map(String)) : ''}`;
}

/** A value in a message; JSON has no words for numbers that are not finite. */
const shown = (value: unknown): string => (typeof value === 'number' ? String(value) : JSON.stringify(value));

function expectation(issue: z.core.$ZodIssue): string {
  switch (issue.code) {
    case 'invalid_type':
      return `expected ${kTypeNames[issue.expected] ?? `a ${issue.expected}`}`;
    case 'invalid_value':
      return `expected ${issue.values.length > 1 ? 'one of ' : ''}${issue.values.join(', ')}`;
    case 'too_small':
    case 'too_big': {
      const limit = issue.code === 'too_small' ? issue.minimum : issue.maximum;
      const bound = issue.code === 'too_small' ? ['at least', 'more than'] : ['at most', 'less than'];
      if (issue.origin === 'string') return 'expected a text that is not empty';
      return `expected ${issue.origin === 'array' ? 'a list of ' : ''}${bound[issue.inclusive === false ? 1 : 0]} ${limit}`;
    }
    default:
      return issue.message;
  }
}

const kTypeNames: Readonly<Record<string, string>> = {
  int: 'a whole number',
  array: 'a list',
  tuple: 'a list',
  record: 'a map',
  object: 'a map',
  boolean: 'true or false',
};

/** The keys of the object schema at `path`. */
function keysAt(schema: z.ZodType, path: readonly PropertyKey[]): string[] {
  let here = unwrap(schema);
  // The schema of an item of a list is that of the list's alternative, a single object.
  for (const key of path) here = here instanceof z.ZodObject && typeof key === 'string' ? unwrap(here.shape[key] as z.ZodType) : here;
  return here instanceof z.ZodObject ? Object.keys(here.shape) : [];
}

function unwrap(schema: z.ZodType): z.ZodType {
  if (schema instanceof z.ZodOptional || schema instanceof z.ZodDefault || schema instanceof z.ZodPrefault)
    return unwrap(schema.unwrap() as z.ZodType);
  if (schema instanceof z.ZodUnion)
    return unwrap(schema.options.find((option) => unwrap(option as z.ZodType) instanceof z.ZodObject) as z.ZodType);
  return schema;
}

function valueAt(input: unknown, path: readonly PropertyKey[]): unknown {
  let value = input;
  for (const key of path) value = typeof value === 'object' && value !== null ? (value as Record<PropertyKey, unknown>)[key] : undefined;
  return value;
}

/** Settings that are part of the recipe language but that this version cannot carry out are refused by name, never ignored. */
function refuseLater(input: unknown, prefix: string): void {
  for (const { path, advice } of kLater) {
    const below = prefix === '' ? path : path.startsWith(`${prefix}.`) ? path.slice(prefix.length + 1) : undefined;
    if (below === undefined) continue;
    const value = valueAt(input, below.split('.'));
    if (value !== undefined) throw new ConfigError(`recipe: "${path}": ${JSON.stringify(value)} is not supported yet; ${advice}`);
  }
}

function withPaths(recipe: Recipe, folder: string): Recipe {
  const exists = (path: string) => statSync(path, { throwIfNoEntry: false }) !== undefined;
  const near = (path: string) => (isAbsolute(path) || exists(path) || !exists(resolve(folder, path)) ? path : resolve(folder, path));
  const source = <S extends { path: string }>(data: S): S => ({ ...data, path: near(data.path) });
  const sources = (data: Recipe['data']['train']): Recipe['data']['train'] => (Array.isArray(data) ? data.map(source) : source(data));
  const { train, eval: held, calibration } = recipe.data;
  return {
    ...recipe,
    model: near(recipe.model),
    adapter: typeof recipe.adapter === 'string' ? near(recipe.adapter) : recipe.adapter,
    data: {
      ...recipe.data,
      train: sources(train),
      ...(held === undefined ? {} : { eval: sources(held) }),
      ...(calibration === undefined ? {} : { calibration: sources(calibration) }),
    },
  };
}
