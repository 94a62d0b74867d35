import { ConfigError } from '../errors.js';

/** Throws `ConfigError` for an option of an initialisation that is no whole number from `least` on, nor null where that is `allowed`. */
export function requireWhole(init: string, option: string, value: unknown, least: 0 | 1, allowed?: 'null'): void {
  if (allowed === 'null' && value === null) return;
  if (Number.isSafeInteger(value) && (value as number) >= least) return;
  const expected = `${allowed === 'null' ? 'null or ' : ''}a ${least === 1 ? 'positive ' : ''}whole number`;
  throw new ConfigError(`${init}: ${option} must be ${expected}; got ${JSON.stringify(value) ?? 'nothing'}`);
}
