import { FormatError, InvalidArgumentError } from '../errors.js';
import { op } from '../native.js';
import type { DType, Tensor } from '../tensor.js';
import { readSafetensorsFiles } from './safetensors-files.js';
import type { SafetensorsDtype } from './safetensors-header.js';
import { type TensorBytes, writeSafetensors } from './safetensors-writer.js';
import { dtypeOfSafetensors, openStoredTensor } from './weights.js';

const asBytes = op('asBytes');
const toDevice = op('toDevice');

const storedDtype = Object.fromEntries(Object.entries(dtypeOfSafetensors).map(([stored, dtype]) => [dtype, stored])) as {
  readonly [dtype in DType]: SafetensorsDtype;
};

/**
 * Loads every tensor of a safetensors file, or of all shards of a `.safetensors.index.json`. The tensors lie in the mapped file: nothing is copied, files of
 * any size load at once, and they cannot be changed in place (`clone` gives one that can). The caller disposes them.
 *
 * Throws `FormatError` for a broken file, a tensor in a shard that the index does not name, and a dtype that cannot be computed with.
 */
export async function loadSafetensors(path: string): Promise<Map<string, Tensor>> {
  const { tensors, unexpected } = await readSafetensorsFiles(path);
  if (unexpected.length > 0)
    throw new FormatError(`${path}: ${unexpected.length} tensors of the shards are not in the index; got "${unexpected[0]}"`);
  const loaded = new Map<string, Tensor>();
  try {
    for (const [name, stored] of tensors) loaded.set(name, openStoredTensor(stored));
  } catch (error) {
    for (const tensor of loaded.values()) tensor.dispose();
    throw error;
  }
  return loaded;
}

/**
 * Writes tensors to a safetensors file that appears complete or not at all; a file that was there before stays until then. Values are those after all
 * work queued so far. `metadata` defaults to `{ format: 'pt' }`. Views are written as what they show.
 */
export async function saveSafetensors(
  path: string,
  tensors: Readonly<Record<string, Tensor>> | ReadonlyMap<string, Tensor>,
  metadata: Readonly<Record<string, string>> = { format: 'pt' },
): Promise<void> {
  const named: (readonly [string, Tensor])[] =
    tensors instanceof Map ? [...(tensors as ReadonlyMap<string, Tensor>)] : Object.entries(tensors as Readonly<Record<string, Tensor>>);
  const snapshots: (() => void)[] = [];
  const plan: Record<string, TensorBytes> = Object.create(null);
  try {
    for (const [name, tensor] of named) {
      if (Object.hasOwn(plan, name)) throw new InvalidArgumentError(`saveSafetensors: two tensors are called "${name}"`);
      // A share of its own, so that the caller may dispose the tensor while the file is written.
      const share = tensor.handle.detach();
      snapshots.push(() => share.dispose());
      plan[name] = { dtype: storedDtype[tensor.dtype], shape: tensor.shape, data: () => readBytes(share) };
    }
    await writeSafetensors(path, plan, metadata);
  } finally {
    for (const release of snapshots) release();
  }
}

/** @internal The bytes of a tensor's elements in row order, little-endian. */
export const tensorBytes = (value: Tensor): Promise<Uint8Array> => readBytes(value.handle);

async function readBytes(handle: Tensor['handle']): Promise<Uint8Array> {
  const local = handle.device === 'cpu' ? handle : toDevice(handle, 'cpu');
  const bytes = asBytes(local);
  try {
    return (await bytes.read()) as Uint8Array;
  } finally {
    bytes.dispose();
    if (local !== handle) local.dispose();
  }
}
