import { op } from './native.js';
import type { Tensor } from './tensor.js';

const beginCapture = op('beginCapture');
const endCapture = op('endCapture');
const launchOp = op('launch');
const dropCapture = op('dropCapture');

/** Work of a function that can run again on the same tensors without JavaScript. Keeps the memory of all its results until `dispose()`. */
export class Capture {
  readonly #id: number;

  private constructor(id: number) {
    this.#id = id;
  }

  /**
   * Runs `fn` (synchronous), noting the work it queues. `capture` is undefined where that work cannot be repeated: `fn` made tensors from JavaScript values, or
   * read some.
   */
  static of<T>(fn: () => T): { readonly result: T; readonly capture: Capture | undefined } {
    beginCapture();
    let result: T;
    try {
      result = fn();
    } catch (error) {
      dropCapture(endCapture());
      throw error;
    }
    const id = endCapture();
    return { result, capture: id === 0 ? undefined : new Capture(id) };
  }

  /** Queues the work once more; it writes its results in place. `results` are those that are read, and fail when a part of it does. */
  launch(results: readonly Tensor[]): void {
    launchOp(
      this.#id,
      results.map((tensor) => tensor.handle),
    );
  }

  dispose(): void {
    dropCapture(this.#id);
  }
}
