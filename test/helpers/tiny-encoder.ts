import { cpSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { temporaryFolder } from './command-line.js';
import { goldenEncoder } from './encoders.js';

const letters = [...'abcdefghijklmnopqrstuvwxyz'];
const special = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]'];
const vocabulary = [...special, ...letters, ...letters.map((letter) => `##${letter}`), 'good', 'bad', 'film', 'play'];

const addedToken = (content: string, id: number): object => ({
  id,
  content,
  single_word: false,
  lstrip: false,
  rstrip: false,
  normalized: false,
  special: true,
});

/** A WordPiece tokenizer of single letters and four words, which are the tokens of the recorded encoders. */
const tokenizer = {
  version: '1.0',
  truncation: null,
  padding: null,
  added_tokens: special.map(addedToken),
  normalizer: { type: 'BertNormalizer', clean_text: true, handle_chinese_chars: true, strip_accents: null, lowercase: true },
  pre_tokenizer: { type: 'BertPreTokenizer' },
  post_processor: { type: 'BertProcessing', sep: ['[SEP]', 3], cls: ['[CLS]', 2] },
  decoder: { type: 'WordPiece', prefix: '##', cleanup: true },
  model: {
    type: 'WordPiece',
    unk_token: '[UNK]',
    continuing_subword_prefix: '##',
    max_input_chars_per_word: 100,
    vocab: Object.fromEntries(vocabulary.map((token, id) => [token, id])),
  },
};

const names = { unk_token: '[UNK]', sep_token: '[SEP]', pad_token: '[PAD]', cls_token: '[CLS]', mask_token: '[MASK]' };

/** A folder with a recorded encoder and a tokenizer for it: 61 tokens, 24 positions, two blocks of width 16. */
export function tinyEncoder(name = 'bert-base', into = temporaryFolder()): string {
  const folder = join(into, name);
  cpSync(goldenEncoder(name), folder, { recursive: true });
  putTokenizer(folder);
  return folder;
}

/** Puts the tokenizer of the tiny encoders into the folder of a model that has at least 61 tokens. */
export function putTokenizer(folder: string): void {
  writeFileSync(join(folder, 'tokenizer.json'), JSON.stringify(tokenizer));
  writeFileSync(join(folder, 'tokenizer_config.json'), JSON.stringify({ ...names, tokenizer_class: 'BertTokenizer' }));
}

/** Rows that a tiny encoder can tell apart: what is good, and what is bad. */
export const opinions = Array.from({ length: 24 }, (_, index) => ({
  text: `${index % 2 === 0 ? 'good' : 'bad'} ${index % 3 === 0 ? 'film' : 'play'} ${letters[index] ?? ''}`,
  label: index % 2 === 0 ? 'pro' : 'contra',
}));
