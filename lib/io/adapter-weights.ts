import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Tensor } from '../tensor.js';
import { loadSafetensors } from './safetensors.js';
import { readSafetensorsFiles, type SafetensorsFiles } from './safetensors-files.js';
import { loadTorchFile, readTorchFile } from './torch-file.js';

/** The file that adapters are written to. */
export const kAdapterWeights = 'adapter_model.safetensors';
/** The file of older programs, which torch.save wrote. */
const kTorchWeights = 'adapter_model.bin';

/** The file of an adapter folder that holds its tensors: the safetensors where both kinds are there; undefined where there is none. */
export function adapterWeights(folder: string): string | undefined {
  return [kAdapterWeights, kTorchWeights].map((name) => join(folder, name)).find((path) => existsSync(path));
}

const isTorch = (path: string): boolean => path.endsWith('.bin');

/** The tensors of such a file without their values. Throws `FormatError` for a broken one. */
export const readAdapterWeights = async (path: string): Promise<SafetensorsFiles> =>
  isTorch(path) ? readTorchFile(path) : readSafetensorsFiles(path);

/** All tensors of such a file; the caller disposes them. Throws as `loadSafetensors` and `loadTorchFile` do. */
export const loadAdapterWeights = async (path: string): Promise<Map<string, Tensor>> =>
  isTorch(path) ? loadTorchFile(path) : loadSafetensors(path);
