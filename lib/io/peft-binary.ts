import type { PeftFormat } from '../adapters/adapter.js';
import { type BinaryConfig, binaryDefaults } from '../adapters/binary-config.js';
import { ConfigError } from '../errors.js';
import { kSignCodeBook } from '../ops/sign.js';
import type { JsonObject } from './json.js';
import { readValue } from './peft-values.js';

const { adapter, bits, dim, scale, dropout, bihead, storage } = binaryDefaults;
const keys = { adapter, bits, dim, scale, dropout, bihead, storage, code_book: kSignCodeBook } as const;

function read(file: JsonObject): Partial<BinaryConfig> {
  const book = readValue(file, 'code_book', 'string', kSignCodeBook);
  if (book !== kSignCodeBook)
    throw new ConfigError(`adapter_config.json: unknown "code_book"; got ${JSON.stringify(book)}, expected "${kSignCodeBook}"`);
  return {
    adapter: readValue<BinaryConfig['adapter']>(file, 'adapter', 'string', adapter),
    bits: readValue<BinaryConfig['bits']>(file, 'bits', 'number', bits),
    dim: readValue(file, 'dim', 'number', dim),
    scale: readValue(file, 'scale', 'number', scale),
    dropout: readValue(file, 'dropout', 'number', dropout),
    bihead: readValue(file, 'bihead', 'boolean', bihead),
    storage: readValue<BinaryConfig['storage']>(file, 'storage', 'string', storage),
  };
}

/**
 * Binary adapters in a folder like PEFT's, which has no such method: codes as `PATH.qweight` and `PATH.qmeta`, weights that train as
 * `PATH.weight`.
 */
export const peftBinary: PeftFormat<BinaryConfig> = {
  keys,
  read,
  write: (config) => ({
    adapter: config.adapter,
    bits: config.bits,
    dim: config.dim,
    scale: config.scale,
    dropout: config.dropout,
    bihead: config.bihead,
    storage: config.storage,
    code_book: kSignCodeBook,
  }),
  metadata: (config) =>
    config.storage === 'codes'
      ? { bits: String(config.bits), dim: String(config.dim), scale: String(config.scale), code_book: kSignCodeBook }
      : {},
};
