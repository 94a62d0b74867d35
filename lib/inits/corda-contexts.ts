import { ConfigError } from '../errors.js';
import type { Tensor } from '../tensor.js';
import type { CordaOptions } from './corda.js';
import { isThere, readCovariances, writeCovariances } from './corda-files.js';
import { covariances } from './covariance.js';
import type { InitContext, StartLayer } from './init.js';
import { inputGroupsOf } from './input-groups.js';

/** Layers with one covariance [K, K], which is there until the next ones are asked for. */
export interface Context {
  readonly layers: readonly StartLayer[];
  readonly covariance: Tensor;
}

/** The covariances of all layers: from the file, or of the data. */
export async function* contexts(layers: readonly StartLayer[], options: CordaOptions, context: InitContext): AsyncGenerator<Context> {
  const { covarianceFile } = options;
  if (covarianceFile !== null && (await isThere(covarianceFile))) {
    const stored = await readCovariances(covarianceFile, layers);
    try {
      for (const each of layers) yield { layers: [each], covariance: stored.get(each.path) as Tensor };
    } finally {
      for (const covariance of stored.values()) covariance.dispose();
    }
    return;
  }
  if (context.data === undefined) {
    const file = options.cacheFile ?? covarianceFile;
    throw new ConfigError(
      `corda: there is no file "${file}" yet, and nothing to make it from; expected batches in the option "data" of attach`,
    );
  }
  const head = layers.some(({ layer }) => layer.role === 'head');
  const leaders = await inputGroupsOf(layers, context, head);
  const paths = [...new Set(leaders.values())];
  const most = options.inputsAtOnce ?? paths.length;
  for (let first = 0; first < paths.length; first += most) {
    const part = paths.slice(first, first + most);
    const onSamples = (samples: number): void => context.onProgress({ done: 0, total: layers.length, path: `sample ${samples}` });
    const found = await covariances({ ...options, paths: part, head, onSamples }, context);
    try {
      if (covarianceFile !== null)
        await writeCovariances(covarianceFile, new Map(layers.map(({ path }) => [path, found.get(leaders.get(path) ?? path) as Tensor])));
      for (const [leader, covariance] of found) {
        yield { layers: layers.filter(({ path }) => leaders.get(path) === leader), covariance };
        covariance.dispose();
      }
    } finally {
      for (const covariance of found.values()) covariance.dispose();
    }
  }
}
