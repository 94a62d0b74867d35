import { ConfigError } from '../errors.js';

const compiled = new Map<string, RegExp>();

/**
 * A Python regular expression as a JavaScript one: `(?P<n>…)`, `(?P=n)`, `\A`, `\Z` and leading inline flags are rewritten, the rest is common to both.
 * `before` and `after` are put around the pattern, whose alternations stay grouped.
 * Throws `ConfigError` naming `key` when the pattern does not compile.
 */
export function pythonRegex(key: string, pattern: string, before = '^', after = '$'): RegExp {
  const cacheKey = `${before}\0${pattern}\0${after}`;
  const known = compiled.get(cacheKey);
  if (known) return known;
  let flags = '';
  let body = pattern.replace(/^\(\?([aiLmsux]+)\)/, (_, letters: string) => {
    flags = [...new Set(letters)].filter((letter) => 'ims'.includes(letter)).join('');
    return '';
  });
  // Pairs with a backslash are taken whole, so that an escaped backslash before a letter stays what it is.
  body = body.replace(/\\([\s\S])|\(\?P<(\w+)>|\(\?P=(\w+)\)/g, (whole, escaped?: string, group?: string, reference?: string) => {
    if (escaped === 'A') return '^';
    if (escaped === 'Z') return '$';
    if (escaped !== undefined) return whole;
    return group !== undefined ? `(?<${group}>` : `\\k<${reference}>`;
  });
  let regex: RegExp;
  try {
    regex = new RegExp(`${before}(?:${body})${after}`, flags);
  } catch (cause) {
    throw new ConfigError(`${key}: not a valid regular expression; got ${JSON.stringify(pattern)}`, { cause });
  }
  compiled.set(cacheKey, regex);
  return regex;
}
