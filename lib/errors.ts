/** Every code an error of Lorikeet can carry. */
export type ErrorCode =
  | 'invalid-argument'
  | 'shape'
  | 'format'
  | 'config'
  | 'adapter'
  | 'out-of-memory'
  | 'disposed'
  | 'device'
  | 'cancelled'
  | 'hub'
  | 'non-finite'
  | 'loss-spike'
  | 'io'
  | 'native';

/** Base of every error thrown on purpose; `code` says what kind it is and never changes between releases. */
export class LorikeetError extends Error {
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
    this.code = code;
  }
}

/** An argument has the wrong type or value. */
export class InvalidArgumentError extends LorikeetError {
  constructor(message: string, options?: ErrorOptions) {
    super('invalid-argument', message, options);
  }
}

/** Shapes of tensors do not fit together. */
export class ShapeError extends LorikeetError {
  constructor(message: string, options?: ErrorOptions) {
    super('shape', message, options);
  }
}

/** A file is broken or of an unsupported kind; the message starts with the file's name. */
export class FormatError extends LorikeetError {
  constructor(message: string, options?: ErrorOptions) {
    super('format', message, options);
  }
}

/** A model config, recipe or option object is incomplete or contradicts itself. */
export class ConfigError extends LorikeetError {
  constructor(message: string, options?: ErrorOptions) {
    super('config', message, options);
  }
}

/** An adapter cannot be attached, loaded, merged or saved as asked. */
export class AdapterError extends LorikeetError {
  constructor(message: string, options?: ErrorOptions) {
    super('adapter', message, options);
  }
}

/** The memory limit or the machine's memory is exhausted. */
export class OutOfMemoryError extends LorikeetError {
  constructor(message: string, options?: ErrorOptions) {
    super('out-of-memory', message, options);
  }
}

/** Something was used after `dispose()`. */
export class DisposedError extends LorikeetError {
  constructor(message: string, options?: ErrorOptions) {
    super('disposed', message, options);
  }
}

/** A device is absent or failed. */
export class DeviceError extends LorikeetError {
  constructor(message: string, options?: ErrorOptions) {
    super('device', message, options);
  }
}

/** The caller's `AbortSignal` ended the work; the signal's reason is the `cause`. */
export class CancelledError extends LorikeetError {
  constructor(message: string, options?: ErrorOptions) {
    super('cancelled', message, options);
  }
}

/** The model hub has no such repository, or cannot be reached. */
export class HubError extends LorikeetError {
  constructor(message: string, options?: ErrorOptions) {
    super('hub', message, options);
  }
}

/** A value that must be finite is NaN or infinite. */
export class NonFiniteError extends LorikeetError {
  constructor(message: string, options?: ErrorOptions) {
    super('non-finite', message, options);
  }
}

/** A policy ended a training because its loss rose far above what it had been. */
export class LossSpikeError extends LorikeetError {
  constructor(message: string, options?: ErrorOptions) {
    super('loss-spike', message, options);
  }
}

/** A file or folder cannot be written: the disk is full, read-only, or gone. The system's error is the `cause`. */
export class IoError extends LorikeetError {
  constructor(message: string, options?: ErrorOptions) {
    super('io', message, options);
  }
}

/** The native addon is missing, failed to load, or failed inside. */
export class NativeError extends LorikeetError {
  constructor(message: string, options?: ErrorOptions) {
    super('native', message, options);
  }
}

type ErrorClass = new (message: string, options?: ErrorOptions) => LorikeetError;

const classes = {
  'invalid-argument': InvalidArgumentError,
  shape: ShapeError,
  format: FormatError,
  config: ConfigError,
  adapter: AdapterError,
  'out-of-memory': OutOfMemoryError,
  disposed: DisposedError,
  device: DeviceError,
  cancelled: CancelledError,
  hub: HubError,
  'non-finite': NonFiniteError,
  'loss-spike': LossSpikeError,
  io: IoError,
  native: NativeError,
} as const satisfies Record<ErrorCode, ErrorClass>;

/** Every code, in no order. */
export const errorCodes = Object.keys(classes) as ErrorCode[];

export function isErrorCode(code: unknown): code is ErrorCode {
  return typeof code === 'string' && Object.hasOwn(classes, code);
}

/** A new error of the class that belongs to `code`. */
export function errorOf(code: ErrorCode, message: string, options?: ErrorOptions): LorikeetError {
  return new classes[code](message, options);
}

/** Throws `CancelledError` when the signal has fired; `what` names the operation in the message. */
export function throwIfAborted(signal: AbortSignal | undefined, what: string): void {
  if (signal?.aborted) throw new CancelledError(`${what}: cancelled`, { cause: signal.reason });
}

/** @internal Optimal string alignment distance: insertions, deletions, substitutions and swaps of neighbours cost 1. */
export function editDistance(a: string, b: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1];
      let cost = Math.min((last[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1, (last[j - 1] ?? 0) + (same ? 0 : 1));
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) cost = Math.min(cost, (beforeLast[j - 2] ?? 0) + 1);
      row.push(cost);
    }
    beforeLast = last;
    last = row;
  }
  return last[b.length] ?? 0;
}

/** `loraAlpha`, `lora-alpha` and `lora_alpha` are one name written three ways. */
const folded = (name: string): string => name.toLowerCase().replace(/[-_\s]/g, '');

/** The candidate that `name` was most likely meant to be, or undefined when none is near (more than a third of its letters differ). */
export function nearest(name: string, candidates: Iterable<string>): string | undefined {
  const wanted = folded(name).slice(0, 100);
  let best: string | undefined;
  let bestDistance = Math.max(1, Math.floor(wanted.length / 3)) + 1;
  for (const candidate of candidates) {
    const folding = folded(candidate);
    if (Math.abs(folding.length - wanted.length) >= bestDistance) continue;
    const distance = editDistance(wanted, folding);
    if (distance < bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best;
}

/** `; did you mean "rank"?`, or an empty string when nothing is near: the end of an error message about an unknown name. */
export function didYouMean(name: string, candidates: Iterable<string>): string {
  const found = nearest(name, candidates);
  return found === undefined ? '' : `; did you mean "${found}"?`;
}

/** @internal The error for a code of the native side. */
export function errorFromCode(code: string, message: string): LorikeetError {
  switch (code) {
    case 'invalid-argument':
      return new InvalidArgumentError(message);
    case 'shape':
      return new ShapeError(message);
    case 'out-of-memory':
      return new OutOfMemoryError(message);
    case 'disposed':
      return new DisposedError(message);
    case 'device':
      return new DeviceError(message);
    case 'cancelled':
      return new CancelledError(message);
    case 'non-finite':
      return new NonFiniteError(message);
    case 'format':
      return new FormatError(message);
    default:
      return new NativeError(message);
  }
}

/** An error of the engine as one of its kind that also says where it arose; any other as it is. */
export function withPlace(error: unknown, place: string): unknown {
  if (!(error instanceof LorikeetError)) return error;
  const placed = errorFromCode(error.code, `${place}: ${error.message}`);
  return placed.code === error.code ? placed : error;
}
