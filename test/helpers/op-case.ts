// What an op case says, and how its inputs are made.

import { type DType, scope, Tensor } from 'lorikeet';
import { cast, narrow, permute, tensor } from 'lorikeet/ops';
import { draw, sizeOf, type Values } from './values.js';

/** Numbers of one input or output, in row-major order. */
export interface Dense {
  readonly shape: readonly number[];
  readonly data: readonly number[];
}

export interface InputSpec {
  readonly shape: readonly number[];
  /** Default `normal`. */
  readonly values?: Values;
  /** A dtype of its own (indices, masks, f32 weights beside bf16); default: the dtype under test. */
  readonly dtype?: DType;
  /** Whether a gradient is checked. Default: true without a `dtype` of its own. */
  readonly differentiable?: boolean;
  /** True when dimension 0 counts independent rows; false for parameters. Default true. */
  readonly batched?: boolean;
}

export interface OpCase {
  readonly name: string;
  /** Native ops this case stands for; `op:variant` for the members of a family (`unary:exp`). The completeness test counts them. */
  readonly covers: readonly string[];
  readonly inputs: readonly InputSpec[];
  readonly run: (...inputs: Tensor[]) => Tensor | readonly Tensor[];
  /** The same in plain numbers, independent of the engine. One of `reference` and `composite` must be there. */
  readonly reference?: (...inputs: Dense[]) => ArrayLike<number> | readonly ArrayLike<number>[];
  /** The same out of simple ops, evaluated in f64. */
  readonly composite?: (...inputs: Tensor[]) => Tensor | readonly Tensor[];
  /** Floating dtypes under test. Default: all four. */
  readonly dtypes?: readonly FloatName[];
  /** Bounds on the error relative to the largest number, where the defaults do not fit. */
  readonly tolerance?: Partial<Record<FloatName, number>>;
  /** Why the op has no gradient, when it has none. */
  readonly notDifferentiable?: string;
  /** Why a row's bits may depend on the batch (or there are no rows), where that is so. */
  readonly notBatched?: string;
  /** Why inputs cannot be strided views, where that is so. */
  readonly noViews?: string;
}

export type FloatName = 'f64' | 'f32' | 'bf16' | 'f16';
export const floatNames: readonly FloatName[] = ['f64', 'f32', 'bf16', 'f16'];

/** Reading a value rounds it by at most half a unit: 2^-53, 2^-24, 2^-9, 2^-12; sums of a few dozen such errors stay below these. */
export const defaultTolerance: Readonly<Record<FloatName, number>> = { f64: 1e-12, f32: 3e-6, bf16: 1.6e-2, f16: 2e-3 };

export const toleranceOf = (opCase: OpCase, dtype: FloatName): number => opCase.tolerance?.[dtype] ?? defaultTolerance[dtype];
export const dtypesOf = (opCase: OpCase): readonly FloatName[] => opCase.dtypes ?? floatNames;

export const isDifferentiable = (opCase: OpCase, spec: InputSpec): boolean =>
  opCase.notDifferentiable === undefined && (spec.differentiable ?? spec.dtype === undefined);

/** The inputs of a case with another number of rows in the batched ones. */
export function withRows(opCase: OpCase, rows: number): readonly InputSpec[] {
  return opCase.inputs.map((spec) => (spec.batched === false ? spec : { ...spec, shape: [rows, ...spec.shape.slice(1)] }));
}

/** How inputs lie in memory: `plain`, `padded` (a window of wider rows) or `swapped` (the first two dimensions exchanged in memory). */
export type Layout = 'plain' | 'padded' | 'swapped';

/** Draws the inputs: the same numbers for every dtype and layout. */
export function makeInputs(opCase: OpCase, dtype: DType, specs = opCase.inputs, layout: Layout = 'plain'): Tensor[] {
  return specs.map((spec, i) => {
    const data = draw(spec.values ?? 'normal', sizeOf(spec.shape), 1000 + 17 * i);
    const x = placed(data, spec.shape, spec.dtype ?? dtype, layout);
    return isDifferentiable(opCase, spec) ? x.setRequiresGrad(true) : x;
  });
}

export function placed(data: readonly number[], shape: readonly number[], dtype: DType, layout: Layout): Tensor {
  const integer = dtype === 'i64' || dtype === 'i32' || dtype === 'u8' || dtype === 'bool';
  const make = (values: readonly number[], sizes: readonly number[]): Tensor =>
    integer
      ? tensor(values as number[], { shape: sizes, dtype })
      : scope(() => cast(tensor(values as number[], { shape: sizes, dtype: 'f64' }), dtype));
  if (layout === 'plain' || shape.length === 0) return make(data, shape);
  return scope(() => {
    if (layout === 'swapped' && shape.length >= 2) {
      const [rows, columns, ...rest] = shape as [number, number, ...number[]];
      const run = sizeOf(rest);
      const moved = Array.from({ length: data.length }, (_, at) => {
        const inner = at % run;
        const row = Math.floor(at / run) % rows;
        const column = Math.floor(at / run / rows);
        return data[(row * columns + column) * run + inner] as number;
      });
      return permute(make(moved, [columns, rows, ...rest]), [1, 0, ...rest.map((_, i) => i + 2)]).detach();
    }
    const last = shape.at(-1) as number;
    const padding = integer ? 0 : 1e4;
    const wide = Array.from({ length: (data.length / Math.max(last, 1)) * (last + 3) }, (_, at) => {
      const column = (at % (last + 3)) - 2;
      return column >= 0 && column < last ? (data[Math.floor(at / (last + 3)) * last + column] as number) : padding;
    });
    return narrow(
      make(last === 0 ? [] : wide, last === 0 ? [...shape.slice(0, -1), 0] : [...shape.slice(0, -1), last + 3]),
      -1,
      last === 0 ? 0 : 2,
      last,
    ).detach();
  });
}

export const outputsOf = (result: Tensor | readonly Tensor[]): readonly Tensor[] => (result instanceof Tensor ? [result] : result);

export const numbersOf = (x: Tensor): number[] => Array.from(x.dataSync() as ArrayLike<number | bigint>, Number);

export const denseOf = (x: Tensor): Dense => ({ shape: x.shape, data: numbersOf(x) });

/** What the op should give for these inputs, in double. */
export function expectedOf(opCase: OpCase, inputs: readonly Tensor[]): number[][] {
  return scope(() => {
    if (opCase.reference) {
      const result = opCase.reference(...inputs.map(denseOf));
      const lists = Array.isArray(result) && typeof result[0] === 'object' ? result : [result];
      return lists.map((list) => Array.from(list as ArrayLike<number>));
    }
    if (!opCase.composite) throw new Error(`${opCase.name}: the case has neither reference nor composite`);
    const wide = inputs.map((x) => (floatNames.includes(x.dtype as FloatName) ? cast(x.detach(), 'f64') : x.detach()));
    return outputsOf(opCase.composite(...wide)).map(numbersOf);
  });
}

/** The gradient given to output i in every check. */
export const outputWeights = (shape: readonly number[], i: number): number[] => draw('normal', sizeOf(shape), 77 + i);
