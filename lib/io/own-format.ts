import { type CommonConfig, commonDefaults, type PeftFormat } from '../adapters/adapter.js';

const snake = (key: string): string => key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

/**
 * Files in the form of PEFT's for a method that PEFT does not have: every option under its own name with underscores. The check of the method says what values can
 * be.
 */
export function ownFormat<Config extends CommonConfig>(defaults: Config): PeftFormat<Config> {
  const keys = Object.keys(defaults).filter((key) => !Object.hasOwn(commonDefaults, key)) as (keyof Config & string)[];
  return {
    keys: Object.fromEntries(keys.map((key) => [snake(key), defaults[key]])),
    read: (file) =>
      Object.fromEntries(keys.filter((key) => file[snake(key)] !== undefined).map((key) => [key, file[snake(key)]])) as Partial<Config>,
    write: (config) => Object.fromEntries(keys.map((key) => [snake(key), config[key]])),
  };
}
