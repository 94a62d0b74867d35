import { ConfigError } from '../../errors.js';
import { isJsonObject, type JsonObject } from '../json.js';
import type { TokenizerData } from '../tokenizer-data.js';
import type { GgufField } from './encoder.js';
import type { GgufHeader } from './parser.js';
import { gpt2Pattern, preTokenizerNameOf } from './pre-tokenizers.js';

const kinds = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 } as const;

const list = (value: unknown): JsonObject[] => (Array.isArray(value) ? value.filter(isJsonObject) : []);

/** The steps of a normalizer, pre-tokenizer or decoder, sequences opened. */
function steps(value: unknown): JsonObject[] {
  if (!isJsonObject(value)) return [];
  return [value.normalizers, value.pretokenizers, value.decoders]
    .flatMap((inner) => list(inner).flatMap(steps))
    .concat(value.type === 'Sequence' ? [] : [value]);
}

/**
 * The metadata of a tokenizer: byte-level BPE as `gpt2` with the name of its splitting rule, BPE with byte fallback in the manner of SentencePiece as `llama`,
 * whose scores follow from the order of the merges. `vocabSize` rows are filled with unused tokens. Throws `ConfigError` for another kind and for a splitting
 * rule that no published family has: llama.cpp would cut texts in other pieces without a word.
 */
export function tokenizerFields(data: TokenizerData, vocabSize: number): Map<string, GgufField> {
  const { json, source, special, templates } = data;
  const model = isJsonObject(json.model) ? json.model : {};
  if (model.type !== 'BPE' || !isJsonObject(model.vocab))
    throw new ConfigError(`gguf: the tokenizer of ${source} has no GGUF form; got ${JSON.stringify(model.type)}, expected BPE`);
  const pre = steps(json.pre_tokenizer);
  const byteLevel = pre.some(({ type }) => type === 'ByteLevel');
  if (!byteLevel && model.byte_fallback !== true)
    throw new ConfigError(`gguf: the tokenizer of ${source} has no GGUF form; expected byte-level BPE, or BPE with byte fallback`);
  const added = list(json.added_tokens);
  const ids = new Map<number, string>(Object.entries(model.vocab).map(([token, id]) => [Number(id), token]));
  for (const token of added) ids.set(Number(token.id), String(token.content));
  const size = Math.max(vocabSize, ...[...ids.keys()].map((id) => id + 1));
  const tokens = Array.from({ length: size }, (_, id) => ids.get(id) ?? `[PAD${id}]`);
  const types = kindsOf(tokens, ids, added, byteLevel ? undefined : special.unk);
  const merges = mergesOf(model.merges, source);
  const fields = new Map<string, GgufField>();
  const put = (key: string, field: GgufField) => fields.set(`tokenizer.${key}`, field);
  put('ggml.model', { type: 'string', value: byteLevel ? 'gpt2' : 'llama' });
  if (byteLevel) put('ggml.pre', { type: 'string', value: ruleName(json, model, pre, source) });
  put('ggml.tokens', { type: 'string[]', value: tokens });
  if (!byteLevel) put('ggml.scores', { type: 'f32[]', value: scoresOf(tokens, merges) });
  put('ggml.token_type', { type: 'i32[]', value: types });
  if (byteLevel) put('ggml.merges', { type: 'string[]', value: merges.map(([left, right]) => `${left} ${right}`) });
  const idOf = new Map(tokens.map((token, id) => [token, id]));
  for (const [role, name] of [
    ['bos', 'bos'],
    ['eos', 'eos'],
    ['unk', 'unknown'],
    ['pad', 'padding'],
  ] as const) {
    const id = special[role] === undefined ? undefined : idOf.get(special[role]);
    if (id !== undefined) put(`ggml.${name}_token_id`, { type: 'u32', value: id });
  }
  const around = tokensAround(json.post_processor);
  put('ggml.add_bos_token', { type: 'bool', value: around.before });
  put('ggml.add_eos_token', { type: 'bool', value: around.after });
  put('ggml.add_space_prefix', { type: 'bool', value: spacePrefix(json, pre, byteLevel) });
  if (templates.default !== undefined) put('chat_template', { type: 'string', value: templates.default });
  return fields;
}

