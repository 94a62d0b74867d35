// The battery that every op goes through. A case says how to make inputs, how to run the op and what it should give; the rest is here.

import type { TestFn } from 'ava';
import { memory, scope, type Tensor } from 'lorikeet';
import { cast, narrow, tensor } from 'lorikeet/ops';
import { atLevel, machineLevels, missingLevels, withThreads } from './engine.js';
import { centralDifferences } from './gradient-check.js';
import {
  dtypesOf,
  expectedOf,
  type FloatName,
  type InputSpec,
  isDifferentiable,
  type Layout,
  makeInputs,
  numbersOf,
  type OpCase,
  outputsOf,
  outputWeights,
  toleranceOf,
  withRows,
} from './op-case.js';
import { sameBits, sizeOf, worstError } from './values.js';

export type { Dense, OpCase } from './op-case.js';

const isFloat = (x: Tensor): boolean => ['f64', 'f32', 'bf16', 'f16'].includes(x.dtype);

/** Outputs and input gradients (empty where none is checked) as typed arrays. */
interface Results {
  readonly outputs: readonly ArrayBufferView[];
  readonly gradients: readonly (ArrayBufferView | undefined)[];
}

/** Runs the op, and its backward from fixed gradients of the outputs. */
export function runCase(
  opCase: OpCase,
  inputs: readonly Tensor[],
  gradientRows?: (data: number[], shape: readonly number[]) => number[],
): Results {
  return scope(() => {
    const outputs = outputsOf(opCase.run(...inputs));
    const wanted = inputs.map((x) => x.requiresGrad);
    const result = outputs.map((x) => x.dataSync());
    if (!wanted.some(Boolean)) return { outputs: result, gradients: inputs.map(() => undefined) };
    for (const x of inputs) if (x.requiresGrad) x.clearGrad();
    const roots = outputs.map((x, i) => ({ x, i })).filter(({ x }) => isFloat(x) && x.requiresGrad);
    // One backward through all outputs at once: each is weighted and the walk starts from the last.
    for (const { x, i } of roots.slice(0, 1)) {
      let weights = outputWeights(x.shape, i);
      if (gradientRows) weights = gradientRows(weights, x.shape);
      x.backward(cast(tensor(weights, { shape: x.shape, dtype: 'f64' }), x.dtype));
    }
    return { outputs: result, gradients: inputs.map((x, i) => (wanted[i] ? (x.grad?.dataSync() ?? zerosLike(x)) : undefined)) };
  });
}

const zerosLike = (x: Tensor): ArrayBufferView => (x.dtype === 'f64' ? new Float64Array(x.size) : new Float32Array(x.size));

/** The checks of a case: each returns what is wrong, or undefined. All are synchronous: level and thread count are process-wide. */
export function checksFor(opCase: OpCase): Record<string, () => string | undefined> {
  const first = (problems: Iterable<string | undefined>): string | undefined => {
    for (const problem of problems) if (problem) return problem;
    return undefined;
  };
  const each = <T>(list: readonly T[], check: (item: T) => string | undefined) =>
    first(
      (function* () {
        for (const item of list) yield check(item);
      })(),
    );
  return {
    values: () => each(dtypesOf(opCase), (dtype) => valueProblem(opCase, dtype)),
    ...(opCase.notDifferentiable === undefined && { gradients: () => gradientProblem(opCase) }),
    'every level': () => each(machineLevels, (level) => levelProblem(opCase, level)),
    'thread counts': () => threadProblem(opCase),
    ...(opCase.noViews === undefined && { views: () => each(['padded', 'swapped'] as const, (layout) => layoutProblem(opCase, layout)) }),
    ...(opCase.notBatched === undefined && {
      rows: () => each(dtypesOf(opCase), (dtype) => batchProblem(opCase, dtype)) ?? rowCountProblem(opCase),
    }),
    'nothing leaks': () => leakProblem(opCase),
  };
}

