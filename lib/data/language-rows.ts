import { targetCount } from './batch.js';
import { encodeExample, type Sequence, type TextTokenizer } from './encode.js';
import { type Example, exampleOf } from './example.js';
import { packSequences } from './packing.js';
import type { EncodingOf } from './row-encoding.js';

/** Rows as sequences of at most `sequence` tokens, for language models. */
export function languageRows(tokenizer: TextTokenizer, sequence: number): EncodingOf<Sequence> {
  return (source) => {
    const toExample = exampleOf(source);
    return {
      async encode(row) {
        const example = toExample(row);
        const encoded = await encodeExample(example, tokenizer, sequence);
        return targetCount(encoded) > 0 ? { row: encoded } : { row: encoded, empty: emptyReason(example, encoded, sequence) };
      },
      length: ({ ids }) => ids.length,
      join: packSequences,
    };
  };
}

function emptyReason(example: Example, encoded: Sequence, sequence: number): string {
  if (encoded.ids.length < 2) return `got ${encoded.ids.length} token${encoded.ids.length === 1 ? '' : 's'}, expected at least 2`;
  if (example.kind === 'chat' && encoded.ids.length < sequence) return 'the conversation has no assistant turn';
  return `what comes before the ${example.kind === 'chat' ? 'first assistant turn' : 'completion'} fills all ${sequence} tokens of \`sequence\``;
}
