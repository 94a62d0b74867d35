import { ConfigError } from '../errors.js';
import { Module } from '../nn/module.js';
import { tensor } from '../ops/create.js';
import { cast, where } from '../ops/elementwise.js';
import { embedding, indexSelect } from '../ops/index-ops.js';
import { concat } from '../ops/join.js';
import { linear, type PackedWeight } from '../ops/linalg.js';
import { reshape } from '../ops/shape.js';
import { keep, noGrad, scope, unscoped } from '../scope.js';
import type { DType, Tensor } from '../tensor.js';
import { AdapterModule, type LayerCall, type LayerParameters } from './adapter.js';

/** Where the rows of some token ids come from in a table [V, ...] followed by k new rows: the order that puts the new ones in place. */
function replacementOrder(size: number, ids: readonly number[]): Tensor {
  const order = BigInt64Array.from({ length: size }, (_, row) => BigInt(row));
  for (const [slot, id] of ids.entries()) order[id] = BigInt(size + slot);
  return unscoped(() => tensor(order, { dtype: 'i64' }));
}

class TokenTensor extends Module {
  readonly trainable_tokens_delta: Tensor;

  constructor(rows: Tensor) {
    super();
    this.trainable_tokens_delta = rows;
  }
}

/** Some rows of an embedding, trained on their own: the rows [k, D] take the place of the table's at `ids`. */
export class TokenRows extends AdapterModule {
  readonly token_adapter: TokenTensor;
  readonly ids: readonly number[];
  readonly size: number;
  /** For every token, its slot among the trained rows, 0 where it has none; and whether it has one. */
  readonly #slots: Tensor;
  readonly #trained: Tensor;
  readonly #order: Tensor;

  constructor(weight: Tensor | PackedWeight, ids: readonly number[], dtype: DType) {
    super();
    const [size = 0] = weight.shape;
    const outside = ids.find((id) => id >= size);
    if (outside !== undefined)
      throw new ConfigError(`lora: trainableTokenIndices holds an id outside the vocabulary; got ${outside}, expected below ${size}`);
    const rows = scope(() => noGrad(() => cast(embedding(weight, tensor(ids.map(Number), { dtype: 'i64' })), dtype)));
    this.token_adapter = new TokenTensor(keep(rows).setRequiresGrad(true));
    this.ids = ids;
    this.size = size;
    const slots = new BigInt64Array(size);
    const trained = new Uint8Array(size);
    for (const [slot, id] of ids.entries()) {
      slots[id] = BigInt(slot);
      trained[id] = 1;
    }
    this.#slots = unscoped(() => tensor(slots, { dtype: 'i64' }));
    this.#trained = unscoped(() => tensor(trained, { dtype: 'bool' }));
    this.#order = replacementOrder(size, ids);
  }

  get rows(): Tensor {
    return this.token_adapter.trainable_tokens_delta;
  }

  override forward({ x, next }: LayerCall): Tensor {
    const y = next(x);
    const flat = reshape(x, [x.size]);
    const slots = reshape(indexSelect(this.#slots, 0, flat), x.shape);
    const trained = reshape(indexSelect(this.#trained, 0, flat), [...x.shape, 1]);
    return where(trained, cast(embedding(this.rows, slots), y.dtype), y);
  }

  override merge(_pristine: LayerParameters, merged: LayerParameters): LayerParameters {
    return { ...merged, weight: indexSelect(concat([merged.weight as Tensor, this.rows], 0), 0, this.#order) };
  }

  override dispose(): void {
    super.dispose();
    for (const buffer of [this.#slots, this.#trained, this.#order]) buffer.dispose();
  }
}

/** The same rows in a head tied to the embedding: the logits of these tokens come from the trained rows. Owns no parameters. */
export class TokenHead extends AdapterModule {
  readonly #rows: TokenRows;
  readonly #order: Tensor;

  constructor(rows: TokenRows) {
    super();
    this.#rows = rows;
    this.#order = replacementOrder(rows.size, rows.ids);
  }

  override forward({ x, next }: LayerCall): Tensor {
    const logits = next(x);
    const own = cast(linear(x, cast(this.#rows.rows, x.dtype)), logits.dtype);
    return indexSelect(concat([logits, own], -1), -1, this.#order);
  }

  override merge(_pristine: LayerParameters, merged: LayerParameters): LayerParameters {
    return { ...merged, weight: indexSelect(concat([merged.weight as Tensor, this.#rows.rows], 0), 0, this.#order) };
  }

  override dispose(): void {
    super.dispose();
    this.#order.dispose();
  }
}