/** Registers the checks of each case with ava. */
export function battery(test: TestFn, cases: readonly OpCase[]): void {
  test.before((t) => {
    if (missingLevels.length > 0) t.log(`levels that did not run on this machine: ${missingLevels.join(', ')}`);
  });
  for (const opCase of cases) {
    for (const [name, check] of Object.entries(checksFor(opCase))) {
      test(`${opCase.name}: ${name}`, (t) => t.is(check(), undefined));
    }
  }
}

function compare(
  what: string,
  got: readonly ArrayBufferView[],
  expected: readonly (readonly number[])[],
  tolerance: number,
): string | undefined {
  if (got.length !== expected.length) return `${what}: ${got.length} outputs, expected ${expected.length}`;
  for (const [i, list] of got.entries()) {
    const numbers = Array.from(list as unknown as ArrayLike<number | bigint>, Number);
    const error = worstError(numbers, expected[i] ?? []);
    if (!(error <= tolerance)) return `${what}: output ${i} is off by ${error}, allowed ${tolerance}`;
  }
  return undefined;
}

function valueProblem(opCase: OpCase, dtype: FloatName, specs?: readonly InputSpec[]): string | undefined {
  return scope(() => {
    const inputs = makeInputs(opCase, dtype, specs);
    const got = runCase(opCase, inputs).outputs;
    return compare(`${opCase.name} ${dtype}`, got, expectedOf(opCase, inputs), toleranceOf(opCase, dtype));
  });
}

/** f64 gradients against central differences, the other dtypes against the f64 gradient at their rounded inputs. */
function gradientProblem(opCase: OpCase): string | undefined {
  return scope(() => {
    for (const dtype of dtypesOf(opCase)) {
      const inputs = makeInputs(opCase, dtype);
      const got = runCase(opCase, inputs).gradients;
      let expected: readonly (ArrayLike<number> | undefined)[];
      if (dtype === 'f64') {
        expected = centralDifferences(opCase, inputs);
      } else {
        const own = (i: number): boolean => opCase.inputs[i]?.dtype !== undefined;
        const wide = inputs.map((x, i) =>
          x.requiresGrad ? cast(x.detach(), 'f64').setRequiresGrad(true) : isFloat(x) && !own(i) ? cast(x, 'f64') : x,
        );
        expected = runCase(opCase, wide).gradients as readonly (ArrayLike<number> | undefined)[];
      }
      for (const [i, gradient] of got.entries()) {
        if (!gradient) continue;
        const error = worstError(gradient as unknown as ArrayLike<number>, expected[i] ?? []);
        const tolerance = dtype === 'f64' ? 1e-7 : 3 * toleranceOf(opCase, dtype);
        if (!(error <= tolerance)) return `${opCase.name} ${dtype}: gradient of input ${i} is off by ${error}, allowed ${tolerance}`;
      }
    }
    return undefined;
  });
}

function levelProblem(opCase: OpCase, level: string): string | undefined {
  return atLevel(level, () => {
    for (const dtype of dtypesOf(opCase)) {
      const problem = valueProblem(opCase, dtype);
      if (problem) return `${level}: ${problem}`;
    }
    const problem = opCase.notDifferentiable === undefined ? gradientProblem(opCase) : undefined;
    return problem && `${level}: ${problem}`;
  });
}

/** Enough rows that work is really cut into tasks. */
const manyRows = (opCase: OpCase): readonly InputSpec[] => {
  const widest = Math.max(1, ...opCase.inputs.filter((spec) => spec.batched !== false).map((spec) => sizeOf(spec.shape.slice(1))));
  return withRows(opCase, Math.max(9, Math.min(4000, Math.ceil(40000 / widest))));
};

function sameResults(what: string, a: Results, b: Results): string | undefined {
  for (const [i, output] of a.outputs.entries()) {
    if (!sameBits(output, b.outputs[i] as ArrayBufferView)) return `${what}: output ${i} has other bits`;
  }
  for (const [i, gradient] of a.gradients.entries()) {
    if (gradient && !sameBits(gradient, b.gradients[i] as ArrayBufferView)) return `${what}: gradient of input ${i} has other bits`;
  }
  return undefined;
}

