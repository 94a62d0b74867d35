import { join } from 'node:path';
import { ConfigError } from '../../errors.js';
import { noGrad, scope } from '../../scope.js';
import { writeFileAtomically } from '../atomic-file.js';
import type { JsonObject } from '../json.js';
import { saveSafetensors } from '../safetensors.js';
import { writeDiffusers } from './diffusers.js';
import { type AdapterGgufType, writeGgufAdapter } from './gguf.js';
import { writeKohya } from './kohya.js';
import { writeMlx } from './mlx.js';
import { writePeftPairs } from './peft-pairs.js';
import type { Dialect, PortableAdapter } from './portable.js';

export interface WriteAdapterOptions {
  /** `config.json` of the base model; GGUF needs it, and mlx for heads and embeddings. */
  readonly config?: JsonObject;
  /** Type of the tensors of a GGUF adapter. Default f32. */
  readonly type?: AdapterGgufType;
}

/**
 * Writes an adapter in a dialect: peft and mlx a folder, kohya, diffusers and gguf one file. Files appear whole or not at all. Returns the number of tensors.
 * Throws `ConfigError`, before anything is written, for what the format has no place for.
 */
export async function writeAdapter(
  adapter: PortableAdapter,
  dialect: Dialect,
  out: string,
  options: WriteAdapterOptions = {},
): Promise<number> {
  if (adapter.pairs.size === 0) throw new ConfigError('convert: the adapter has no pairs');
  return scope(async () => {
    switch (dialect) {
      case 'kohya': {
        const { tensors, metadata } = writeKohya(adapter);
        await saveSafetensors(out, tensors, metadata);
        return tensors.size;
      }
      case 'diffusers': {
        const tensors = noGrad(() => writeDiffusers(adapter));
        await saveSafetensors(out, tensors);
        return tensors.size;
      }
      case 'mlx': {
        const { tensors, config } = noGrad(() => writeMlx(adapter, options.config));
        await saveSafetensors(join(out, 'adapters.safetensors'), tensors);
        await writeFileAtomically(join(out, 'adapter_config.json'), `${JSON.stringify(config, undefined, 2)}\n`);
        return tensors.size;
      }
      case 'peft': {
        const { tensors, config } = writePeftPairs(adapter);
        await saveSafetensors(join(out, 'adapter_model.safetensors'), tensors);
        await writeFileAtomically(join(out, 'adapter_config.json'), config);
        return tensors.size;
      }
      case 'gguf': {
        if (options.config === undefined)
          throw new ConfigError('convert: a GGUF adapter needs the config of its base model, which names the architecture (--model)');
        return writeGgufAdapter(out, adapter, options.config, options.type);
      }
      default:
        throw new ConfigError(`convert: unknown format "${String(dialect)}"; expected peft, kohya, mlx, diffusers or gguf`);
    }
  });
}
