import { scope, type Tensor } from 'lorikeet';
import * as ops from 'lorikeet/ops';
import type { Dense, OpCase } from '../helpers/battery.js';
import type { FloatName, InputSpec } from '../helpers/op-case.js';
import type { Values } from '../helpers/values.js';

const map = (f: (x: number) => number) => (x: Dense) => x.data.map(f);

/** Abramowitz and Stegun 7.1.5 for small arguments, 7.1.14 (a continued fraction) for large ones: good to 1e-15. */
function erf(x: number): number {
  const t = Math.abs(x);
  if (t < 2.5) {
    let term = t;
    let sum = t;
    for (let n = 1; n < 80; n++) {
      term *= (-t * t) / n;
      sum += term / (2 * n + 1);
    }
    return Math.sign(x) * (2 / Math.sqrt(Math.PI)) * sum;
  }
  let fraction = 0;
  for (let n = 60; n >= 1; n--) fraction = n / 2 / (t + fraction);
  return Math.sign(x) * (1 - Math.exp(-t * t) / ((t + fraction) * Math.sqrt(Math.PI)));
}

const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));
const roundEven = (x: number): number => (Math.abs(x - Math.trunc(x)) === 0.5 ? 2 * Math.round(x / 2) : Math.round(x));

interface UnaryRow {
  readonly run: (x: Tensor) => Tensor;
  readonly reference: (x: number) => number;
  readonly values?: Values;
  readonly tolerance?: Partial<Record<FloatName, number>>;
  readonly notDifferentiable?: string;
}

const steps = 'a step function: its gradient is zero, checked apart';
/** Halves away, so that rounding to 16 bits moves no value over a step. */
const betweenSteps: Values = (_, random) => Math.floor(random() * 9) - 4 + 0.25;

const unary: Record<string, UnaryRow> = {
  affine: { run: (x) => scope(() => ops.mul(ops.add(x, 2), -1.5)), reference: (x) => (x + 2) * -1.5 },
  neg: { run: ops.neg, reference: (x) => -x },
  exp: { run: ops.exp, reference: Math.exp },
  log: { run: ops.log, reference: Math.log, values: 'positive' },
  log1p: { run: ops.log1p, reference: Math.log1p, values: 'positive' },
  sqrt: { run: ops.sqrt, reference: Math.sqrt, values: 'positive' },
  rsqrt: { run: ops.rsqrt, reference: (x) => 1 / Math.sqrt(x), values: 'positive' },
  square: { run: ops.square, reference: (x) => x * x },
  reciprocal: { run: ops.reciprocal, reference: (x) => 1 / x, values: 'positive' },
  abs: { run: ops.abs, reference: Math.abs, values: 'away-from-zero' },
  sign: { run: ops.sign, reference: Math.sign, values: betweenSteps, notDifferentiable: steps },
  sin: { run: ops.sin, reference: Math.sin },
  cos: { run: ops.cos, reference: Math.cos },
  tanh: { run: ops.tanh, reference: Math.tanh },
  sigmoid: { run: ops.sigmoid, reference: sigmoid },
  relu: { run: ops.relu, reference: (x) => Math.max(x, 0), values: 'away-from-zero' },
  gelu: { run: ops.gelu, reference: (x) => 0.5 * x * (1 + erf(x * Math.SQRT1_2)) },
  geluTanh: { run: ops.geluTanh, reference: (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))) },
  silu: { run: ops.silu, reference: (x) => x * sigmoid(x) },
  softplus: { run: ops.softplus, reference: (x) => Math.log1p(Math.exp(x)) },
  logSigmoid: { run: ops.logSigmoid, reference: (x) => -Math.log1p(Math.exp(-x)) },
  pow: { run: (x) => ops.pow(x, 2.5), reference: (x) => x ** 2.5, values: 'positive' },
  clamp: { run: (x) => ops.clamp(x, -0.5, 0.75), reference: (x) => Math.min(Math.max(x, -0.5), 0.75) },
  erf: { run: ops.erf, reference: erf },
  floor: { run: ops.floor, reference: Math.floor, values: betweenSteps, notDifferentiable: steps },
  round: { run: ops.round, reference: roundEven, values: betweenSteps, notDifferentiable: steps },
};

const unaryCases = Object.entries(unary).map(
  ([name, row]): OpCase => ({
    name,
    covers: ['unary', `unary:${name}`],
    inputs: [{ shape: [3, 7], ...(row.values && { values: row.values }) }],
    run: (x) => row.run(x),
    reference: map(row.reference),
    ...(row.tolerance && { tolerance: row.tolerance }),
    ...(row.notDifferentiable && { notDifferentiable: row.notDifferentiable }),
  }),
);

