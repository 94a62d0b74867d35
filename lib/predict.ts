import { batchable, collateInputs, type ExampleInput, isTokens } from './data/encoder-input.js';
import { describeInput } from './data/row.js';
import { ConfigError, InvalidArgumentError, ShapeError, throwIfAborted, withPlace } from './errors.js';
import type { EncoderTask } from './models/encoder.js';
import { tokenRoom } from './nn/virtual-tokens.js';
import { readExample } from './read-example.js';
import { noGrad, scope } from './scope.js';
import type { PredictInput, Predictions, PredictOptions, TaskModel } from './task-model.js';
import type { Tensor } from './tensor.js';

/** Tokens that are told for a mask. */
const kMaskTokens = 5;

/**
 * What the model answers to each example; examples of similar length go through it together. `what` is the name of the call in messages. Throws
 * `InvalidArgumentError` for what the model cannot read, `ShapeError` for an image or recording of a size that it cannot take, `ConfigError` for a model without what
 * reads it.
 */
export async function predictTask<T extends EncoderTask>(
  model: TaskModel<T>,
  inputs: readonly PredictInput[],
  options: PredictOptions = {},
  what = 'predict',
): Promise<Predictions[T][]> {
  const { batch, maxLength } = checkedOptions(model, options, what);
  if (!Array.isArray(inputs))
    throw new InvalidArgumentError(`${what}: examples must be a list; got ${describeInput(inputs)}, expected such as ["a text"]`);
  const { task, signal } = options;
  const read = (place: number) => readExample(model, inputs[place] as PredictInput, { maxLength, where: `${what}: row ${place}`, signal });
  const answers = new Array<Predictions[T]>(inputs.length);
  const examples = model.network.modality === 'text' ? await Promise.all([...inputs.keys()].map(read)) : undefined;
  const size = (index: number): number => lengthOf(examples?.[index]);
  const order = [...inputs.keys()].sort((a, b) => size(b) - size(a) || a - b);
  for (let start = 0; start < order.length; start += batch) {
    throwIfAborted(signal, what);
    const places = order.slice(start, start + batch);
    const rows = examples === undefined ? await Promise.all(places.map(read)) : places.map((place) => examples[place] as ExampleInput);
    for (const own of batchable(rows)) {
      const [first = 0] = own;
      const inputs = own.map((index) => rows[index] as ExampleInput);
      const pass = { training: false, ...(task === undefined ? {} : { tasks: inputs.map(() => task) }) };
      const { values, shape } = await placed(`${what}: row ${places[first]}`, () =>
        valuesOf(() => model.forward(collateInputs(model.network.modality, inputs), pass)),
      );
      const width = shape.slice(1).reduce((product, extent) => product * extent, 1);
      for (const [row, index] of own.entries())
        answers[places[index] as number] = answerOf(
          model,
          values.subarray(row * width, (row + 1) * width),
          rows[index] as ExampleInput,
        ) as Predictions[T];
    }
  }
  return answers;
}

/** Says of a shape that the network refuses which example has it. */
async function placed<R>(where: string, work: () => Promise<R>): Promise<R> {
  try {
    return await work();
  } catch (error) {
    throw error instanceof ShapeError ? withPlace(error, where) : error;
  }
}

function checkedOptions({ network }: TaskModel, { batch = 8, maxLength }: PredictOptions, what: string) {
  requireBatch(what, batch);
  const room = tokenRoom(network);
  if (maxLength !== undefined && !(Number.isSafeInteger(maxLength) && maxLength > 0 && maxLength <= room))
    throw new InvalidArgumentError(
      `${what}: "maxLength" must be a whole number of tokens that fit; got ${maxLength}, expected 1 to ${room}`,
    );
  return { batch, maxLength: maxLength ?? room };
}

/** Throws `InvalidArgumentError` for a number of rows that no forward pass can have. */
export function requireBatch(what: string, batch: number): void {
  if (!Number.isSafeInteger(batch) || batch < 1)
    throw new InvalidArgumentError(`${what}: "batch" must be a whole number of rows; got ${describeInput(batch)}, expected at least 1`);
}

const lengthOf = (input: ExampleInput | undefined): number => (input !== undefined && isTokens(input) ? input.ids.length : 0);

interface Values {
  readonly values: Float32Array;
  readonly shape: readonly number[];
}

/** The values of an answer in f32. */
export function valuesOf(forward: () => Tensor): Promise<Values> {
  return scope(async () => {
    const answer = noGrad(forward);
    return { values: Float32Array.from((await answer.data()) as ArrayLike<number>), shape: answer.shape };
  });
}

function answerOf(model: TaskModel, values: Float32Array, input: ExampleInput): Predictions[EncoderTask] {
  const { labels } = model;
  switch (model.task) {
    case 'classification': {
      const found = softmax(values);
      const best = indexOfLargest(found);
      return {
        label: labels[best] ?? String(best),
        probability: found[best] ?? 0,
        probabilities: Object.fromEntries(labels.map((label, index) => [label, found[index] ?? 0])),
      };
    }
    case 'regression':
      return Array.from(values);
    case 'token-classification':
      return placesOfWords(input).map((t) => {
        if (t === undefined) return null;
        const best = indexOfLargest(values.subarray(t * labels.length, (t + 1) * labels.length));
        return labels[best] ?? String(best);
      });
    case 'masked-lm':
      return masksOf(model, values, input);
    case 'embedding':
      return values.slice();
    default:
      throw new ConfigError(`predict: unknown task; got ${JSON.stringify(model.task satisfies never)}`);
  }
}

function masksOf({ tokenizer, network }: TaskModel, values: Float32Array, input: ExampleInput): Predictions['masked-lm'] {
  const width = network.shape.vocabularySize ?? 0;
  const ids = isTokens(input) ? input.ids : [];
  const masks = [...ids.keys()].filter((t) => ids[t] === tokenizer.maskId);
  return masks.map((t) => {
    const found = softmax(values.subarray(t * width, (t + 1) * width));
    const order = [...found.keys()].filter((id) => tokenizer.hasToken(id)).sort((a, b) => (found[b] ?? 0) - (found[a] ?? 0) || a - b);
    return order.slice(0, kMaskTokens).map((id) => ({ token: tokenizer.idToToken(id), id, probability: found[id] ?? 0 }));
  });
}

/** The place of the first token of every word up to the last one that has any; undefined for one without tokens. */
function placesOfWords(input: ExampleInput): (number | undefined)[] {
  const words = isTokens(input) ? input.words : [];
  const places = firstTokens(input);
  const last = places.at(-1);
  const found = new Map(places.map((t) => [words[t], t]));
  return Array.from({ length: last === undefined ? 0 : (words[last] as number) + 1 }, (_, word) => found.get(word));
}

/** The place of the first token of every word. */
export function firstTokens(input: ExampleInput): number[] {
  const words = isTokens(input) ? input.words : [];
  return [...words.keys()].filter((t) => (words[t] ?? -1) >= 0 && words[t] !== words[t - 1]);
}

export function softmax(logits: Float32Array): Float64Array {
  const largest = logits.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  const powers = Float64Array.from(logits, (value) => Math.exp(value - largest));
  const total = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / total);
}

/** The first of the largest values. */
export function indexOfLargest(values: ArrayLike<number>): number {
  let best = 0;
  for (let index = 1; index < values.length; index++) if ((values[index] as number) > (values[best] as number)) best = index;
  return best;
}
