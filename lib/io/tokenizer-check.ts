import { FormatError } from '../errors.js';
import { describeJson, isJsonObject, type JsonObject } from './json.js';

// The tokenizers library ends the process on some files that contradict themselves. What it does not check, is checked here first.

/** Throws `FormatError` for a `tokenizer.json` that the library would take and then fail on in a way that cannot be caught. */
export function checkTokenizerJson(json: JsonObject, source: string): void {
  const check = (ok: boolean, what: string): void => {
    if (!ok) throw new FormatError(`${source}: is no valid tokenizer; ${what}`);
  };
  if (isJsonObject(json.model)) checkModel(json.model, check);
  for (const part of components(json.normalizer)) {
    if (part.type === 'Prepend') check(part.prepend !== '', 'normalizer: puts nothing before the text');
    if (part.type === 'Replace')
      check(!matchesNothing(part.pattern), `normalizer: replaces empty text; got ${JSON.stringify(part.pattern)}`);
  }
  for (const part of components(json.pre_tokenizer)) {
    if (part.type === 'FixedLength')
      check(part.length === undefined || Number(part.length) >= 1, `pre_tokenizer: pieces of length ${describeJson(part.length)}`);
  }
  for (const part of components(json.decoder)) {
    if (part.type === 'Strip')
      check(part.stop === 0, `decoder: stripping at the end is not supported; got stop ${describeJson(part.stop)}, expected 0`);
  }
  for (const part of components(json.post_processor)) {
    if (part.type === 'TemplateProcessing') checkTemplate(part, check);
  }
}

type Check = (ok: boolean, what: string) => void;

/** A normalizer, pre-tokenizer, post-processor or decoder, and those it is made of. */
function* components(value: unknown): Generator<JsonObject> {
  const pending = [value];
  while (pending.length > 0) {
    const part = pending.pop();
    if (Array.isArray(part)) pending.push(...part);
    if (!isJsonObject(part)) continue;
    yield part;
    for (const key of ['normalizers', 'pretokenizers', 'processors', 'decoders']) pending.push(part[key]);
  }
}

/** Some characters of each kind, to find out whether a pattern matches between them. */
const probe = "a B1 \u00e9.'\n\u3042_\u2581 ";

function matchesNothing(pattern: unknown): boolean {
  if (!isJsonObject(pattern)) return false;
  if (pattern.String === '') return true;
  if (typeof pattern.Regex !== 'string') return false;
  try {
    return [...probe.matchAll(new RegExp(pattern.Regex, 'gu'))].some(([match]) => match === '');
  } catch {
    // Not a pattern of JavaScript's; the library has its own syntax.
    return pattern.Regex === '';
  }
}

function checkModel(model: JsonObject, check: Check): void {
  const prefix = model.continuing_subword_prefix;
  if (model.type === 'WordPiece' || typeof prefix !== 'string' || prefix === '' || !Array.isArray(model.merges)) return;
  for (const merge of model.merges as readonly unknown[]) {
    const right: unknown = Array.isArray(merge) ? merge[1] : String(merge).split(' ')[1];
    check(
      typeof right === 'string' && right.startsWith(prefix),
      `model: merge ${describeJson(merge)} does not go on with the prefix "${prefix}"`,
    );
  }
}

/** Every piece of a template must be the text itself or a special token that is described. */
function checkTemplate(part: JsonObject, check: Check): void {
  const special = isJsonObject(part.special_tokens) ? part.special_tokens : {};
  for (const [id, token] of Object.entries(special)) {
    if (!isJsonObject(token)) continue;
    const same = Array.isArray(token.ids) && Array.isArray(token.tokens) && token.ids.length === token.tokens.length;
    check(same, `post_processor: "ids" and "tokens" of "${id}" differ in length`);
  }
  for (const [key, texts] of [
    ['single', ['A']],
    ['pair', ['A', 'B']],
  ] as const) {
    const pieces: readonly unknown[] = Array.isArray(part[key]) ? part[key] : [];
    for (const piece of pieces) {
      const { SpecialToken: token, Sequence: sequence } = isJsonObject(piece) ? piece : {};
      if (isJsonObject(token))
        check(Object.hasOwn(special, String(token.id)), `post_processor: "${key}" uses an undescribed token ${describeJson(token.id)}`);
      if (isJsonObject(sequence))
        check((texts as readonly unknown[]).includes(sequence.id), `post_processor: "${key}" uses the text ${describeJson(sequence.id)}`);
    }
  }
}
