/** Turns ids into text as they come: what `push` and `end` return, joined, is the text of all ids (where these spell whole characters). */
export interface TokenStream {
  /** The text that this id completes: nothing while a character is incomplete. */
  push(id: number): string;
  /** What was held back; the stream can be used again from the start. */
  end(): string;
}

const replacement = '\ufffd';

/**
 * A stream over a decoder of whole sequences. Text of an id depends on its neighbours (spaces, parts of one character), so ids are decoded together with
 * those since the last complete piece; text that ends in a broken character waits for the rest.
 */
export function tokenStream(decode: (ids: readonly number[]) => string): TokenStream {
  let ids: number[] = [];
  // ids before `shown` have been returned as text; they stay as the context of the next.
  let shown = 0;
  return {
    push(id) {
      ids.push(id);
      const before = shown === 0 ? '' : decode(ids.slice(0, shown));
      const text = decode(ids);
      if (text.length <= before.length || text.endsWith(replacement)) return '';
      ids = ids.slice(shown);
      shown = ids.length;
      return text.slice(before.length);
    },
    end() {
      const before = shown === 0 ? '' : decode(ids.slice(0, shown));
      const text = decode(ids);
      ids = [];
      shown = 0;
      return text.slice(before.length);
    },
  };
}
