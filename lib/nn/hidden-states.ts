import { reshape } from '../ops/shape.js';
import { disposeTensors, unscoped } from '../scope.js';
import type { Tensor } from '../tensor.js';

/** The stream [B, T, D] behind a block, and how many of the T are tokens in each row, i64 [B]; absent: all. */
export interface HiddenState {
  readonly hidden: Tensor;
  readonly keyLengths?: Tensor;
}

/**
 * What the blocks of a pass leave in its stream, in their order and on the tape. A pass whose context has one fills it. It owns what it holds, so that it outlasts
 * the scope of the pass, until `dispose()`.
 *
 * ```ts
 * const hidden = new HiddenStates();
 * const logits = model.forward(rows, { training: true, hidden });
 * hidden.states[0]?.hidden; // [B, T, D] behind the first block
 * ```
 */
export class HiddenStates {
  readonly #states: HiddenState[] = [];

  get states(): readonly HiddenState[] {
    return this.#states;
  }

  /** Called by every block of the pass. */
  take(hidden: Tensor, keyLengths: Tensor | undefined): void {
    const own = (x: Tensor): Tensor => unscoped(() => reshape(x, x.shape));
    this.#states.push({ hidden: own(hidden), ...(keyLengths && { keyLengths: own(keyLengths) }) });
  }

  dispose(): void {
    for (const { hidden, keyLengths } of this.#states) disposeTensors(keyLengths === undefined ? [hidden] : [hidden, keyLengths]);
    this.#states.length = 0;
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
