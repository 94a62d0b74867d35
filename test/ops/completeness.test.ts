import { readdirSync } from 'node:fs';
import test from 'ava';
import { signatures, unions } from '../helpers/engine.js';
import type { OpCase } from '../helpers/op-case.js';

// Every function that the addon exports is in the battery, or stands here with the reason why not. A new op without a case fails.

const engineControl = 'engine control, not an op on tensors';
const inPlace = 'changes tensors in place';
const quantised = 'codes of frozen weights, without gradient, tested in ops/quantize.test.ts';
const signs = 'codes without gradient, tested in ops/sign.test.ts';
const decomposition = 'a host decomposition without gradient, tested in linalg/';
const masks = 'bits of masks, without gradient, tested in ops/sparse.test.ts';
const noInputs = 'makes tensors from numbers';

const outside: Readonly<Record<string, string>> = {
  setIsaLevel: engineControl,
  isaLevel: engineControl,
  machineIsaLevel: engineControl,
  threads: engineControl,
  setThreads: engineControl,
  setRecording: engineControl,
  recording: engineControl,
  setMemoryLimit: engineControl,
  resetPeakMemory: engineControl,
  trimMemory: engineControl,
  cudaUnavailableReason: engineControl,
  cudaDescription: engineControl,
  waitForStream: engineControl,
  startProfile: engineControl,
  stopProfile: engineControl,
  beginCapture: `${engineControl}, tested in capture.test.ts`,
  endCapture: `${engineControl}, tested in capture.test.ts`,
  launch: `${engineControl}, tested in capture.test.ts`,
  dropCapture: `${engineControl}, tested in capture.test.ts`,
  full: `${noInputs}, tested in create.test.ts`,
  arange: `${noInputs}, tested in create.test.ts`,
  uniform: `${noInputs}, tested in create.test.ts`,
  normal: `${noInputs}, tested in create.test.ts`,
  copyInto: `${inPlace}, tested in shape.test.ts`,
  fill: `${inPlace}, tested in shape.test.ts`,
  adamwStep: `${inPlace}, tested in optim/optimizers.test.ts`,
  maskedAdamwStep: `${inPlace}, tested in optim/sparse-adamw.test.ts`,
  maskedScatter: `${inPlace}, tested in ops/sparse.test.ts`,
  sgdStep: `${inPlace}, tested in optim/optimizers.test.ts`,
  lionStep: `${inPlace}, tested in optim/lion.test.ts`,
  adamw8bitStep: `${inPlace}, tested in optim/adamw-8bit.test.ts`,
  dynamicMap: 'a table of constants, tested in optim/adamw-8bit.test.ts',
  scaleGradients: `${inPlace}, tested in optim/clip.test.ts`,
  clearGradients: `${inPlace}, tested in optim/optimizers.test.ts`,
  haveGradients: 'asks a list of parameters, tested in optim/optimizers.test.ts',
  gradientNorm: 'takes a list of any parameters and is never recorded, tested in optim/clip.test.ts',
  nonFiniteGradients: 'takes a list of any parameters and is never recorded, tested in optim/clip.test.ts',
  globalNorm: 'takes a list of any tensors and is never recorded, tested in optim/clip.test.ts',
  nonFiniteCount: 'takes a list of any tensors and is never recorded, tested in optim/clip.test.ts',
  toDevice: 'the other device may be absent, tested in device.test.ts',
  qr: decomposition,
  svd: decomposition,
  svdLowrank: decomposition,
  symmetricEigen: decomposition,
  cholesky: decomposition,
  solve: decomposition,
  solveTriangular: decomposition,
  mappedTensor: 'reads a file, tested in io/',
  ggufTensor: 'reads a file, tested in io/',
  packGguf: 'reads a file, tested in models/quantized.test.ts',
  packQuantized: quantised,
  packInt8: 'codes of frozen weights, tested in ops/int8.test.ts',
  quantizeInt8: quantised,
  quantizeNf4: quantised,
  quantizeScales: quantised,
  sharePacked: quantised,
  signQuantize: signs,
  signUnpack: signs,
  signValues: signs,
  packSigns: signs,
  unpackRows: quantised,
  embeddingRows: quantised,
  topKMask: masks,
  maskCount: masks,
  maskIndices: masks,
  indexMask: masks,
  expandBlockMask: masks,
  asBytes: 'a view for writing files, tested in io/',
};

/** Families whose members count one by one. */
const families = { unary: 'UnaryName', binary: 'BinaryName', compare: 'CompareName', reduce: 'ReduceName' } as const;

async function coveredNames(): Promise<Set<string>> {
  const files = readdirSync(new URL('.', import.meta.url)).filter((name) => name.endsWith('.cases.js'));
  const modules = await Promise.all(files.map((name) => import(new URL(name, import.meta.url).href) as Promise<{ cases: OpCase[] }>));
  return new Set(modules.flatMap(({ cases }) => cases.flatMap((opCase) => opCase.covers)));
}

test('every native op has a case, or a reason', async (t) => {
  const covered = await coveredNames();
  const missing = Object.keys(signatures).filter((name) => !covered.has(name) && !(name in outside));
  t.deepEqual(missing, []);
});

test('every member of a family has a case', async (t) => {
  const covered = await coveredNames();
  const members = Object.entries(families).flatMap(([family, union]) => (unions[union] ?? []).map((name) => `${family}:${name}`));
  t.true(members.length > 30);
  t.deepEqual(
    members.filter((name) => !covered.has(name)),
    [],
  );
});

test('nothing is listed that does not exist, or twice', async (t) => {
  const covered = await coveredNames();
  t.deepEqual(
    Object.keys(outside).filter((name) => !(name in signatures) || covered.has(name)),
    [],
  );
  t.deepEqual(
    [...covered].filter((name) => !name.includes(':') && !(name in signatures)),
    [],
  );
});