function threadProblem(opCase: OpCase): string | undefined {
  const specs = opCase.notBatched === undefined ? manyRows(opCase) : opCase.inputs;
  const dtype = dtypesOf(opCase).includes('f32') ? 'f32' : 'f64';
  const [one, two] = [1, 2].map((count) => withThreads(count, () => scope(() => runCase(opCase, makeInputs(opCase, dtype, specs))))) as [
    Results,
    Results,
  ];
  return sameResults(`${opCase.name}: 1 and 2 threads`, one, two);
}

function layoutProblem(opCase: OpCase, layout: Layout): string | undefined {
  return scope(() => {
    const dtype = dtypesOf(opCase).includes('f32') ? 'f32' : 'f64';
    const plain = runCase(opCase, makeInputs(opCase, dtype));
    const strided = runCase(opCase, makeInputs(opCase, dtype, opCase.inputs, layout));
    return sameResults(`${opCase.name}: ${layout} inputs`, plain, strided);
  });
}

/** Rows of a typed array as bytes. */
function rowsOf(view: ArrayBufferView, rows: number): Buffer[] {
  const bytes = Buffer.from(view.buffer, view.byteOffset, view.byteLength);
  const each = bytes.length / rows;
  return Array.from({ length: rows }, (_, row) => bytes.subarray(row * each, (row + 1) * each));
}

/** Row 2 of a batch of 7 against the same row alone, bit for bit: outputs and input gradients. */
function batchProblem(opCase: OpCase, dtype: FloatName): string | undefined {
  const total = 7;
  const chosen = 2;
  return scope(() => {
    const batch = makeInputs(opCase, dtype, withRows(opCase, total));
    const alone = batch.map((x, i) => {
      const spec = opCase.inputs[i] as InputSpec;
      const row = spec.batched === false ? x.detach() : narrow(x, 0, chosen, 1).detach();
      return isDifferentiable(opCase, spec) ? row.setRequiresGrad(true) : row;
    });
    const many = runCase(opCase, batch);
    const one = runCase(opCase, alone, (_, shape) => {
      const all = outputWeights([total, ...shape.slice(1)], 0);
      const each = all.length / total;
      return all.slice(chosen * each, (chosen + 1) * each);
    });
    for (const [i, output] of many.outputs.entries()) {
      if (!rowsOf(output, total)[chosen]?.equals(rowsOf(one.outputs[i] as ArrayBufferView, 1)[0] as Buffer)) {
        return `${opCase.name} ${dtype}: output ${i} of a row depends on its batch`;
      }
    }
    for (const [i, gradient] of many.gradients.entries()) {
      if (!gradient || opCase.inputs[i]?.batched === false) continue;
      if (!rowsOf(gradient, total)[chosen]?.equals(rowsOf(one.gradients[i] as ArrayBufferView, 1)[0] as Buffer)) {
        return `${opCase.name} ${dtype}: the gradient of a row of input ${i} depends on its batch`;
      }
    }
    return undefined;
  });
}

/** No rows, one row, and an odd number of them. */
function rowCountProblem(opCase: OpCase): string | undefined {
  for (const rows of [0, 1, 5]) {
    const specs = withRows(opCase, rows);
    const dtype = dtypesOf(opCase)[0] as FloatName;
    const problem = valueProblem(opCase, dtype, specs);
    if (problem) return `${rows} rows: ${problem}`;
  }
  return undefined;
}

/** What the op creates must be its outputs alone, also outside any scope. */
function leakProblem(opCase: OpCase): string | undefined {
  const before = memory().tensors;
  const inputs = makeInputs(opCase, dtypesOf(opCase)[0] as FloatName);
  const outputs = outputsOf(opCase.run(...inputs));
  const root = outputs.find((x) => isFloat(x) && x.requiresGrad);
  if (root) {
    const weights = tensor(outputWeights(root.shape, 0), { shape: root.shape, dtype: root.dtype });
    root.backward(weights);
    weights.dispose();
  }
  numbersOf(outputs[0] as Tensor);
  for (const x of outputs) x.dispose();
  for (const x of inputs) x.dispose();
  const after = memory().tensors;
  return after === before ? undefined : `${opCase.name}: ${after - before} tensors were left behind`;
}
