import { resolve } from 'node:path';
import { Model, noGrad, type Tensor, type TokenRows } from 'lorikeet';
import { narrow, tensor } from 'lorikeet/ops';
import { resolveModel } from '#dist/io/model-files.js';
import { safetensorsWeights } from '#dist/io/weights.js';
import type { CausalLanguageModel } from '#dist/models/causal-language-model.js';
import type { EncoderInput, EncoderNetwork, EncoderTask, HeadOptions } from '#dist/models/encoder.js';
import { createEncoder } from '#dist/models/encoders.js';
import { type LoadWeightsOptions, loadWeights } from '#dist/models/load-weights.js';
import type { ForwardContext } from '#dist/nn/index.js';
import { readJson } from './folders.js';
import { numbers } from './numbers.js';

export const goldenEncoder = (name: string): string => resolve('test/golden/encoders', name);

export interface OpenOptions extends LoadWeightsOptions {
  readonly head?: HeadOptions;
}

/** An encoder with the weights of a folder, in f32, and the paths of what the folder lacks. */
export async function openEncoder(
  folder: string,
  task: EncoderTask,
  { head, ...options }: OpenOptions = {},
): Promise<{ network: EncoderNetwork; fresh: string[] }> {
  const files = await resolveModel(folder);
  if (files.kind !== 'huggingface') throw new Error(`${folder} is no model folder`);
  const network = createEncoder(files.config, task, head);
  try {
    return { network, fresh: await loadWeights(network, safetensorsWeights(files.weights, folder), { dtype: 'f32', ...options }) };
  } catch (error) {
    network.dispose();
    throw error;
  }
}

/** A model around an encoder, for what asks a model for nothing but its network. */
export const asModel = (network: EncoderNetwork, source: string): Model =>
  new Model({ network: network as unknown as CausalLanguageModel, config: {}, device: 'cpu', endTokens: [], tokenizer: undefined, source });

const padded = (rows: TokenRows, width: number): Tensor =>
  tensor(
    rows.map((row) => [...row, ...new Array<number>(width - row.length).fill(0)]),
    { dtype: 'i64' },
  );

/** Rows of tokens as an encoder reads them, padded on the right. */
export function textBatch(rows: TokenRows, tokenTypes?: TokenRows, training = false): { input: EncoderInput; context: ForwardContext } {
  const lengths = rows.map((row) => row.length);
  const width = Math.max(...lengths);
  return {
    input: { ids: padded(rows, width), ...(tokenTypes && { tokenTypes: padded(tokenTypes, width) }) },
    context: { training, keyLengths: tensor(BigInt64Array.from(lengths, BigInt)) },
  };
}

/** A recorded row: what it is and what it gives. */
export interface RecordedRow {
  ids: number[];
  tokenTypes: number[];
  output: number[] | number[][];
  hidden: number[][];
  pooler: number[];
  pooled: Record<string, number[]>;
}

/** The recorded rows of an encoder. */
export const rowsOf = (name: string): RecordedRow[] => readJson<{ rows: RecordedRow[] }>(goldenEncoder(name), 'reference.json').rows;

/** The outputs of both recorded rows, run as one padded batch, without what padding gives. */
export async function outputsOf(network: EncoderNetwork, rows: readonly RecordedRow[]): Promise<number[][]> {
  const { input, context } = textBatch(
    rows.map(({ ids }) => ids),
    rows.map(({ tokenTypes }) => tokenTypes),
  );
  const output = noGrad(() => network.forward(input, context));
  return Promise.all(
    rows.map(({ ids }, b) => {
      const row = narrow(output, 0, b, 1);
      return numbers(output.shape.length === 3 ? narrow(row, 1, 0, ids.length) : row);
    }),
  );
}
