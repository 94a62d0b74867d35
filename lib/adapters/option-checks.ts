import { ConfigError } from '../errors.js';
import type { TokenNetwork } from '../nn/virtual-tokens.js';

/** An option that cannot work. */
export const wrongOption = (method: string, key: string, got: unknown, expected: string): ConfigError =>
  new ConfigError(`${method}: ${key} is out of range; got ${JSON.stringify(got) ?? 'nothing'}, expected ${expected}`);

/** Throws `ConfigError` for a number that counts nothing. */
export function requireCount(method: string, key: string, value: unknown): void {
  if (!Number.isSafeInteger(value) || (value as number) <= 0) throw wrongOption(method, key, value, 'a positive integer');
}

/** Throws `ConfigError` for a value that is none of these. */
export function requireOneOf(method: string, key: string, value: unknown, allowed: readonly unknown[]): void {
  if (!allowed.includes(value)) throw wrongOption(method, key, value, allowed.map((one) => JSON.stringify(one)).join(' or '));
}

/** Throws `ConfigError` for what is no probability below 1. */
export function requireDropout(method: string, got: unknown): void {
  if (!(typeof got === 'number' && got >= 0 && got < 1)) throw wrongOption(method, 'dropout', got, 'a number of at least 0 and below 1');
}

/** Throws `ConfigError` for an encoder that puts nothing in front of its tokens: its head reads the first of them. */
export function requireEmbeddings(method: string, network: TokenNetwork): void {
  if (!network.takesEmbeddings)
    throw new ConfigError(
      `${method}: puts embeddings in front of the tokens of a text; got ${network.constructor.name}, expected type "deep-prompt" or "prefix"`,
    );
}
