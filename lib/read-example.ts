import { type ExampleInput, encodeInput } from './data/encoder-input.js';
import type { Values } from './data/front-end.js';
import { describeInput } from './data/row.js';
import { ConfigError, InvalidArgumentError, throwIfAborted, withPlace } from './errors.js';
import type { EncoderText } from './io/tokenizer.js';
import type { EncoderNetwork, EncoderTask } from './models/encoder.js';
import type { PredictInput, TaskModel } from './task-model.js';

/** How an example is read. */
export interface ReadOptions {
  /** Texts are cut to this many tokens. */
  readonly maxLength: number;
  /** What messages call the example, such as `predict: row 3`. */
  readonly where: string;
  readonly signal?: AbortSignal | undefined;
}

type ReadingModel = Pick<TaskModel, 'network' | 'processor' | 'source' | 'tokenizer' | 'task'>;

/**
 * One example as the model reads it. Throws `InvalidArgumentError` for what the model cannot read and for a file that is not there, `FormatError` for one that holds
 * something else, `ConfigError` for a file without a front end.
 */
export async function readExample(model: ReadingModel, input: PredictInput, options: ReadOptions): Promise<ExampleInput> {
  return model.network.modality === 'text' ? readText(model, input, options) : readValues(model, input, options);
}

async function readText({ tokenizer, task }: ReadingModel, input: unknown, { maxLength, where }: ReadOptions): Promise<ExampleInput> {
  const text = asText(input, task);
  if (text === undefined) {
    const wanted = task === 'token-classification' ? 'a text or { words }' : 'a text, a pair [first, second] or { words }';
    const advice = isTexts(input) ? '; a list of words is { words: [...] }' : '';
    throw new InvalidArgumentError(`${where} is no text; got ${describeInput(input)}, expected ${wanted}${advice}`);
  }
  const read = await encodeInput(tokenizer, text, maxLength).catch((error: unknown) => {
    throw withPlace(error, where);
  });
  if (read.ids.length === 0)
    throw new InvalidArgumentError(`${where} has no tokens; got ${describeInput(input)}, expected a text with words`);
  return read;
}

/** What an input is to a task of texts; undefined for what is no text. A text that gets a tag for every word is split at white space. */
function asText(input: unknown, task: EncoderTask): EncoderText | undefined {
  const tagsWords = task === 'token-classification';
  if (typeof input === 'string') return tagsWords ? { words: input.split(/\s+/).filter((word) => word !== '') } : input;
  if (isTexts(input)) return input.length === 2 && !tagsWords ? (input as unknown as readonly [string, string]) : undefined;
  const { words } = (input ?? {}) as { readonly words?: unknown };
  return isTexts(words) ? { words } : undefined;
}

const isTexts = (value: unknown): value is readonly string[] => Array.isArray(value) && value.every((entry) => typeof entry === 'string');

async function readValues(
  { network, processor, source }: ReadingModel,
  input: unknown,
  { where, signal }: ReadOptions,
): Promise<ExampleInput> {
  const { modality } = network;
  if (typeof input !== 'string') {
    const problem = valuesProblem(network, input);
    if (problem !== undefined) throw new InvalidArgumentError(`${where} ${problem}`);
    return input as Values;
  }
  if (processor === undefined)
    throw new ConfigError(`${where}: no front end for ${modality} came with ${source}; give the values of examples as { values, shape }`);
  try {
    return await processor.read(input, signal);
  } catch (error) {
    throwIfAborted(signal, where);
    throw withPlace(error, where);
  }
}

/** What keeps values from being an example of a network of images or audio, as the end of a message; undefined for those that fit. */
export function valuesProblem({ modality, shape: { example } }: EncoderNetwork, input: unknown): string | undefined {
  const { values, shape } = (input ?? {}) as Partial<Values>;
  if (!(values instanceof Float32Array) || !Array.isArray(shape))
    return `is no ${modality === 'image' ? 'image' : 'recording'}; got ${describeInput(input)}, expected the path of a file, or { values: Float32Array, shape }`;
  const wanted = modality === 'image' ? `[${example?.[0] ?? 'C'}, H, W]` : `[T, ${example?.[1] ?? 'M'}]`;
  const isSize = (extent: unknown): boolean => Number.isSafeInteger(extent) && (extent as number) > 0;
  const fixed = modality === 'image' ? 0 : 1;
  const fits = example === undefined || (shape.length === example.length && shape[fixed] === example[fixed]);
  if (!fits || !shape.every(isSize)) return `has a wrong shape; got [${shape.join(', ')}], expected ${wanted}`;
  const size = shape.reduce((product, extent) => product * extent, 1);
  if (values.length !== size)
    return `has values that do not fill its shape; got ${values.length} for [${shape.join(', ')}], expected ${size}`;
  const at = values.findIndex((value) => !Number.isFinite(value));
  return at < 0 ? undefined : `has a value that is not finite; got ${values[at]} at ${at}, expected finite values`;
}
