import { AdapterError } from '../errors.js';
import { add, cast } from '../ops/elementwise.js';
import { concat } from '../ops/join.js';
import { narrow } from '../ops/shape.js';
import type { Tensor } from '../tensor.js';
import type { ForwardContext } from './context.js';
import type { Front, TokenNetwork } from './virtual-tokens.js';

/** Which tokens of an encoder with prompts its head reads: all, the special ones in front, the prompts, the patches, or the last two. */
export type PromptReading = 'all' | 'special' | 'prompts' | 'patches' | 'prompts+patches';

/**
 * Prompts inside an encoder of L layers. They stand behind the special tokens that its head reads, in the place of the other special tokens; each layer may have
 * some of its own, which take the places of those before.
 */
export interface InnerPrompts {
  /** P. */
  readonly count: number;
  readonly reading: PromptReading;
  /** Those of layer `number` for a batch of B rows, [B, P, D]; undefined where those before go on. The first layer always has some. */
  at(number: number, batch: number, training: boolean): Tensor | undefined;
}

/** The prompts of one pass through an encoder, and the keys and values in front of its attention. */
export class EncoderFront {
  readonly #front: Front | undefined;
  readonly #prompts: InnerPrompts | undefined;
  readonly #special: number;
  readonly #kept: number;
  /** Text has as many tokens behind the encoder as in front of it. */
  readonly #isText: boolean;

  constructor({ shape }: TokenNetwork, front: Front | undefined) {
    this.#front = front;
    this.#prompts = promptsOf(front);
    this.#isText = shape.tokens === undefined;
    const { special = 1, read = 1 } = shape.tokens ?? {};
    this.#special = special;
    this.#kept = Math.min(special, read);
  }

  /** What layer `number` reads, [B, T', D]. */
  into(number: number, hidden: Tensor, training: boolean): Tensor {
    const [batch = 0, time = 0] = hidden.shape;
    const prompts = this.#prompts?.at(number, batch, training);
    if (this.#prompts === undefined || prompts === undefined) return hidden;
    const behind = number === 0 ? this.#special : this.#kept + this.#prompts.count;
    return concat([narrow(hidden, 1, 0, this.#kept), cast(prompts, hidden.dtype), narrow(hidden, 1, behind, time - behind)], 1);
  }

  /** The context of layer `number`. */
  at(number: number, context: ForwardContext): ForwardContext {
    const own = this.#front?.at(number, context) ?? context;
    if (this.#prompts === undefined || own.keyLengths === undefined) return own;
    return { ...own, keyLengths: add(own.keyLengths, this.#prompts.count + this.#kept - this.#special) };
  }

  /** What the head reads of the result of the last layer: of text its tokens, else what the prompts say. */
  read(hidden: Tensor): Tensor {
    if (this.#prompts === undefined) return hidden;
    const { count, reading } = this.#prompts;
    const ends = [0, this.#kept, this.#kept + count, hidden.shape[1] ?? 0] as const;
    const part = (from: 0 | 1 | 2, to: 1 | 2 | 3): Tensor => narrow(hidden, 1, ends[from], ends[to] - ends[from]);
    if (this.#isText) return concat([part(0, 1), part(2, 3)], 1);
    if (reading === 'all') return hidden;
    if (reading === 'special') return part(0, 1);
    return reading === 'prompts' ? part(1, 2) : part(reading === 'patches' ? 2 : 1, 3);
  }
}

/** The prompts of all rows. Throws `AdapterError` where rows have different ones, or one row has several. */
function promptsOf(front: Front | undefined): InnerPrompts | undefined {
  const rows = (front?.rows ?? []).map((tokens) => tokens.flatMap(({ prompts }) => prompts ?? []));
  const [first = []] = rows;
  if (rows.some((own) => own.length > 1))
    throw new AdapterError(`prompts: one row has prompts of ${Math.max(...rows.map((own) => own.length))} adapters; expected one`);
  if (rows.some((own) => own[0] !== first[0]))
    throw new AdapterError('prompts: rows of a batch have different prompts inside the encoder; expected a batch for each');
  return first[0];
}
