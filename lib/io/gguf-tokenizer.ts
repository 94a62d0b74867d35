import { FormatError } from '../errors.js';
import { GgufMetadata } from './gguf/metadata.js';
import type { GgufHeader } from './gguf/parser.js';
import { type PreTokenizer, preTokenizerOf } from './gguf/pre-tokenizers.js';
import type { JsonObject } from './json.js';
import { addedToken, type TokenizerData } from './tokenizer-data.js';

// Kinds of entries in tokenizer.ggml.token_type.
const normal = 1;
const unknown = 2;
const control = 3;
const userDefined = 4;

interface Vocabulary {
  readonly tokens: readonly string[];
  readonly ids: ReadonlyMap<string, number>;
  readonly kinds: readonly number[];
}

/** Whether a GGUF file has a tokenizer; files of models without one say so. */
export function hasGgufTokenizer({ metadata }: GgufHeader): boolean {
  const kind = metadata.get('tokenizer.ggml.model');
  return kind !== undefined && kind !== 'none' && kind !== 'no_vocab';
}

/**
 * Builds a tokenizer from GGUF metadata: byte-level BPE (`gpt2`) with the splitting rule that `tokenizer.ggml.pre` names, or BPE with byte fallback in the
 * manner of SentencePiece (`llama`), whose merges follow from the scores.
 *
 * Throws `FormatError` for missing or contradictory metadata and for another kind of tokenizer.
 */
export function ggufTokenizer(header: GgufHeader): TokenizerData {
  const metadata = new GgufMetadata(header);
  const kind = metadata.required('tokenizer.ggml.model', metadata.text);
  const vocabulary = readVocabulary(header, metadata);
  const special: Record<string, string> = {};
  for (const [role, name] of [
    ['bos', 'bos'],
    ['eos', 'eos'],
    ['pad', 'padding'],
    ['unk', 'unknown'],
  ] as const) {
    const token = tokenOf(header, metadata, vocabulary, name);
    if (token !== undefined) special[role] = token;
  }
  const stops = ['eot', 'eom'].flatMap((name) => tokenOf(header, metadata, vocabulary, name) ?? []);
  const build = kind === 'gpt2' ? byteLevel : kind === 'llama' ? sentencePiece : undefined;
  if (build === undefined) throw new FormatError(`${header.file}: tokenizer "${kind}" is not supported; expected gpt2 or llama`);
  return { source: header.file, json: build(header, metadata, vocabulary, special), special, stops, templates: templatesOf(metadata) };
}

function readVocabulary(header: GgufHeader, metadata: GgufMetadata): Vocabulary {
  const tokens = metadata.required('tokenizer.ggml.tokens', metadata.texts);
  const kinds = metadata.numbers('tokenizer.ggml.token_type') ?? tokens.map(() => normal);
  if (kinds.length !== tokens.length)
    throw new FormatError(
      `${header.file}: "tokenizer.ggml.token_type" has the wrong length; got ${kinds.length}, expected ${tokens.length}`,
    );
  const ids = new Map(tokens.map((token, id) => [token, id]));
  if (ids.size !== tokens.length) throw new FormatError(`${header.file}: "tokenizer.ggml.tokens" repeats a token`);
  return { tokens, ids, kinds };
}

function tokenOf(header: GgufHeader, metadata: GgufMetadata, { tokens }: Vocabulary, name: string): string | undefined {
  const key = `tokenizer.ggml.${name}_token_id`;
  const id = metadata.whole(key);
  if (id === undefined) return undefined;
  const token = tokens[id];
  if (token === undefined) throw new FormatError(`${header.file}: "${key}" is no token; got ${id}, expected less than ${tokens.length}`);
  return token;
}

function templatesOf(metadata: GgufMetadata): Record<string, string> {
  const templates: Record<string, string> = {};
  const usual = metadata.text('tokenizer.chat_template');
  if (usual !== undefined) templates.default = usual;
  for (const name of metadata.texts('tokenizer.chat_templates') ?? []) {
    const template = metadata.text(`tokenizer.chat_template.${name}`);
    if (template !== undefined) templates[name] = template;
  }
  return templates;
}

type Build = (header: GgufHeader, metadata: GgufMetadata, vocabulary: Vocabulary, special: Readonly<Record<string, string>>) => JsonObject;

