import { denseWeight } from '../adapters/trained-copy.js';
import { ConfigError, throwIfAborted } from '../errors.js';
import { isJsonObject } from '../io/json.js';
import { solve } from '../linalg/solve.js';
import { cast, clone, mul } from '../ops/elementwise.js';
import { matmul } from '../ops/linalg.js';
import { contiguous, narrow, transpose } from '../ops/shape.js';
import type { DType, Tensor } from '../tensor.js';
import { contexts } from './corda-contexts.js';
import { type Eigens, isThere, readEigens, writeEigens } from './corda-files.js';
import type { Normaliser } from './covariance.js';
import { damped } from './damping.js';
import type { InitContext, InitMethod, Start, StartLayer } from './init.js';
import { leading } from './leading.js';
import { requireWhole } from './require-whole.js';
import { onLayer, sharedPair, warnOfDropout } from './split.js';

/** Options of CorDA. */
export interface CordaOptions {
  /** `ipm`: train the components that matter most for the data. `kpm`: train those that matter least, and so keep what the data show. */
  method: 'ipm' | 'kpm';
  /** Samples (rows of batches) to look at; null: all. */
  samples: number | null;
  /** Of inverse and decomposition. null: f64 for kpm, whose components lie in the rounding of f32, the dtype of adapters for ipm. PEFT: f32. */
  precision: 'f32' | 'f64' | null;
  /** What a sample is divided by: the magnitude of its largest entry (`max`), or its largest magnitude (`maxabs`). */
  normaliser: Normaliser;
  /** Where the singular values go: shared between A and B, all into B (`u`) or all into A (`v`). */
  sigmaFuse: 'uv' | 'u' | 'v';
  /** Power steps of a randomised decomposition of width 2 R, for ipm; null: the exact one. */
  niter: number | null;
  /** Inputs whose covariances are in memory at a time, with one pass over the data for each such part; null: all in one pass. */
  inputsAtOnce: number | null;
  /** Safetensors file with the covariances: read where it is there, else written. */
  covarianceFile: string | null;
  /** Safetensors file with the components that are trained: read where it is there, else written. */
  cacheFile: string | null;
  /** Batches that a recipe has read for it. */
  batches: number;
  /** Rows of such a batch. */
  batchSize: number;
}

const defaults: CordaOptions = {
  method: 'ipm',
  samples: null,
  precision: null,
  normaliser: 'max',
  sigmaFuse: 'uv',
  niter: null,
  inputsAtOnce: null,
  covarianceFile: null,
  cacheFile: null,
  batches: 64,
  batchSize: 4,
};

function check(options: CordaOptions): void {
  const wrong = (key: keyof CordaOptions, expected: string): ConfigError =>
    new ConfigError(`corda: ${key} must be ${expected}; got ${JSON.stringify(options[key])}`);
  const oneOf = (key: keyof CordaOptions, ...values: readonly unknown[]): void => {
    if (!values.includes(options[key])) throw wrong(key, values.map((value) => JSON.stringify(value)).join(' or '));
  };
  oneOf('method', 'ipm', 'kpm');
  oneOf('precision', null, 'f32', 'f64');
  oneOf('normaliser', 'max', 'maxabs');
  oneOf('sigmaFuse', 'uv', 'u', 'v');
  for (const key of ['samples', 'inputsAtOnce'] as const) requireWhole('corda', key, options[key], 1, 'null');
  requireWhole('corda', 'niter', options.niter, 0, 'null');
  for (const key of ['batches', 'batchSize'] as const) requireWhole('corda', key, options[key], 1);
  for (const key of ['covarianceFile', 'cacheFile'] as const)
    if (options[key] !== null && (typeof options[key] !== 'string' || options[key] === '')) throw wrong(key, 'null or the name of a file');
  if (options.niter !== null && options.method === 'kpm')
    throw new ConfigError('corda: niter finds the largest components, and kpm trains the smallest; expected niter null');
  if (options.inputsAtOnce !== null && options.covarianceFile !== null)
    throw new ConfigError('corda: covarianceFile takes the covariances of all inputs at once; expected inputsAtOnce null');
}

