import { InvalidArgumentError } from '../errors.js';
import { op } from '../native.js';
import type { BinaryName, CompareName, UnaryName } from '../native-ops.js';
import type { TensorHandle } from '../native-types.js';
import { type DType, Tensor } from '../tensor.js';

const unaryOp = op('unary');
const binaryOp = op('binary');
const compareOp = op('compare');
const whereOp = op('where');
const castOp = op('cast');
const cloneOp = op('clone');
const fullOp = op('full');

const unary =
  (name: UnaryName) =>
  (x: Tensor): Tensor =>
    new Tensor(unaryOp(name, x.handle, 0, 0));

function affine(x: Tensor, factor: number, offset: number): Tensor {
  return new Tensor(unaryOp('affine', x.handle, factor, offset));
}

/** Calls `fn` with both operands as handles; a number becomes a one-element tensor with the dtype of the other one, for the length of the call. */
function withOperands(
  name: string,
  a: Tensor | number,
  b: Tensor | number,
  fn: (a: TensorHandle, b: TensorHandle) => TensorHandle,
): Tensor {
  if (typeof a !== 'number' && typeof b !== 'number') return new Tensor(fn(a.handle, b.handle));
  if (typeof a === 'number' && typeof b === 'number') {
    throw new InvalidArgumentError(`${name}: at least one operand must be a tensor; got two numbers`);
  }
  const scalar = typeof a === 'number' ? fullOp([], (b as Tensor).dtype, a) : fullOp([], a.dtype, b as number);
  try {
    return new Tensor(typeof a === 'number' ? fn(scalar, (b as Tensor).handle) : fn(a.handle, scalar));
  } finally {
    scalar.dispose();
  }
}

function binary(name: BinaryName, a: Tensor | number, b: Tensor | number): Tensor {
  return withOperands(name, a, b, (left, right) => binaryOp(name, left, right));
}

const isFloat = (x: Tensor): boolean => x.dtype === 'f32' || x.dtype === 'f64' || x.dtype === 'bf16' || x.dtype === 'f16';

/** a + b with broadcasting. Tensors need one dtype; a number takes the tensor's. */
export function add(a: Tensor | number, b: Tensor | number): Tensor {
  if (typeof b === 'number' && typeof a !== 'number' && isFloat(a)) return affine(a, 1, b);
  if (typeof a === 'number' && typeof b !== 'number' && isFloat(b)) return affine(b, 1, a);
  return binary('add', a, b);
}

/** a − b with broadcasting. */
export function sub(a: Tensor | number, b: Tensor | number): Tensor {
  if (typeof b === 'number' && typeof a !== 'number' && isFloat(a)) return affine(a, 1, -b);
  if (typeof a === 'number' && typeof b !== 'number' && isFloat(b)) return affine(b, -1, a);
  return binary('sub', a, b);
}

/** a · b elementwise with broadcasting. */
export function mul(a: Tensor | number, b: Tensor | number): Tensor {
  if (typeof b === 'number' && typeof a !== 'number' && isFloat(a)) return affine(a, b, 0);
  if (typeof a === 'number' && typeof b !== 'number' && isFloat(b)) return affine(b, a, 0);
  return binary('mul', a, b);
}

/** a / b elementwise with broadcasting; integers truncate. */
export function div(a: Tensor | number, b: Tensor | number): Tensor {
  return binary('div', a, b);
}

/** The larger of both, with broadcasting; a NaN in `a` wins. */
export function maximum(a: Tensor | number, b: Tensor | number): Tensor {
  return binary('maximum', a, b);
}

/** The smaller of both, with broadcasting; a NaN in `a` wins. */
export function minimum(a: Tensor | number, b: Tensor | number): Tensor {
  return binary('minimum', a, b);
}

