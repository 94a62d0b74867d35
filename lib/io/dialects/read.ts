import { existsSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { FormatError } from '../../errors.js';
import type { Tensor } from '../../tensor.js';
import { adapterWeights, loadAdapterWeights, readAdapterWeights } from '../adapter-weights.js';
import { type JsonObject, readJsonObject } from '../json.js';
import { readPeftFolder } from '../peft.js';
import { detectDialect } from './detect.js';
import { readDiffusers } from './diffusers.js';
import { readGgufAdapter } from './gguf.js';
import { readKohya } from './kohya.js';
import { readMlx } from './mlx.js';
import { readPeftPairs } from './peft-pairs.js';
import type { Dialect, PortableAdapter } from './portable.js';

export interface ReadAdapterOptions {
  /** Module paths of the base model: turns kohya's names back into paths where they are not those of a decoder language model. */
  readonly modules?: Iterable<string>;
  /** `config.json` of the base model, for GGUF adapters of llama and for adapted embeddings in mlx-lm. */
  readonly config?: JsonObject;
}

/** An adapter as read, and what told its dialect. The caller disposes it. */
export interface ReadAdapter extends PortableAdapter {
  readonly dialect: Dialect;
  /** The tensor name or file that told. */
  readonly evidence: string;
}

const files = {
  'adapter_model.safetensors': 'peft',
  'adapters.safetensors': 'mlx',
  'pytorch_lora_weights.safetensors': 'diffusers',
} as const;

function weightsIn(folder: string): string {
  const present = Object.keys(files).filter((name) => existsSync(join(folder, name)));
  const [only, other] = present;
  const older = adapterWeights(folder);
  if (only === undefined && older !== undefined) return older;
  if (only === undefined) throw new FormatError(`${folder}: holds no LoRA adapter; expected one of ${Object.keys(files).join(', ')}`);
  if (other !== undefined)
    throw new FormatError(`${folder}: holds adapters of two dialects; got ${only} and ${other}; give the path of one`);
  return join(folder, only);
}

/**
 * Reads a plain LoRA adapter of any dialect: a folder of PEFT, mlx-lm or diffusers, a `.safetensors` file, or a GGUF adapter.
 *
 * Throws `FormatError` for a broken file, a mixture of dialects, and anything that is more than low-rank pairs; `ConfigError` where the base model is needed.
 */
export async function readAdapter(path: string, options: ReadAdapterOptions = {}): Promise<ReadAdapter> {
  const status = statSync(path, { throwIfNoEntry: false });
  if (status === undefined) throw new FormatError(`${path}: there is no such file or folder`);
  if (path.endsWith('.gguf')) {
    const adapter = readGgufAdapter(path, options.config);
    return { ...adapter, dialect: 'gguf', evidence: 'general.type', dispose: () => disposePairs(adapter) };
  }
  const file = status.isDirectory() ? weightsIn(path) : path;
  const { tensors: stored, metadata } = await readAdapterWeights(file);
  const { dialect, evidence } = detectDialect(file, stored.keys());
  const owned = dialect === 'peft' ? await peftTensors(file) : { tensors: await loadAdapterWeights(file), adapter: undefined };
  const { tensors } = owned;
  const dispose = () => {
    for (const tensor of tensors.values()) tensor.dispose();
  };
  try {
    const adapter =
      owned.adapter ??
      (dialect === 'kohya'
        ? await readKohya(file, tensors, options.modules)
        : dialect === 'mlx'
          ? readMlx(file, tensors, await configBeside(file), options.config)
          : await readDiffusers(file, tensors, metadata));
    const both = () => {
      disposePairs(adapter);
      dispose();
    };
    return { ...adapter, dialect, evidence, dispose: both };
  } catch (error) {
    dispose();
    throw error;
  }
}

function configBeside(file: string): Promise<JsonObject> {
  const config = join(dirname(file), 'adapter_config.json');
  if (!existsSync(config)) throw new FormatError(`${file}: needs adapter_config.json beside it, which has the scale`);
  return readJsonObject(config);
}

async function peftTensors(file: string): Promise<{ tensors: ReadonlyMap<string, Tensor>; adapter: Omit<PortableAdapter, 'dispose'> }> {
  await configBeside(file);
  const source = await readPeftFolder(dirname(file));
  try {
    return { tensors: source.tensors, adapter: readPeftPairs(file, source) };
  } catch (error) {
    for (const tensor of source.tensors.values()) tensor.dispose();
    throw error;
  }
}

function disposePairs({ pairs }: Pick<PortableAdapter, 'pairs'>): void {
  for (const { a, b } of pairs.values()) {
    a.dispose();
    b.dispose();
  }
}
