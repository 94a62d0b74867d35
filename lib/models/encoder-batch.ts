import { describeInput } from '../data/row.js';
import { InvalidArgumentError, ShapeError } from '../errors.js';
import type { ForwardContext, RowAdapters, TaskId } from '../nn/context.js';
import type { HiddenStates } from '../nn/hidden-states.js';
import { tensor } from '../ops/create.js';
import { Tensor } from '../tensor.js';
import { paddedIds, type TokenRows } from './batch.js';
import type { EncoderInput, EncoderNetwork } from './encoder.js';

/** Examples for an encoder: token ids by row, which may differ in length, with the part of a pair that each token belongs to; images [B, C, H, W]; audio [B, T, M]. */
export type EncoderRows =
  | { readonly ids: TokenRows; readonly tokenTypes?: TokenRows | undefined }
  | { readonly pixels: Tensor }
  | { readonly features: Tensor };

/** What a forward pass of an encoder can be told beside its input. */
export interface EncoderForwardOptions {
  /** Whether dropout and the like are on; default: whether the network is in training mode. */
  readonly training?: boolean | undefined;
  /** Which adapters each row uses, by name; default: the active ones. */
  readonly rows?: RowAdapters | undefined;
  /** The task of each row, for adapters that are routed by task. */
  readonly tasks?: readonly TaskId[] | undefined;
  /** Recompute each block in backward instead of keeping what it saved; default false. */
  readonly checkpointing?: boolean | undefined;
  /** Gets what every block leaves in the stream. */
  readonly hidden?: HiddenStates | undefined;
}

/** Checks rows against the model and makes the tensors of a pass. */
export function encoderBatch(
  network: EncoderNetwork,
  rows: EncoderRows,
  options: EncoderForwardOptions,
): { readonly input: EncoderInput; readonly context: ForwardContext } {
  checkModality(network, rows);
  const common: ForwardContext = {
    training: options.training ?? network.training,
    checkpointing: options.checkpointing ?? false,
    ...(options.rows === undefined ? {} : { rows: options.rows }),
    ...(options.tasks === undefined ? {} : { tasks: options.tasks }),
    ...(options.hidden === undefined ? {} : { hidden: options.hidden }),
  };
  const count = 'ids' in rows ? rows.ids.length : (('pixels' in rows ? rows.pixels : rows.features).shape[0] ?? 0);
  if (options.rows !== undefined && options.rows.length !== count)
    throw new ShapeError(`forward: "rows" must name the adapters of every row; got ${options.rows.length} entries, expected ${count}`);
  if (options.tasks !== undefined && options.tasks.length !== count)
    throw new ShapeError(`forward: "tasks" must name the task of every row; got ${options.tasks.length} entries, expected ${count}`);
  if (!('ids' in rows)) return { input: rows, context: common };
  const { ids, tokenTypes } = rows;
  checkIds(network, ids);
  const lengths = ids.map((row) => row.length);
  const width = Math.max(...lengths);
  if (tokenTypes !== undefined && (tokenTypes.length !== count || tokenTypes.some((row, b) => row.length !== lengths[b])))
    throw new ShapeError('forward: "tokenTypes" must have a number for every token of "ids"');
  const ragged = lengths.some((length) => length !== width);
  return {
    input: { ids: paddedIds(ids, width), ...(tokenTypes === undefined ? {} : { tokenTypes: paddedIds(tokenTypes, width) }) },
    context: ragged ? { ...common, keyLengths: tensor(BigInt64Array.from(lengths, BigInt), { shape: [count] }) } : common,
  };
}

const kInputs = { text: 'ids', image: 'pixels', audio: 'features' } as const;
const kKinds = { ids: 'lists of token ids', pixels: 'a tensor [B, C, H, W]', features: 'a tensor [B, T, M]' } as const;

function checkModality({ modality }: EncoderNetwork, rows: EncoderRows): void {
  const wanted = kInputs[modality];
  const given: Readonly<Record<string, unknown>> = typeof rows === 'object' && rows !== null ? { ...rows } : {};
  if (!(wanted in given))
    throw new InvalidArgumentError(
      `forward: the model reads ${modality}; got ${Object.keys(given).join(', ') || 'nothing'}, expected "${wanted}"`,
    );
  const value = given[wanted];
  const isKind = wanted === 'ids' ? Array.isArray(value) && value.every(Array.isArray) : value instanceof Tensor;
  if (!isKind)
    throw new InvalidArgumentError(`forward: "${wanted}" cannot be read; got ${describeInput(value)}, expected ${kKinds[wanted]}`);
}

function checkIds({ shape }: EncoderNetwork, rows: TokenRows): void {
  const { contextLength, vocabularySize = Number.POSITIVE_INFINITY } = shape;
  if (rows.length === 0) throw new InvalidArgumentError('forward: the batch is empty; expected at least one row of token ids');
  for (const [b, row] of rows.entries()) {
    if (row.length === 0 || row.length > contextLength)
      throw new InvalidArgumentError(`forward: row ${b} has ${row.length} tokens; expected 1 to ${contextLength}`);
    const wrong = row.find((id) => !Number.isInteger(id) || id < 0 || id >= vocabularySize);
    if (wrong !== undefined)
      throw new InvalidArgumentError(
        `forward: row ${b} has a token that is not in the vocabulary; got ${wrong}, expected 0 to ${vocabularySize - 1}`,
      );
  }
}
