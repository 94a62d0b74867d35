import { FormatError } from '../errors.js';
import { permute } from '../ops/shape.js';
import type { Tensor } from '../tensor.js';
import { type ByteSource, withFile } from './byte-source.js';
import type { SafetensorsFiles, StoredTensor } from './safetensors-files.js';
import { safetensorsBytes } from './safetensors-header.js';
import { type PickledTensor, readTensorPickle } from './torch-pickle.js';
import { type StoredEntry, storedEntries } from './torch-zip.js';
import { openStoredTensor } from './weights.js';

/** A pickle larger than this is not that of an adapter: a tensor takes some 200 bytes of it. */
const kMaxPickleBytes = 1 << 26;

/** A tensor of a file of torch.save; its dimensions may lie in memory in another order than they have. */
interface TorchTensor extends StoredTensor {
  /** `shape[order[i]]` is dimension i in memory. */
  readonly order: readonly number[];
}

/**
 * The tensors of a file that torch.save wrote of a dictionary of tensors (`adapter_model.bin`): their dtypes, shapes and places. The file is read as data, and
 * nothing that it names is run. Throws `FormatError` for a broken file and for one with anything but tensors, which it names.
 */
export function readTorchFile(path: string): SafetensorsFiles {
  return { files: [path], tensors: torchTensors(path), metadata: {}, unexpected: [] };
}

/** The same with the values: tensors over the mapped file. The caller disposes them. */
export function loadTorchFile(path: string): Map<string, Tensor> {
  const loaded = new Map<string, Tensor>();
  try {
    for (const [name, stored] of torchTensors(path)) loaded.set(name, openTorchTensor(stored));
    return loaded;
  } catch (error) {
    for (const tensor of loaded.values()) tensor.dispose();
    throw error;
  }
}

function openTorchTensor({ order, ...stored }: TorchTensor): Tensor {
  const inMemory = openStoredTensor({ ...stored, shape: order.map((dim) => stored.shape[dim] as number) });
  if (order.every((dim, place) => dim === place)) return inMemory;
  try {
    return permute(
      inMemory,
      order.map((_, dim) => order.indexOf(dim)),
    );
  } finally {
    inMemory.dispose();
  }
}

function torchTensors(path: string): Map<string, TorchTensor> {
  return withFile(path, (source) => {
    const entries = storedEntries(source);
    const pickles = [...entries.keys()].filter((name) => /^[^/]*\/data\.pkl$/.test(name));
    const [pickle] = pickles;
    if (pickle === undefined || pickles.length > 1)
      throw new FormatError(`${path}: is no file of torch.save; got ${pickles.length} files data.pkl in its archive, expected one`);
    const root = pickle.slice(0, -'data.pkl'.length);
    requireLittleEndian(source, entries.get(`${root}byteorder`));
    const place = entries.get(pickle) as StoredEntry;
    if (place.bytes > kMaxPickleBytes)
      throw new FormatError(`${path}: its pickle is too large; got ${place.bytes} bytes, expected at most ${kMaxPickleBytes}`);
    const found = readTensorPickle(source.read(place.start, place.bytes).slice(), path);
    return new Map(Array.from(found, ([name, tensor]) => [name, placed(name, tensor, root, entries, source)]));
  });
}

function requireLittleEndian(source: ByteSource, entry: StoredEntry | undefined): void {
  if (entry === undefined) return;
  const order = Buffer.from(source.read(entry.start, Math.min(entry.bytes, 16))).toString('latin1');
  if (order !== 'little') throw new FormatError(`${source.name}: its numbers are in another byte order; got "${order}", expected "little"`);
}

/** A tensor with its place in the file. Throws `FormatError` where it lies outside its storage, or in steps. */
function placed(
  name: string,
  { storage, offset, shape, strides }: PickledTensor,
  root: string,
  entries: ReadonlyMap<string, StoredEntry>,
  { name: file, size: fileBytes }: ByteSource,
): TorchTensor {
  const wrong = (problem: string): FormatError => new FormatError(`${file}: tensor "${name}" ${problem}`);
  const { dtype, key, elements } = storage;
  const entry = entries.get(`${root}data/${key}`);
  if (entry === undefined) throw wrong(`lies in a storage that is missing; expected "${root}data/${key}" in the archive`);
  if (safetensorsBytes(dtype, [elements]) !== entry.bytes)
    throw wrong(`lies in a storage of another size; got ${entry.bytes} bytes, expected ${elements} elements of ${dtype}`);
  if (shape.length !== strides.length) throw wrong(`has a shape that cannot be; got [${shape}] with strides [${strides}]`);
  const bytes = safetensorsBytes(dtype, shape);
  const start = entry.start + safetensorsBytes(dtype, [offset]);
  if (!(start + bytes <= entry.start + entry.bytes))
    throw wrong(`lies outside its storage; got [${shape}] at element ${offset} of ${elements}`);
  return { name, dtype, shape, start, bytes, file, fileBytes, order: memoryOrder(shape, strides, wrong) };
}

/** The dimensions from the slowest to the fastest in memory. */
function memoryOrder(shape: readonly number[], strides: readonly number[], wrong: (problem: string) => FormatError): number[] {
  const dims = [...shape.keys()];
  if (shape.includes(0)) return dims;
  // Where there is one place the stride says nothing.
  const order = dims.sort(
    (a, b) => (strides[b] as number) - (strides[a] as number) || (shape[b] as number) - (shape[a] as number) || a - b,
  );
  let dense = 1;
  for (const dim of [...order].reverse()) {
    const size = shape[dim] as number;
    if (size > 1 && strides[dim] !== dense)
      throw wrong(`lies in steps in its storage; got [${shape}] with strides [${strides}], expected a dense one`);
    dense *= size;
  }
  return order;
}
