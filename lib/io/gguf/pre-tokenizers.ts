import { didYouMean, FormatError } from '../../errors.js';

/** How a byte-level BPE cuts a text before it merges: each pattern in turn isolates its matches. */
export interface PreTokenizer {
  readonly patterns: readonly string[];
  /** A piece that is a token is taken as it is, whatever the merges say. */
  readonly ignoreMerges: boolean;
  /** Whether the begin token is put before a text when the file does not say. */
  readonly addBos: boolean;
  /** Whether the text is brought to Unicode's composed form first. */
  readonly nfc: boolean;
}

const contractions = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
const gpt2 = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
const words = (digits: string): string =>
  `${contractions}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`;
const upper = '[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]';
const lower = '[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]';
const tekken =
  `[^\\r\\n\\p{L}\\p{N}]?${upper}*${lower}+|[^\\r\\n\\p{L}\\p{N}]?${upper}+${lower}*|\\p{N}` +
  '| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+';
const punctuation = '[\\p{P}\\$\\+<=>\\^~\\|]+';

const plain = { ignoreMerges: false, addBos: false, nfc: false } as const;

const rules: readonly { readonly names: readonly string[]; readonly rule: PreTokenizer }[] = [
  { names: ['gpt-2', 'gpt2', 'phi-2', 'mpt', 'olmo'], rule: { ...plain, patterns: [gpt2] } },
  {
    names: ['smollm', 'starcoder', 'refact', 'command-r', 'codeshell', 'exaone', 'minerva-7b'],
    rule: { ...plain, patterns: ['\\p{N}', gpt2] },
  },
  { names: ['qwen2', 'deepseek-r1-qwen', 'megrez'], rule: { ...plain, patterns: [words('\\p{N}')], nfc: true } },
  {
    names: ['llama-bpe', 'llama3', 'llama-v3', 'falcon3', 'pixtral'],
    rule: { patterns: [words('\\p{N}{1,3}')], ignoreMerges: true, addBos: true, nfc: false },
  },
  { names: ['tekken'], rule: { patterns: [tekken], ignoreMerges: true, addBos: true, nfc: false } },
  { names: ['default'], rule: { ...plain, patterns: [punctuation, gpt2, '\\p{N}+', '[0-9][0-9][0-9]'] } },
];

/** The rule that `tokenizer.ggml.pre` names. Throws `FormatError` for a name that is not known: another rule would give other ids without a word. */
export function preTokenizerOf(name: string, file: string): PreTokenizer {
  const found = rules.find(({ names }) => names.includes(name));
  if (found !== undefined) return found.rule;
  const names = rules.flatMap((entry) => entry.names);
  throw new FormatError(
    `${file}: "tokenizer.ggml.pre" is not known; got "${name}"${didYouMean(name, names)}; expected one of ${names.join(', ')}`,
  );
}

/** The pattern that a byte-level step cuts by where no other does. */
export const gpt2Pattern = gpt2;

/** The name for `tokenizer.ggml.pre` of a rule, or undefined when no published family cuts like it. */
export function preTokenizerNameOf(rule: Pick<PreTokenizer, 'patterns' | 'ignoreMerges' | 'nfc'>): string | undefined {
  const same = (a: readonly string[], b: readonly string[]): boolean => a.length === b.length && a.every((pattern, i) => pattern === b[i]);
  return rules.find(
    (entry) => same(entry.rule.patterns, rule.patterns) && entry.rule.ignoreMerges === rule.ignoreMerges && entry.rule.nfc === rule.nfc,
  )?.names[0];
}
