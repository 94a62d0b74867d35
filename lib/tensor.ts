import { ShapeError } from './errors.js';
import type { Device, DType } from './native-ops.js';
import type { TensorData, TensorHandle } from './native-types.js';
import { track } from './scope.js';

export type { Device, DType, TensorData };

/**
 * A multi-dimensional array in native memory, possibly a view of another one, and its place on the tape.
 *
 * Results of ops are computed asynchronously, in program order; `data()` and `item()` wait for them. The tensor owns a share of its memory: release it
 * with `dispose()`, `using`, or by creating it inside a {@link scope}. Disposing never breaks a pending backward.
 */
export class Tensor {
  /** @internal */
  readonly handle: TensorHandle;
  #shape: readonly number[] | undefined;
  #dtype: DType | undefined;

  /** @internal */
  constructor(handle: TensorHandle) {
    this.handle = handle;
    track(this);
  }

  /** Sizes of the dimensions. */
  get shape(): readonly number[] {
    this.#shape ??= this.handle.shape;
    return this.#shape;
  }

  get dtype(): DType {
    this.#dtype ??= this.handle.dtype;
    return this.#dtype;
  }

  get device(): Device {
    return this.handle.device;
  }

  /** Number of dimensions. */
  get rank(): number {
    return this.shape.length;
  }

  /** Number of elements. */
  get size(): number {
    return this.shape.reduce((product, size) => product * size, 1);
  }

  get disposed(): boolean {
    return this.handle.disposed;
  }

  /** True for leaves that collect a gradient and for results that depend on one. */
  get requiresGrad(): boolean {
    return this.handle.requiresGrad;
  }

  /** @internal Rises with every in-place change of the memory, so that values derived from it can be kept. */
  get version(): number {
    return this.handle.version;
  }

  /** Makes this leaf collect a gradient, or stops it. Throws for results of recorded ops and for integer dtypes. */
  setRequiresGrad(on: boolean): this {
    this.handle.setRequiresGrad(on);
    return this;
  }

  /** The gradient collected so far (a new handle on it each time), or undefined. */
  get grad(): Tensor | undefined {
    const gradient = this.handle.grad();
    return gradient && new Tensor(gradient);
  }

  /** Replaces the collected gradient: same shape; undefined drops it. */
  setGrad(gradient: Tensor | undefined): void {
    this.handle.setGrad(gradient?.handle);
  }

  /** Drops the collected gradient. */
  clearGrad(): void {
    this.handle.setGrad(undefined);
  }

  /**
   * Calls `hook` during backward when this leaf's gradient is final. What it returns is added to `grad`: a tensor replaces the gradient, `undefined`
   * keeps it, `null` takes it away, so that nothing is held for this leaf. Without an argument the hook is removed.
   */
  onGrad(hook?: (gradient: Tensor) => Tensor | null | undefined): void {
    this.handle.setHook(
      hook &&
        ((handle) => {
          const gradient = new Tensor(handle);
          const answer = hook(gradient);
          return answer === null || answer === undefined ? answer : answer.handle;
        }),
    );
  }

  /**
   * Walks the tape back from this tensor and adds to the gradients of its leaves. `gradient` has this tensor's shape; it may be left out for one
   * element (then 1). The recorded graph is freed on the way.
   */
  backward(gradient?: Tensor): void {
    this.handle.backward(gradient?.handle);
  }

  /** The same memory without a place on the tape. */
  detach(): Tensor {
    return new Tensor(this.handle.detach());
  }

  /**
   * The elements in row-major order, copied: Float64Array for f64, Float32Array for f32, bf16 and f16, BigInt64Array for i64, Int32Array for i32,
   * Uint8Array for u8 and bool. Rejects with the error of the work that should have computed them.
   */
  data(): Promise<TensorData> {
    return this.handle.read();
  }

  /** Like {@link data}, blocking this thread until the work is done. */
  dataSync(): TensorData {
    return this.handle.readSync();
  }

  /** The only element, as a number. Throws a shape error for more than one. */
  async item(): Promise<number> {
    if (this.size !== 1) {
      throw new ShapeError(`item: needs a tensor of one element; got shape [${this.shape.join(', ')}]`);
    }
    return Number((await this.data())[0]);
  }

  /** @internal */
  leaveScopes(): void {
    this.handle.reportSize();
  }

  /** Releases this handle's share of the memory; further use throws a disposed error. Idempotent. */
  dispose(): void {
    this.handle.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
