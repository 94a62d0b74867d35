import { FormatError } from '../errors.js';
import { type ByteSource, withFile } from './byte-source.js';
import { type GgufConfig, ggufConfig } from './gguf/config.js';
import { type NamedGgufTensor, namedTensors, ropeFactorsName } from './gguf/names.js';
import { type GgufHeader, parseGguf } from './gguf/parser.js';

/** A GGUF model: what the file says, its config in the keys of `config.json`, and its tensors by checkpoint name. No tensor data is read. */
export interface GgufModel extends GgufConfig {
  readonly header: GgufHeader;
  readonly tensors: ReadonlyMap<string, NamedGgufTensor>;
}

/** Reads the header of a GGUF file. Throws `FormatError` for a broken one. */
export function readGguf(path: string): GgufHeader {
  return withFile(path, parseGguf);
}

/**
 * Reads a GGUF file as a model of the llama, qwen2 or qwen3 architecture. Throws `FormatError` for a broken file, `ConfigError` for another
 * architecture or an unsupported feature.
 */
export function readGgufModel(path: string): GgufModel {
  return withFile(path, (source) => {
    const header = parseGguf(source);
    if (header.metadata.has('split.count') && header.metadata.get('split.count') !== 1) {
      throw new FormatError(`${path}: is one of several parts; merge them into one file first`);
    }
    const { config, interleaved } = ggufConfig(header, ropeFactors(header, source));
    return { header, config, interleaved, tensors: namedTensors(header, interleaved) };
  });
}

function ropeFactors(header: GgufHeader, source: ByteSource): Float32Array | undefined {
  const tensor = header.tensors.get(ropeFactorsName);
  if (tensor === undefined) return undefined;
  if (tensor.type.name !== 'F32' || tensor.shape.length !== 1 || tensor.bytes > 1 << 16) {
    throw new FormatError(
      `${header.file}: tensor "${ropeFactorsName}" must be a short F32 vector; got ${tensor.type.name} [${tensor.shape.join(', ')}]`,
    );
  }
  return new Float32Array(source.read(tensor.start, tensor.bytes).slice().buffer);
}
