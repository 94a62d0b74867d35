import type { Device, DType } from './native-ops.js';

/** The typed arrays that reading a tensor gives. */
export type TensorData = Float64Array | Float32Array | BigInt64Array | Int32Array | Uint8Array;

/** A native tensor handle, see native/binding/handle.h. */
export interface TensorHandle {
  readonly shape: number[];
  readonly dtype: DType;
  readonly device: Device;
  readonly disposed: boolean;
  readonly requiresGrad: boolean;
  readonly version: number;
  setRequiresGrad(on: boolean): void;
  grad(): TensorHandle | undefined;
  setGrad(gradient: TensorHandle | undefined): void;
  setHook(hook: ((gradient: TensorHandle) => TensorHandle | null | undefined) | undefined): void;
  backward(gradient: TensorHandle | undefined): void;
  detach(): TensorHandle;
  read(): Promise<TensorData>;
  readSync(): TensorData;
  /** Tells the garbage collector how large the tensor is; without it only the handle counts. */
  reportSize(): void;
  dispose(): void;
}

/** A frozen weight in the layout of its kernels, see native/ops/packed-weight.h. */
export interface PackedWeightHandle {
  readonly shape: number[];
  readonly dtype: DType;
  readonly bytes: number;
  readonly mappedBytes: number;
  readonly level: string;
  readonly layout: string;
  readonly quantization: string | undefined;
  readonly disposed: boolean;
  dispose(): void;
}

/** Native memory in use by this process; `tensors` counts the undisposed handles of this environment. */
export interface MemoryUse {
  /** Tensor handles that were not disposed yet. */
  readonly tensors: number;
  /** Bytes in use now. */
  readonly bytes: number;
  /** Highest `bytes` since the start or the last reset. */
  readonly peakBytes: number;
  /** Bytes kept by the allocator for reuse. */
  readonly cachedBytes: number;
  /** The limit set by `setMemoryLimit`, 0 when there is none. */
  readonly limitBytes: number;
}