const byteLevel: Build = (header, metadata, vocabulary, special) => {
  const rule: PreTokenizer = preTokenizerOf(metadata.text('tokenizer.ggml.pre') ?? 'default', header.file);
  const merges = metadata.required('tokenizer.ggml.merges', metadata.texts).map((merge) => {
    const space = merge.indexOf(' ', 1);
    if (space < 0) throw new FormatError(`${header.file}: "tokenizer.ggml.merges" has an entry without two parts; got "${merge}"`);
    return [merge.slice(0, space), merge.slice(space + 1)];
  });
  const prefix = metadata.flag('tokenizer.ggml.add_space_prefix') ?? false;
  const bytes = { type: 'ByteLevel', add_prefix_space: prefix, trim_offsets: true, use_regex: false };
  const splits = rule.patterns.map((pattern) => ({ type: 'Split', pattern: { Regex: pattern }, behavior: 'Isolated', invert: false }));
  return {
    version: '1.0',
    added_tokens: addedTokens(vocabulary),
    normalizer: rule.nfc ? { type: 'NFC' } : null,
    pre_tokenizer: { type: 'Sequence', pretokenizers: [...splits, bytes] },
    post_processor: templateProcessor(metadata, vocabulary, special, rule.addBos),
    decoder: { ...bytes, use_regex: true },
    model: bpe(vocabulary, merges, { ignore_merges: rule.ignoreMerges }),
  };
};

const sentencePiece: Build = (header, metadata, vocabulary, special) => {
  const prefix = metadata.flag('tokenizer.ggml.add_space_prefix') ?? true;
  const spaces = { type: 'Replace', pattern: { String: ' ' }, content: '▁' };
  const decoders = [{ type: 'Replace', pattern: { String: '▁' }, content: ' ' }, { type: 'ByteFallback' }, { type: 'Fuse' }];
  return {
    version: '1.0',
    added_tokens: addedTokens(vocabulary),
    normalizer: { type: 'Sequence', normalizers: prefix ? [{ type: 'Prepend', prepend: '▁' }, spaces] : [spaces] },
    pre_tokenizer: null,
    post_processor: templateProcessor(metadata, vocabulary, special, true),
    decoder: { type: 'Sequence', decoders: prefix ? [...decoders, { type: 'Strip', content: ' ', start: 1, stop: 0 }] : decoders },
    model: bpe(vocabulary, mergesFromScores(header, metadata, vocabulary), {
      unk_token: special.unk ?? null,
      fuse_unk: true,
      byte_fallback: vocabulary.ids.has('<0x00>'),
    }),
  };
};

function bpe({ ids }: Vocabulary, merges: readonly (readonly string[])[], options: JsonObject): JsonObject {
  return { type: 'BPE', vocab: Object.fromEntries(ids), merges, ...options };
}

function addedTokens({ tokens, kinds }: Vocabulary): JsonObject[] {
  return tokens.flatMap((token, id) => {
    const kind = kinds[id];
    const special = kind === control || kind === unknown;
    return (special || kind === userDefined) && token !== '' ? [addedToken(id, token, special)] : [];
  });
}

/** Puts the begin and end tokens around a text where the metadata say so. */
function templateProcessor(
  metadata: GgufMetadata,
  { ids }: Vocabulary,
  special: Readonly<Record<string, string>>,
  addBosByDefault: boolean,
): JsonObject | null {
  const before = (metadata.flag('tokenizer.ggml.add_bos_token') ?? addBosByDefault) ? special.bos : undefined;
  const after = (metadata.flag('tokenizer.ggml.add_eos_token') ?? false) ? special.eos : undefined;
  const around = [before, after].filter((token) => token !== undefined);
  if (around.length === 0) return null;
  const piece = (token: string | undefined, type: number): JsonObject[] =>
    token === undefined ? [] : [{ SpecialToken: { id: token, type_id: type } }];
  const sequence = (id: string, type: number): JsonObject[] => [
    ...piece(before, type),
    { Sequence: { id, type_id: type } },
    ...piece(after, type),
  ];
  return {
    type: 'TemplateProcessing',
    single: sequence('A', 0),
    pair: [...sequence('A', 0), ...sequence('B', 1)],
    special_tokens: Object.fromEntries(around.map((token) => [token, { id: token, ids: [ids.get(token)], tokens: [token] }])),
  };
}

/**
 * All ways to join two pieces into a third, the piece with the highest score first: SentencePiece joins the neighbours that give the best piece, whatever
 * they are, so each piece brings one merge per split.
 */
function mergesFromScores(header: GgufHeader, metadata: GgufMetadata, { tokens, ids, kinds }: Vocabulary): string[][] {
  const scores = metadata.required('tokenizer.ggml.scores', metadata.numbers);
  if (scores.length !== tokens.length)
    throw new FormatError(`${header.file}: "tokenizer.ggml.scores" has the wrong length; got ${scores.length}, expected ${tokens.length}`);
  const order = tokens.map((_, id) => id).filter((id) => kinds[id] === normal);
  order.sort((a, b) => (scores[b] ?? 0) - (scores[a] ?? 0) || a - b);
  const joinable = (part: string): boolean => kinds[ids.get(part) ?? -1] === normal;
  const merges: string[][] = [];
  for (const id of order) {
    const piece = tokens[id] ?? '';
    // Longer pieces come from no published vocabulary; the bound keeps a hostile one from taking quadratic time.
    if (piece.length > 512) continue;
    for (let cut = 1; cut < piece.length; cut++) {
      const left = piece.slice(0, cut);
      const right = piece.slice(cut);
      if (joinable(left) && joinable(right)) merges.push([left, right]);
    }
  }
  return merges;
}