/** −x. */
export const neg: (x: Tensor) => Tensor = unary('neg');
/** e^x. */
export const exp: (x: Tensor) => Tensor = unary('exp');
/** Natural logarithm. */
export const log: (x: Tensor) => Tensor = unary('log');
/** log(1 + x), exact for small x. */
export const log1p: (x: Tensor) => Tensor = unary('log1p');
export const sqrt: (x: Tensor) => Tensor = unary('sqrt');
/** 1 / √x. */
export const rsqrt: (x: Tensor) => Tensor = unary('rsqrt');
/** x². */
export const square: (x: Tensor) => Tensor = unary('square');
/** 1 / x. */
export const reciprocal: (x: Tensor) => Tensor = unary('reciprocal');
/** |x|; the gradient at 0 is 0. */
export const abs: (x: Tensor) => Tensor = unary('abs');
/** −1, 0 or 1; the gradient is 0. */
export const sign: (x: Tensor) => Tensor = unary('sign');
export const sin: (x: Tensor) => Tensor = unary('sin');
export const cos: (x: Tensor) => Tensor = unary('cos');
export const tanh: (x: Tensor) => Tensor = unary('tanh');
/** 1 / (1 + e^−x). */
export const sigmoid: (x: Tensor) => Tensor = unary('sigmoid');
/** max(x, 0). */
export const relu: (x: Tensor) => Tensor = unary('relu');
/** x Φ(x), the exact form with erf. */
export const gelu: (x: Tensor) => Tensor = unary('gelu');
/** The tanh approximation of GELU. */
export const geluTanh: (x: Tensor) => Tensor = unary('geluTanh');
/** x · sigmoid(x), also called swish. */
export const silu: (x: Tensor) => Tensor = unary('silu');
/** log(1 + e^x) without overflow. */
export const softplus: (x: Tensor) => Tensor = unary('softplus');
/** log(sigmoid(x)) without overflow. */
export const logSigmoid: (x: Tensor) => Tensor = unary('logSigmoid');
/** The Gauss error function. */
export const erf: (x: Tensor) => Tensor = unary('erf');
/** Largest integer not above x; the gradient is 0. */
export const floor: (x: Tensor) => Tensor = unary('floor');
/** Nearest integer, ties to even; the gradient is 0. */
export const round: (x: Tensor) => Tensor = unary('round');

/** x^exponent. */
export function pow(x: Tensor, exponent: number): Tensor {
  return new Tensor(unaryOp('pow', x.handle, exponent, 0));
}

/** x cut to [low, high]; the gradient is 0 outside. */
export function clamp(x: Tensor, low: number, high: number): Tensor {
  return new Tensor(unaryOp('clamp', x.handle, low, high));
}

function compare(name: CompareName, a: Tensor | number, b: Tensor | number): Tensor {
  return withOperands(name, a, b, (left, right) => compareOp(name, left, right));
}

/** a = b, as bool, with broadcasting. Not differentiable, as all comparisons. */
export const equal = (a: Tensor | number, b: Tensor | number): Tensor => compare('equal', a, b);
export const notEqual = (a: Tensor | number, b: Tensor | number): Tensor => compare('notEqual', a, b);
export const less = (a: Tensor | number, b: Tensor | number): Tensor => compare('less', a, b);
export const lessEqual = (a: Tensor | number, b: Tensor | number): Tensor => compare('lessEqual', a, b);
export const greater = (a: Tensor | number, b: Tensor | number): Tensor => compare('greater', a, b);
export const greaterEqual = (a: Tensor | number, b: Tensor | number): Tensor => compare('greaterEqual', a, b);
/** Both not zero. */
export const logicalAnd = (a: Tensor, b: Tensor): Tensor => compare('logicalAnd', a, b);
/** At least one not zero. */
export const logicalOr = (a: Tensor, b: Tensor): Tensor => compare('logicalOr', a, b);
/** Zero, as bool. */
export const logicalNot = (a: Tensor): Tensor => compare('equal', a, 0);

/** condition ? a : b with broadcasting; condition bool, a and b of one dtype. */
export function where(condition: Tensor, a: Tensor | number, b: Tensor | number): Tensor {
  return withOperands('where', a, b, (left, right) => whereOp(condition.handle, left, right));
}

/** x in another dtype (a new handle on x itself when it has it already). Floats to integers truncate. */
export function cast(x: Tensor, dtype: DType): Tensor {
  return new Tensor(castOp(x.handle, dtype));
}

/** A contiguous copy in new memory. */
export function clone(x: Tensor): Tensor {
  return new Tensor(cloneOp(x.handle));
}
