import { readdir, readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { FormatError } from '../errors.js';
import { isJsonObject, type JsonObject, readJsonObject, readJsonObjectIfAny } from './json.js';

/** Everything a `Tokenizer` is made from, whatever kind of file it came in. */
export interface TokenizerData {
  /** File name for messages. */
  readonly source: string;
  /** The content of a `tokenizer.json`. */
  readonly json: JsonObject;
  /** Special tokens by role: `bos`, `eos`, `pad`, `unk`, and whatever else the files name (`cls`, `sep`, `mask`). */
  readonly special: Readonly<Record<string, string>>;
  /** Tokens that end a reply beside `eos`. */
  readonly stops: readonly string[];
  /** Chat templates by name; the usual one is `default`. */
  readonly templates: Readonly<Record<string, string>>;
}

/** Whether a folder has a tokenizer that `readTokenizerFolder` can read. */
export async function hasTokenizer(folder: string): Promise<boolean> {
  return (await readdir(folder)).includes('tokenizer.json');
}

/**
 * Reads `tokenizer.json`, `tokenizer_config.json`, `special_tokens_map.json` and the chat templates of a Hugging Face folder; only the first must be there.
 * Throws `FormatError`.
 */
export async function readTokenizerFolder(folder: string): Promise<TokenizerData> {
  const source = join(folder, 'tokenizer.json');
  const json = await readJsonObject(source);
  const config = (await readJsonObjectIfAny(join(folder, 'tokenizer_config.json'))) ?? {};
  const map = (await readJsonObjectIfAny(join(folder, 'special_tokens_map.json'))) ?? {};
  const special: Record<string, string> = {};
  for (const [key, value] of [...Object.entries(map), ...Object.entries(config)]) {
    const role = /^([a-z]+)_token$/.exec(key)?.[1];
    const content = isJsonObject(value) ? value.content : value;
    if (role !== undefined && typeof content === 'string') special[role] = content;
  }
  // Length limits and padding stored in the file are habits of the one who saved it, not part of the text-to-ids rule.
  return {
    source,
    json: { ...json, truncation: null, padding: null, added_tokens: withSpecialTokens(json, Object.values(special)) },
    special,
    stops: [],
    templates: { ...templatesOf(config.chat_template, source), ...(await templateFiles(folder)) },
  };
}

/** The file's added tokens, with those words of the vocabulary that the other files declare special. */
function withSpecialTokens(json: JsonObject, special: readonly string[]): unknown {
  const added = json.added_tokens ?? [];
  const vocabulary = isJsonObject(json.model) ? json.model.vocab : undefined;
  if (!Array.isArray(added) || !isJsonObject(vocabulary)) return added;
  const known = new Set(added.map((token: unknown) => (isJsonObject(token) ? token.content : undefined)));
  const more = [...new Set(special)].filter((content) => !known.has(content) && Object.hasOwn(vocabulary, content));
  return [...added, ...more.map((content) => addedToken(vocabulary[content], content, true))];
}

/** An entry of `added_tokens`: a token found in the text before anything else happens to it. */
export function addedToken(id: unknown, content: string, special: boolean): JsonObject {
  return { id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special };
}

/** Templates as `chat_template` of tokenizer_config.json holds them: one text, or a list of named ones. */
function templatesOf(value: unknown, source: string): Record<string, string> {
  if (value === undefined || value === null) return {};
  if (typeof value === 'string') return { default: value };
  const templates: Record<string, string> = {};
  for (const entry of Array.isArray(value) ? value : [value]) {
    if (!isJsonObject(entry) || typeof entry.name !== 'string' || typeof entry.template !== 'string') {
      throw new FormatError(`${source}: "chat_template" must be a text or a list of { name, template }`);
    }
    templates[entry.name] = entry.template;
  }
  return templates;
}

async function templateFiles(folder: string): Promise<Record<string, string>> {
  const templates: Record<string, string> = {};
  const json = await readJsonObjectIfAny(join(folder, 'chat_template.json'));
  if (json !== undefined) Object.assign(templates, templatesOf(json.chat_template, join(folder, 'chat_template.json')));
  const main = await readTextIfAny(join(folder, 'chat_template.jinja'));
  if (main !== undefined) templates.default = main;
  const more = join(folder, 'additional_chat_templates');
  for (const name of await readdir(more).catch(() => [])) {
    const text = name.endsWith('.jinja') ? await readTextIfAny(join(more, name)) : undefined;
    if (text !== undefined) templates[basename(name, '.jinja')] = text;
  }
  return templates;
}

async function readTextIfAny(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new FormatError(`${path}: cannot be read; ${(error as Error).message}`, { cause: error });
  }
}
