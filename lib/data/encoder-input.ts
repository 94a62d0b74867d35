import type { Values } from '../data/front-end.js';
import { FormatError, InvalidArgumentError } from '../errors.js';
import type { EncoderText, Tokenizer } from '../io/tokenizer.js';
import type { Modality } from '../models/encoder.js';
import type { EncoderRows } from '../models/encoder-batch.js';
import { tensor } from '../ops/create.js';

/** The tokens of one text or pair. */
export interface TokenInput {
  readonly ids: readonly number[];
  /** Of a pair: the part that each token belongs to. */
  readonly tokenTypes?: readonly number[];
  /** Number of the word that each token is from, -1 for special ones. */
  readonly words: readonly number[];
}

/** One example as an encoder reads it: tokens, or the values of an image or a recording. */
export type ExampleInput = TokenInput | Values;

/**
 * The tokens of a text, a pair or a list of words, with the special tokens of the tokenizer, cut to `length`: what goes is the end of the text, and of a pair the
 * end of the longer one. Throws `InvalidArgumentError` where nothing but special tokens would be left.
 */
export async function encodeInput(tokenizer: Pick<Tokenizer, 'encodeParts'>, text: EncoderText, length: number): Promise<TokenInput> {
  const { ids, types, sources, words } = await tokenizer.encodeParts(text);
  const sizes = [0, 1].map((source) => sources.filter((own) => own === source).length) as [number, number];
  const special = ids.length - sizes[0] - sizes[1];
  if (ids.length > length && special >= length)
    throw new InvalidArgumentError(`encode: ${length} tokens have no room for the text; ${special} are special ones`);
  const kept = keptOf(sizes, length - special);
  const seen = [0, 0];
  const places = [...ids.keys()].filter((t) => {
    const source = sources[t] as number;
    return source < 0 || (seen[source] as number)++ < (kept[source] as number);
  });
  const pick = (values: readonly number[]): number[] => places.map((t) => values[t] as number);
  const tokenTypes = pick(types);
  return { ids: pick(ids), words: pick(words), ...(tokenTypes.some((type) => type !== 0) ? { tokenTypes } : {}) };
}

/** Tokens that are kept of two texts, so that together they have at most `room`: the longer one loses first. */
function keptOf([first, second]: readonly [number, number], room: number): [number, number] {
  if (first + second <= room) return [first, second];
  const [short, long] = first <= second ? [first, second] : [second, first];
  const half = Math.floor(room / 2);
  const kept = short <= half ? [short, Math.min(long, room - short)] : [half, room - half];
  return (first <= second ? kept : [kept[1], kept[0]]) as [number, number];
}

export const isTokens = (input: ExampleInput): input is TokenInput => 'ids' in input;

/** The places of examples that can share a batch: tokens are padded, images and recordings must have one shape. */
export function batchable(inputs: readonly ExampleInput[]): readonly (readonly number[])[] {
  const groups = new Map<string, number[]>();
  for (const [place, input] of inputs.entries()) {
    const shape = isTokens(input) ? '' : input.shape.join();
    groups.set(shape, [...(groups.get(shape) ?? []), place]);
  }
  return [...groups.values()];
}

/** Examples as one batch; tokens are padded by the model. Throws `FormatError` where images or recordings differ in shape. */
export function collateInputs(modality: Modality, inputs: readonly ExampleInput[]): EncoderRows {
  if (modality === 'text') {
    const rows = inputs.filter(isTokens);
    const ids = rows.map((row) => row.ids);
    if (rows.every(({ tokenTypes }) => tokenTypes === undefined)) return { ids };
    return { ids, tokenTypes: rows.map(({ tokenTypes, ids: own }) => tokenTypes ?? own.map(() => 0)) };
  }
  const examples = inputs as readonly Values[];
  const shape = examples[0]?.shape ?? [];
  const size = shape.reduce((product, extent) => product * extent, 1);
  const values = new Float32Array(examples.length * size);
  for (const [b, example] of examples.entries()) {
    if (example.shape.join() !== shape.join() || example.values.length !== size)
      throw new FormatError(
        `data: examples of a batch must have one shape; got [${example.shape.join(', ')}] beside [${shape.join(', ')}]`,
      );
    values.set(example.values, b * size);
  }
  const batch = tensor(values, { shape: [examples.length, ...shape] });
  return modality === 'image' ? { pixels: batch } : { features: batch };
}
