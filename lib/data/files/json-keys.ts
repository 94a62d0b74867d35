/**
 * A key that stands twice at the top level of the JSON text of an object; `JSON.parse` would silently keep the last. Keys that are spelt differently each time
 * (`"a"` and `"\u0061"`) are not told apart from others.
 */
export function repeatedKey(text: string, value: Readonly<Record<string, unknown>>): string | undefined {
  for (const key of Object.keys(value)) {
    const quoted = JSON.stringify(key);
    const first = text.indexOf(quoted);
    // Mostly a key stands in its row once, and this is all there is to do.
    if (first === -1 || text.indexOf(quoted, first + quoted.length) === -1) continue;
    if (countKey(text, quoted) > 1) return key;
  }
  return undefined;
}

/** How often `quoted` stands as a key of the outermost object. */
function countKey(text: string, quoted: string): number {
  let depth = 0;
  let count = 0;
  for (let at = 0; at < text.length; at++) {
    const char = text[at];
    if (char === '{' || char === '[') depth++;
    else if (char === '}' || char === ']') depth--;
    else if (char === '"') {
      const end = stringEnd(text, at);
      if (depth === 1 && text.startsWith(quoted, at) && end === at + quoted.length && /^\s*:/.test(text.slice(end, end + 64))) count++;
      at = end - 1;
    }
  }
  return count;
}

/** Where the string that opens at `start` is over. */
function stringEnd(text: string, start: number): number {
  for (let at = start + 1; at < text.length; at++) {
    if (text[at] === '\\') at++;
    else if (text[at] === '"') return at + 1;
  }
  return text.length;
}
