import { Linear } from '../nn/linear.js';
import { Module, ModuleList } from '../nn/module.js';
import { normal, uniform, zeros } from '../ops/create.js';
import { dropout } from '../ops/dropout.js';
import { add, mul, relu, sigmoid, tanh } from '../ops/elementwise.js';
import { concat } from '../ops/join.js';
import { linear } from '../ops/linalg.js';
import { narrow } from '../ops/shape.js';
import { RandomSource } from '../random.js';
import { unscoped } from '../scope.js';
import type { DType, Tensor } from '../tensor.js';
import type { CreateContext } from './adapter.js';

/** A trainable tensor with standard normal values. */
export function normalTable(shape: readonly number[], name: string, { dtype, seed, stream }: CreateContext): Tensor {
  return unscoped(() => normal(shape, { dtype, seed, stream: stream('', name) })).setRequiresGrad(true);
}

/** Values of a patch, which the bound of uniform prompts counts with whatever the model: three colours, 16 pixels square. */
const kPatchValues = 3 * 16 * 16;

/** A trainable tensor with values as prompts of vision transformers of width D start: uniform within sqrt(6 / (3 · 16² + D)). */
export function uniformTable(shape: readonly number[], width: number, name: string, context: CreateContext): Tensor {
  const { dtype, seed, stream } = context;
  const bound = Math.sqrt(6 / (kPatchValues + width));
  return unscoped(() => uniform(shape, { low: -bound, high: bound, dtype, seed, stream: stream('', name) })).setRequiresGrad(true);
}

/** A seed for the layer of that name. */
const seedOf = (name: string, { seed, stream }: CreateContext): bigint => (BigInt(seed) << 32n) | BigInt(stream('', name));

/** Makes the table of virtual tokens out of a smaller one with a network of its own; only the result is published. */
export abstract class PromptEncoder extends Module {
  /** [T, D]. */
  readonly embedding: Tensor;
  /** Where dropout masks come from. */
  abstract readonly random: RandomSource | undefined;

  constructor(embedding: Tensor) {
    super();
    this.embedding = embedding;
  }

  /** The table [T, W], on the tape. */
  abstract forward(training: boolean): Tensor;
}

/** Linear layers with an activation between them. */
export class MlpEncoder extends PromptEncoder {
  readonly mlp_head: ModuleList<Linear>;
  readonly random = undefined;
  readonly #activation: (x: Tensor) => Tensor;

  /** `sizes`: width of the embedding, of what lies between, and of the table. `zero`: the last layer starts at zero. */
  constructor(tokens: number, sizes: readonly number[], activation: (x: Tensor) => Tensor, context: CreateContext, zero = false) {
    super(normalTable([tokens, sizes[0] ?? 0], 'prompt_encoder.embedding', context));
    this.#activation = activation;
    this.mlp_head = headOf(sizes, context);
    const last = this.mlp_head.at(this.mlp_head.length - 1);
    if (!zero) return;
    for (const [name, value] of [...last.ownParameters()] as [string, Tensor][])
      last.assign(
        name,
        unscoped(() => zeros(value.shape, { dtype: value.dtype })),
      );
    last.setTrainable(true);
  }

  override forward(): Tensor {
    return through(this.mlp_head, this.embedding, this.#activation);
  }
}

function headOf(sizes: readonly number[], context: CreateContext): ModuleList<Linear> {
  const pairs = sizes.slice(1).map((size, i) => [sizes[i] ?? 0, size] as const);
  return new ModuleList(
    pairs.map(([from, to], i) => new Linear(from, to, { dtype: context.dtype, seed: seedOf(`prompt_encoder.mlp_head.${i}`, context) })),
  );
}

function through(layers: ModuleList<Linear>, x: Tensor, activation: (x: Tensor) => Tensor): Tensor {
  let y = x;
  for (const [i, layer] of [...layers].entries()) y = layer.forward(i === 0 ? y : activation(y));
  return y;
}

/** Weights of one direction of one layer, with the gates input, forget, cell and output below each other. */
class LstmDirection extends Module {
  /** [4 H, K]. */
  readonly weight_ih: Tensor;
  /** [4 H, H]. */
  readonly weight_hh: Tensor;
  readonly bias_ih: Tensor;
  readonly bias_hh: Tensor;
  readonly #size: number;