/** The components of W C' that the method trains, in the dtype of C'. */
function eigensOf(
  { path, layer, rank }: StartLayer,
  matrix: Tensor,
  options: CordaOptions,
  context: InitContext,
): { s: Tensor; u: Tensor; v: Tensor } {
  const { method, niter } = options;
  const weight = denseWeight(layer, matrix.dtype);
  const product = matmul(weight, matrix);
  const seed = context.seed + context.stream(path, 'corda');
  const { u, s, vt } = leading(product, rank, { niter, oversample: rank }, seed);
  const first = method === 'ipm' ? 0 : (s.shape[0] ?? 0) - rank;
  return {
    s: clone(narrow(s, 0, first, rank)),
    u: clone(narrow(u, 1, first, rank)),
    v: contiguous(solve(matrix, transpose(narrow(vt, 0, first, rank)))),
  };
}

/** The pair with s B A = U diag(S) Vᵀ. */
function pairOf(
  { s, u, v }: Eigens,
  { rank, scale }: StartLayer,
  sigmaFuse: CordaOptions['sigmaFuse'],
  dtype: DType,
): { a: Tensor; b: Tensor } {
  const shared = sharedPair({ u, s, vt: transpose(v) }, 0, rank, scale);
  const singular = mul(s, 1 / scale);
  const a = sigmaFuse === 'uv' ? shared.a : transpose(sigmaFuse === 'u' ? v : mul(v, singular));
  const b = sigmaFuse === 'uv' ? shared.b : sigmaFuse === 'u' ? mul(u, singular) : u;
  return { a: clone(cast(a, dtype)), b: clone(cast(b, dtype)) };
}

/** The components of every layer: from the cache, or computed, and then put there. A layer's are there until the next ones are asked for. */
async function* components(
  layers: readonly StartLayer[],
  options: CordaOptions,
  context: InitContext,
): AsyncGenerator<readonly [StartLayer, Eigens]> {
  const { method, cacheFile, precision } = options;
  const dtype = precision ?? (method === 'kpm' ? 'f64' : context.dtype);
  const ready = cacheFile !== null && (await isThere(cacheFile)) ? await readEigens(cacheFile, method, layers) : undefined;
  const found = ready ?? new Map<string, Eigens>();
  try {
    if (ready !== undefined) {
      for (const each of layers) yield [each, ready.get(each.path) as Eigens];
      return;
    }
    for await (const { layers: together, covariance } of contexts(layers, options, context)) {
      using exact = cast(covariance, dtype);
      using matrix = (await damped(exact, together[0]?.path ?? '')).matrix;
      for (const each of together) {
        throwIfAborted(context.signal, 'corda');
        const eigens = await onLayer('corda', each.path, () => eigensOf(each, matrix, options, context));
        found.set(each.path, eigens);
        yield [each, eigens];
        if (cacheFile === null) release(found, each.path);
      }
    }
    if (cacheFile !== null) await writeEigens(cacheFile, method, found);
  } finally {
    for (const path of [...found.keys()]) release(found, path);
  }
}

function release(found: Map<string, Eigens>, path: string): void {
  for (const value of Object.values(found.get(path) ?? {})) (value as Tensor).dispose();
  found.delete(path);
}

async function* start(layers: readonly StartLayer[], options: CordaOptions, context: InitContext): AsyncGenerator<Start> {
  warnOfDropout('corda', layers);
  let done = 0;
  for await (const [each, eigens] of components(layers, options, context)) {
    const pair = await onLayer('corda', each.path, () => pairOf(eigens, each, options.sigmaFuse, context.dtype));
    context.onProgress({ done: ++done, total: layers.length, path: each.path });
    yield { path: each.path, ...pair, base: 'residual' };
  }
}

/**
 * Starts from the components of each weight times the covariance of its input; the frozen weight keeps the rest. "CorDA: Context-Oriented Decomposition Adaptation
 * of Large Language Models".
 */
export const corda = {
  name: 'corda',
  defaults,
  named: (text) => (text === 'corda' ? {} : undefined),
  check,
  usesData: true,
  needsData: ({ covarianceFile, cacheFile }) => covarianceFile === null && cacheFile === null,
  changesBase: true,
  start,
  peft: {
    read: (text, file) => {
      if (text !== 'corda') return undefined;
      const method = isJsonObject(file.corda_config) ? file.corda_config.corda_method : undefined;
      return method === undefined ? {} : { method: method as CordaOptions['method'] };
    },
    write: ({ method }) => ({
      init_lora_weights: 'corda',
      corda_config: {
        cache_file: null,
        corda_method: method,
        covariance_file: null,
        prune_temporary_fields: true,
        use_float16_for_covariance: false,
        verbose: false,
      },
    }),
    repeatable: () => false,
  },
} as const satisfies InitMethod<'corda', CordaOptions>;
