import { InvalidArgumentError } from '../errors.js';
import { writeFileAtomically } from './atomic-file.js';
import { isSafetensorsDtype, maxHeaderBytes, type SafetensorsDtype, safetensorsBytes } from './safetensors-header.js';

/** One tensor to be written: little-endian elements in row order, given at once or when their turn comes. */
export interface TensorBytes {
  readonly dtype: SafetensorsDtype;
  readonly shape: readonly number[];
  readonly data: Uint8Array | (() => Uint8Array | Promise<Uint8Array>);
}

/**
 * Writes a safetensors file that appears complete or not at all.
 *
 * Tensors are stored from the widest dtype to the narrowest, so that each is aligned, and by name within a dtype width. `metadata` defaults to
 * `{ format: 'pt' }`, which loaders of PyTorch and transformers ask for. Throws `InvalidArgumentError` when the bytes of a tensor do not fit its shape;
 * a file that was there before is then untouched.
 */
export async function writeSafetensors(
  path: string,
  tensors: Readonly<Record<string, TensorBytes>>,
  metadata: Readonly<Record<string, string>> = { format: 'pt' },
): Promise<void> {
  const plan = Object.entries(tensors).map(([name, tensor]) => ({ name, tensor, bytes: plannedBytes(name, tensor) }));
  plan.sort((a, b) => width(b.tensor) - width(a.tensor) || (a.name < b.name ? -1 : 1));
  const head = headerOf(plan, metadata);
  async function* pieces(): AsyncGenerator<Uint8Array> {
    yield head;
    for (const { name, tensor, bytes } of plan) {
      const data = typeof tensor.data === 'function' ? await tensor.data() : tensor.data;
      if (data.length !== bytes)
        throw new InvalidArgumentError(
          `writeSafetensors: tensor "${name}" has the wrong size; got ${data.length} bytes, expected ${bytes}`,
        );
      yield data;
    }
  }
  await writeFileAtomically(path, pieces());
}

const width = (tensor: TensorBytes): number => safetensorsBytes(tensor.dtype, [8]);

function plannedBytes(name: string, { dtype, shape }: TensorBytes): number {
  if (name === '__metadata__') throw new InvalidArgumentError('writeSafetensors: "__metadata__" cannot be the name of a tensor');
  if (!isSafetensorsDtype(dtype))
    throw new InvalidArgumentError(`writeSafetensors: tensor "${name}" has an unknown dtype; got ${String(dtype)}`);
  const bytes = shape.every((size) => Number.isSafeInteger(size) && size >= 0) ? safetensorsBytes(dtype, shape) : Number.NaN;
  if (Number.isNaN(bytes))
    throw new InvalidArgumentError(`writeSafetensors: tensor "${name}" has no valid shape; got [${shape.join(', ')}]`);
  return bytes;
}

function headerOf(
  plan: readonly { name: string; tensor: TensorBytes; bytes: number }[],
  metadata: Readonly<Record<string, string>>,
): Uint8Array {
  // A null prototype, so that a tensor may have any name.
  const header: Record<string, unknown> = Object.create(null);
  for (const [key, text] of Object.entries(metadata)) {
    if (typeof text !== 'string')
      throw new InvalidArgumentError(`writeSafetensors: metadata must be strings; got ${typeof text} for "${key}"`);
  }
  if (Object.keys(metadata).length > 0) header.__metadata__ = metadata;
  let position = 0;
  for (const { name, tensor, bytes } of plan) {
    header[name] = { dtype: tensor.dtype, shape: tensor.shape, data_offsets: [position, position + bytes] };
    position += bytes;
  }
  const json = Buffer.from(JSON.stringify(header));
  const length = Math.ceil(json.length / 8) * 8;
  if (length > maxHeaderBytes)
    throw new InvalidArgumentError(`writeSafetensors: the header is too large; got ${length} bytes, expected at most ${maxHeaderBytes}`);
  const head = Buffer.alloc(8 + length, ' ');
  head.writeBigUInt64LE(BigInt(length), 0);
  json.copy(head, 8);
  return head;
}
