import { scope } from 'lorikeet';
import { add, addLayerNorm, addRmsNorm, layerNorm, rmsNorm } from 'lorikeet/ops';
import type { Dense, OpCase } from '../helpers/battery.js';

const eps = 1e-5;

/** Calls row(x, start) for each row and joins what it returns. */
function eachRow(x: Dense, row: (values: readonly number[]) => number[]): number[] {
  const width = x.shape.at(-1) as number;
  const result: number[] = [];
  for (let start = 0; start < x.data.length; start += width) result.push(...row(x.data.slice(start, start + width)));
  return result;
}

const mean = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length;

function rmsReference(x: Dense, weight: Dense): number[] {
  return eachRow(x, (values) => {
    const rstd = 1 / Math.sqrt(mean(values.map((v) => v * v)) + eps);
    return values.map((v, i) => v * rstd * (weight.data[i] as number));
  });
}

function layerReference(x: Dense, weight?: Dense, bias?: Dense): number[] {
  return eachRow(x, (values) => {
    const center = mean(values);
    const rstd = 1 / Math.sqrt(mean(values.map((v) => (v - center) ** 2)) + eps);
    return values.map((v, i) => (v - center) * rstd * (weight?.data[i] ?? 1) + (bias?.data[i] ?? 0));
  });
}

const sumOf = (x: Dense, addend: Dense): Dense => ({ shape: x.shape, data: x.data.map((v, i) => v + (addend.data[i] as number)) });

const parameter = (size: number) => ({ shape: [size], batched: false });

export const cases: OpCase[] = [
  ...[1, 7, 16, 33].map(
    (width): OpCase => ({
      name: `rmsNorm of ${width}`,
      covers: ['rmsNorm'],
      inputs: [{ shape: [3, width] }, parameter(width)],
      run: (x, weight) => rmsNorm(x, weight, eps),
      reference: rmsReference,
    }),
  ),
  {
    name: 'rmsNorm with an f32 weight',
    covers: ['rmsNorm'],
    inputs: [{ shape: [2, 3, 20] }, { ...parameter(20), dtype: 'f32', differentiable: true }],
    dtypes: ['f32', 'bf16', 'f16'],
    run: (x, weight) => rmsNorm(x, weight, eps),
    reference: rmsReference,
  },
  ...[1, 5, 32, 35].map(
    (width): OpCase => ({
      name: `layerNorm of ${width}`,
      covers: ['layerNorm'],
      inputs: [{ shape: [3, width] }, parameter(width), parameter(width)],
      run: (x, weight, bias) => layerNorm(x, weight, bias, eps),
      reference: layerReference,
    }),
  ),
  {
    name: 'layerNorm without parameters',
    covers: ['layerNorm'],
    inputs: [{ shape: [3, 2, 9] }],
    run: (x) => layerNorm(x, undefined, undefined, eps),
    reference: (x) => layerReference(x),
  },
  {
    name: 'layerNorm with a bias alone',
    covers: ['layerNorm'],
    inputs: [{ shape: [4, 6] }, parameter(6)],
    run: (x, bias) => layerNorm(x, undefined, bias, eps),
    reference: (x, bias) => layerReference(x, undefined, bias),
  },
  ...[1, 7, 33].map(
    (width): OpCase => ({
      name: `addRmsNorm of ${width}, from the sum`,
      covers: ['addRmsNorm'],
      inputs: [{ shape: [3, width] }, { shape: [3, width] }, parameter(width)],
      run: (x, addend, weight) => addRmsNorm(x, addend, weight, eps),
      reference: (x, addend, weight) => [sumOf(x, addend).data, rmsReference(sumOf(x, addend), weight)],
    }),
  ),
  ...[7, 40].map(
    (width): OpCase => ({
      name: `addRmsNorm of ${width}, from the norm`,
      covers: ['addRmsNorm'],
      inputs: [{ shape: [3, width] }, { shape: [3, width] }, parameter(width)],
      run: (x, addend, weight) => scope(() => addRmsNorm(x, addend, weight, eps)[1]),
      reference: (x, addend, weight) => rmsReference(sumOf(x, addend), weight),
    }),
  ),
  {
    name: 'addRmsNorm with an f32 weight, from both',
    covers: ['addRmsNorm'],
    inputs: [{ shape: [2, 3, 20] }, { shape: [2, 3, 20] }, { ...parameter(20), dtype: 'f32', differentiable: true }],
    dtypes: ['f32', 'bf16', 'f16'],
    run: (x, addend, weight) => scope(() => add(...addRmsNorm(x, addend, weight, eps))),
    reference: (x, addend, weight) => {
      const sum = sumOf(x, addend);
      return rmsReference(sum, weight).map((v, i) => v + (sum.data[i] as number));
    },
  },
  {
    name: 'addLayerNorm, from the norm',
    covers: ['addLayerNorm'],
    inputs: [{ shape: [3, 35] }, { shape: [3, 35] }, parameter(35), parameter(35)],
    run: (x, addend, weight, bias) => scope(() => addLayerNorm(x, addend, weight, bias, eps)[1]),
    reference: (x, addend, weight, bias) => layerReference(sumOf(x, addend), weight, bias),
  },
  {
    name: 'addLayerNorm, from both',
    covers: ['addLayerNorm'],
    inputs: [{ shape: [3, 2, 9] }, { shape: [3, 2, 9] }, parameter(9), parameter(9)],
    run: (x, addend, weight, bias) => scope(() => add(...addLayerNorm(x, addend, weight, bias, eps))),
    reference: (x, addend, weight, bias) => {
      const sum = sumOf(x, addend);
      return layerReference(sum, weight, bias).map((v, i) => v + (sum.data[i] as number));
    },
  },
  {
    name: 'addLayerNorm without parameters, from the sum',
    covers: ['addLayerNorm'],
    inputs: [{ shape: [4, 6] }, { shape: [4, 6] }],
    run: (x, addend) => addLayerNorm(x, addend, undefined, undefined, eps),
    reference: (x, addend) => [sumOf(x, addend).data, layerReference(sumOf(x, addend))],
  },
];