function kindsOf(
  tokens: readonly string[],
  ids: ReadonlyMap<number, string>,
  added: readonly JsonObject[],
  unknown: string | undefined,
): number[] {
  const addedKinds = new Map(added.map(({ id, special }) => [Number(id), special === true ? kinds.control : kinds.userDefined]));
  return tokens.map((token, id) => {
    if (!ids.has(id)) return kinds.unused;
    if (token === unknown) return kinds.unknown;
    if (unknown !== undefined && /^<0x[0-9A-F]{2}>$/.test(token)) return kinds.byte;
    return addedKinds.get(id) ?? kinds.normal;
  });
}

function mergesOf(merges: unknown, source: string): [string, string][] {
  if (!Array.isArray(merges)) throw new ConfigError(`gguf: the tokenizer of ${source} has no merges`);
  return merges.map((merge: unknown) => {
    const [left, right] = typeof merge === 'string' ? merge.split(' ') : (merge as string[]);
    return [String(left), String(right)];
  });
}

/** A merged piece scores the better the earlier it is made; pieces that nothing makes come last. */
function scoresOf(tokens: readonly string[], merges: readonly (readonly [string, string])[]): number[] {
  const rank = new Map<string, number>();
  for (const [i, [left, right]] of merges.entries()) if (!rank.has(left + right)) rank.set(left + right, i);
  return tokens.map((token) => -(rank.get(token) ?? merges.length));
}

function ruleName(json: JsonObject, model: JsonObject, pre: readonly JsonObject[], source: string): string {
  const patterns = pre.flatMap((step): string[] => {
    if (step.type === 'ByteLevel') return step.use_regex === false ? [] : [gpt2Pattern];
    if (step.type === 'Digits' && step.individual_digits === true) return ['\\p{N}'];
    const regex = isJsonObject(step.pattern) ? step.pattern.Regex : undefined;
    return step.type === 'Split' && typeof regex === 'string' && step.behavior === 'Isolated' && step.invert !== true
      ? [regex]
      : [`(${String(step.type)})`];
  });
  const nfc = steps(json.normalizer).some(({ type }) => type === 'NFC');
  const name = preTokenizerNameOf({ patterns, nfc, ignoreMerges: model.ignore_merges === true });
  if (name === undefined)
    throw new ConfigError(`gguf: the splitting rule of the tokenizer of ${source} has no name in GGUF; got ${JSON.stringify(patterns)}`);
  return name;
}

/** Whether special tokens stand before and after a text. */
function tokensAround(processor: unknown): { before: boolean; after: boolean } {
  const all =
    isJsonObject(processor) && Array.isArray(processor.processors)
      ? list(processor.processors)
      : isJsonObject(processor)
        ? [processor]
        : [];
  const single = list(all.find(({ type }) => type === 'TemplateProcessing')?.single);
  return {
    before: single.length > 1 && isJsonObject(single[0]?.SpecialToken),
    after: single.length > 1 && isJsonObject(single.at(-1)?.SpecialToken),
  };
}

function spacePrefix(json: JsonObject, pre: readonly JsonObject[], byteLevel: boolean): boolean {
  if (byteLevel) return pre.some(({ type, add_prefix_space }) => type === 'ByteLevel' && add_prefix_space === true);
  return (
    steps(json.normalizer).some(({ type }) => type === 'Prepend') ||
    pre.some(({ type, prepend_scheme }) => type === 'Metaspace' && prepend_scheme !== 'never')
  );
}

/** The metadata of the tokenizer of another GGUF file, as they are there. */
export function copiedTokenizerFields(header: GgufHeader): Map<string, GgufField> {
  const fields = new Map<string, GgufField>();
  for (const [key, value] of header.metadata) {
    if (!key.startsWith('tokenizer.')) continue;
    if (typeof value === 'string') fields.set(key, { type: 'string', value });
    else if (typeof value === 'boolean') fields.set(key, { type: 'bool', value });
    else if (typeof value === 'number') fields.set(key, { type: 'u32', value });
    else if (Array.isArray(value) && value.every((each) => typeof each === 'string')) fields.set(key, { type: 'string[]', value });
    else if (Array.isArray(value) && value.every((each) => typeof each === 'number'))
      fields.set(key, { type: key.endsWith('.scores') ? 'f32[]' : 'i32[]', value });
  }
  return fields;
}
