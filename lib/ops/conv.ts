import { InvalidArgumentError, ShapeError } from '../errors.js';
import { op } from '../native.js';
import { scope } from '../scope.js';
import { Tensor } from '../tensor.js';
import { reshape } from './shape.js';

const conv2dOp = op('conv2d');

/** A number for both sides of an image, or one for each: `[rows, columns]`. */
export type Pair = number | readonly [rows: number, columns: number];

/** Zeros before and after a side: as many as given, none (`'valid'`), or those that keep its size at a stride of 1 (`'same'`; an odd one comes after). */
export type Padding<Sides> = Sides | 'valid' | 'same';

/** How a kernel walks over its input. */
export interface ConvOptions<Sides> {
  /** Step between two outputs. Default 1. */
  readonly stride?: Sides;
  /** Default 0. */
  readonly padding?: Padding<Sides>;
  /** Distance between neighbouring taps. Default 1. */
  readonly dilation?: Sides;
  /** Parts of the channels that do not see each other; as many as input channels: a depthwise convolution. Default 1. */
  readonly groups?: number;
}

const pair = (value: Pair): readonly [number, number] => (typeof value === 'number' ? [value, value] : value);

/** Zeros before and after each side: top, bottom, left, right. */
function borders(padding: Padding<Pair>, kernel: readonly number[], stride: readonly number[], dilation: readonly number[]): number[] {
  if (padding === 'valid') return [0, 0, 0, 0];
  if (padding !== 'same') return pair(padding).flatMap((side) => [side, side]);
  if (stride.some((step) => step !== 1))
    throw new InvalidArgumentError(`conv2d: padding "same" needs a stride of 1; got ${stride.join(', ')}`);
  return kernel.flatMap((size, side) => {
    const total = (dilation[side] ?? 1) * (size - 1);
    return [Math.floor(total / 2), Math.ceil(total / 2)];
  });
}

/**
 * Cross-correlation of images x [B, C, H, W] with weight [O, C / groups, KH, KW], plus bias [O]: y [B, O, R, Q] with
 * R = ⌊(H + padding − dilation · (KH − 1) − 1) / stride⌋ + 1. One floating dtype, 16-bit types summed in f32. Differentiable in all three; x is kept only for
 * a weight that wants a gradient. Throws `ShapeError` and `InvalidArgumentError` for what does not fit.
 */
export function conv2d(x: Tensor, weight: Tensor, bias?: Tensor, options: ConvOptions<Pair> = {}): Tensor {
  const [stride, dilation] = [pair(options.stride ?? 1), pair(options.dilation ?? 1)];
  const padding = borders(options.padding ?? 0, weight.shape.slice(2), stride, dilation);
  return new Tensor(conv2dOp(x.handle, weight.handle, bias?.handle, stride, padding, dilation, options.groups ?? 1));
}

/** The same along one axis: x [B, C, L], weight [O, C / groups, K], bias [O]; y [B, O, ⌊(L + padding − dilation · (K − 1) − 1) / stride⌋ + 1]. */
export function conv1d(x: Tensor, weight: Tensor, bias?: Tensor, options: ConvOptions<number> = {}): Tensor {
  const [batch, channels, length] = sizes('x [B, C, L]', x);
  const [outputs, inputs, kernel] = sizes('weight [O, C / groups, K]', weight);
  const { stride = 1, dilation = 1, padding = 0, groups = 1 } = options;
  checkLine(x, weight, bias, { stride, dilation, padding, groups });
  return scope(() => {
    const y = conv2d(reshape(x, [batch, channels, 1, length]), reshape(weight, [outputs, inputs, 1, kernel]), bias, {
      ...options,
      stride: [1, stride],
      dilation: [1, dilation],
      padding: typeof padding === 'number' ? [0, padding] : padding,
    });
    return reshape(y, [batch, outputs, y.shape[3] ?? 0]);
  });
}

/** What `conv2d` would say of an image, said of a line. */
function checkLine(x: Tensor, weight: Tensor, bias: Tensor | undefined, options: Required<ConvOptions<number>>): void {
  const { stride, dilation, padding, groups } = options;
  const fits = (value: number, least: number): boolean => Number.isSafeInteger(value) && value >= least;
  for (const [name, value] of Object.entries({ stride, dilation, groups }))
    if (!fits(value, 1)) throw new InvalidArgumentError(`conv1d: ${name} must be a positive integer; got ${value}`);
  if (typeof padding === 'number' && !fits(padding, 0))
    throw new InvalidArgumentError(`conv1d: padding must be an integer of at least 0, "valid" or "same"; got ${padding}`);
  if (padding === 'same' && stride !== 1) throw new InvalidArgumentError(`conv1d: padding "same" needs a stride of 1; got ${stride}`);
  const got = `got x ${x.dtype} [${x.shape}] and weight ${weight.dtype} [${weight.shape}]${bias === undefined ? '' : `, bias ${bias.dtype} [${bias.shape}]`}`;
  const [outputs = 0, inputs = 0, kernel = 0] = weight.shape;
  const [, channels = 0, length = 0] = x.shape;
  if (!/^(f|bf)/.test(x.dtype) || weight.dtype !== x.dtype || (bias !== undefined && bias.dtype !== x.dtype))
    throw new InvalidArgumentError(`conv1d: dtypes do not fit; ${got}, expected one floating dtype`);
  if (outputs % groups !== 0 || channels % groups !== 0)
    throw new InvalidArgumentError(`conv1d: groups must divide the channels; got groups ${groups}, ${got}`);
  if (weight.size === 0 || inputs * groups !== channels) throw new ShapeError(`conv1d: the weight does not fit; ${got}, groups ${groups}`);
  if (bias !== undefined && (bias.rank !== 1 || bias.size !== outputs))
    throw new ShapeError(`conv1d: the bias does not fit; ${got}, expected a bias [${outputs}]`);
  const reach = dilation * (kernel - 1) + 1;
  const around = padding === 'same' ? reach - 1 : typeof padding === 'number' ? 2 * padding : 0;
  if (reach > length + around)
    throw new ShapeError(`conv1d: the kernel is larger than the padded input; ${got}, padding ${padding} and dilation ${dilation}`);
}

function sizes(expected: string, { shape }: Tensor): readonly [number, number, number] {
  const [a, b, c] = shape;
  if (shape.length !== 3 || a === undefined || b === undefined || c === undefined)
    throw new ShapeError(`conv1d: needs ${expected}; got [${shape.join(', ')}]`);
  return [a, b, c];
}