  constructor(inputs: number, size: number, name: string, { dtype, seed, stream }: CreateContext) {
    super();
    this.#size = size;
    const bound = 1 / Math.sqrt(size);
    const make = (end: string, shape: readonly number[]): Tensor =>
      unscoped(() => uniform(shape, { dtype, seed, stream: stream('', `${name}.${end}`), low: -bound, high: bound })).setRequiresGrad(true);
    this.weight_ih = make('weight_ih', [4 * size, inputs]);
    this.weight_hh = make('weight_hh', [4 * size, size]);
    this.bias_ih = make('bias_ih', [4 * size]);
    this.bias_hh = make('bias_hh', [4 * size]);
  }

  /** x [T, K] to the states [T, H], read from the front or from the end. */
  forward(x: Tensor, backwards: boolean): Tensor {
    const size = this.#size;
    const steps = x.shape[0] ?? 0;
    const fromInput = linear(x, this.weight_ih, this.bias_ih);
    const states = new Array<Tensor>(steps);
    let state = zeros([1, size], { dtype: x.dtype });
    let cell = zeros([1, size], { dtype: x.dtype });
    for (let i = 0; i < steps; i++) {
      const t = backwards ? steps - 1 - i : i;
      const gates = add(narrow(fromInput, 0, t, 1), linear(state, this.weight_hh, this.bias_hh));
      const gate = (n: number): Tensor => narrow(gates, 1, n * size, size);
      cell = add(mul(sigmoid(gate(1)), cell), mul(sigmoid(gate(0)), tanh(gate(2))));
      state = mul(sigmoid(gate(3)), tanh(cell));
      states[t] = state;
    }
    return concat(states, 0);
  }
}

/** What a bidirectional LSTM is made of. */
export interface LstmOptions {
  readonly tokens: number;
  /** Width of the embedding and of the table. */
  readonly width: number;
  /** H, the width of a state. */
  readonly size: number;
  readonly layers: number;
  /** Probability of dropping an element between layers in training. */
  readonly dropout: number;
}

/** A bidirectional LSTM over the tokens, then two linear layers. */
export class LstmEncoder extends PromptEncoder {
  readonly lstm_head: ModuleList<ModuleList<LstmDirection>>;
  readonly mlp_head: ModuleList<Linear>;
  override readonly random: RandomSource;
  readonly #dropout: number;

  constructor({ tokens, width, size, layers, dropout: p }: LstmOptions, context: CreateContext) {
    super(normalTable([tokens, width], 'prompt_encoder.embedding', context));
    this.#dropout = p;
    this.random = new RandomSource(context.seed, 'prompt_encoder');
    const directions = (layer: number): LstmDirection[] =>
      [0, 1].map((side) => new LstmDirection(layer === 0 ? width : 2 * size, size, `prompt_encoder.lstm_head.${layer}.${side}`, context));
    this.lstm_head = new ModuleList(Array.from({ length: layers }, (_, layer) => new ModuleList(directions(layer))));
    this.mlp_head = headOf([2 * size, 2 * size, width], context);
  }

  override forward(training: boolean): Tensor {
    let x: Tensor = this.embedding;
    for (const [layer, directions] of [...this.lstm_head].entries()) {
      const input = layer > 0 && training && this.#dropout > 0 ? dropout(x, this.#dropout, this.random.next()) : x;
      x = concat(
        [...directions].map((direction, side) => direction.forward(input, side === 1)),
        1,
      );
    }
    return through(this.mlp_head, x, relu);
  }
}

/** A trainable table of zeros, to be filled. */
export const emptyTable = (shape: readonly number[], dtype: DType): Tensor => unscoped(() => zeros(shape, { dtype })).setRequiresGrad(true);