/** f over two operands of which the second is repeated along missing or single dimensions, by index arithmetic. */
function broadcast(a: Dense, b: Dense, f: (x: number, y: number) => number): number[] {
  const rank = Math.max(a.shape.length, b.shape.length);
  const pad = (shape: readonly number[]): number[] => [...Array<number>(rank - shape.length).fill(1), ...shape];
  const [left, right] = [pad(a.shape), pad(b.shape)];
  const shape = left.map((size, i) => (size === 1 ? (right[i] as number) : size));
  const pick = (x: Dense, sizes: readonly number[], place: readonly number[]): number =>
    x.data[place.reduce((at, index, i) => at * (sizes[i] as number) + (sizes[i] === 1 ? 0 : index), 0)] as number;
  const result: number[] = [];
  const total = shape.reduce((product, size) => product * size, 1);
  for (let at = 0; at < total; at++) {
    const place = shape.map((size, i) => Math.floor(at / shape.slice(i + 1).reduce((p, s) => p * s, 1)) % size);
    result.push(f(pick(a, left, place), pick(b, right, place)));
  }
  return result;
}

const binary: Record<string, [(a: Tensor, b: Tensor) => Tensor, (a: number, b: number) => number, Values]> = {
  add: [ops.add, (a, b) => a + b, 'normal'],
  sub: [ops.sub, (a, b) => a - b, 'normal'],
  mul: [ops.mul, (a, b) => a * b, 'normal'],
  div: [ops.div, (a, b) => a / b, 'positive'],
  maximum: [ops.maximum, Math.max, 'normal'],
  minimum: [ops.minimum, Math.min, 'normal'],
};

const operandShapes: [string, InputSpec, InputSpec][] = [
  ['equal shapes', { shape: [3, 5] }, { shape: [3, 5] }],
  ['a row', { shape: [3, 5] }, { shape: [5], batched: false }],
  ['a column', { shape: [3, 4, 2] }, { shape: [3, 1, 2] }],
  ['a scalar', { shape: [3, 5] }, { shape: [], batched: false }],
];

const binaryCases = Object.entries(binary).flatMap(([name, [run, f, values]]) =>
  operandShapes.map(
    ([what, a, b]): OpCase => ({
      name: `${name} with ${what}`,
      covers: ['binary', `binary:${name}`],
      inputs: [a, { ...b, values }],
      run: (x, y) => run(x, y),
      reference: (x, y) => broadcast(x, y, f),
    }),
  ),
);

const notDifferentiable = 'the result is bool';
const small: Values = (_, random) => Math.floor(random() * 3) - 1;
const bit = (value: boolean): number => (value ? 1 : 0);
const compare: Record<string, [(a: Tensor, b: Tensor) => Tensor, (a: number, b: number) => boolean]> = {
  equal: [ops.equal, (a, b) => a === b],
  notEqual: [ops.notEqual, (a, b) => a !== b],
  less: [ops.less, (a, b) => a < b],
  lessEqual: [ops.lessEqual, (a, b) => a <= b],
  greater: [ops.greater, (a, b) => a > b],
  greaterEqual: [ops.greaterEqual, (a, b) => a >= b],
  logicalAnd: [ops.logicalAnd, (a, b) => a !== 0 && b !== 0],
  logicalOr: [ops.logicalOr, (a, b) => a !== 0 || b !== 0],
};

const compareCases = Object.entries(compare).flatMap(([name, [run, f]]) => [
  ...operandShapes.map(
    ([what, a, b]): OpCase => ({
      name: `${name} with ${what}`,
      covers: ['compare', `compare:${name}`],
      inputs: [
        { ...a, values: small },
        { ...b, values: small },
      ],
      run: (x, y) => run(x, y),
      reference: (x, y) => broadcast(x, y, (v, w) => bit(f(v, w))),
      notDifferentiable,
    }),
  ),
]);

const mask: InputSpec = { shape: [3, 5], dtype: 'bool', values: (i) => (i % 3 === 0 ? 1 : 0) };

const whereReference = (condition: Dense, a: Dense, b: Dense): number[] => {
  const picked = broadcast(condition, a, (c, x) => (c !== 0 ? x : Number.NaN));
  const other = broadcast({ shape: condition.shape, data: condition.data }, b, (c, x) => (c !== 0 ? Number.NaN : x));
  return picked.map((x, i) => (Number.isNaN(x) ? (other[i] as number) : x));
};

export const cases: OpCase[] = [
  ...unaryCases,
  ...binaryCases,
  ...compareCases,
  {
    name: 'where of equal shapes',
    covers: ['where'],
    inputs: [mask, { shape: [3, 5] }, { shape: [3, 5] }],
    run: (condition, a, b) => ops.where(condition, a, b),
    reference: whereReference,
  },
  {
    name: 'where with rows and a number',
    covers: ['where'],
    inputs: [mask, { shape: [5], batched: false }],
    run: (condition, a) => ops.where(condition, a, -2),
    reference: (condition, a) => whereReference(condition, a, { shape: [], data: [-2] }),
  },
  {
    name: 'cast to f64 and back',
    covers: ['cast'],
    inputs: [{ shape: [3, 5] }],
    run: (x) => scope(() => ops.cast(ops.cast(x, 'f64'), x.dtype)),
    reference: (x) => x.data,
    noViews: 'an f64 input is returned as it is, a view included',
  },
  {
    name: 'clone',
    covers: ['clone'],
    inputs: [{ shape: [3, 5] }],
    run: (x) => ops.clone(x),
    reference: (x) => x.data,
  },
];
