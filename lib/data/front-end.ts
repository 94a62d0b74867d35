/** Values of an example, row-major: an image [C, H, W], or a recording [T, M]. */
export interface Values {
  readonly values: Float32Array;
  readonly shape: readonly number[];
}

/** What makes of a file the values that a network reads. */
export interface FrontEnd {
  /** What it is called in messages. */
  readonly name: string;
  /** Throws `InvalidArgumentError` where there is no such file, `FormatError` naming one that cannot be read or is not what the network can use. */
  read(file: string, signal?: AbortSignal): Promise<Values>;
}
