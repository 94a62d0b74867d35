import type { SourceSummary } from '../data/dataset.js';
import { ConfigError } from '../errors.js';

/** Throws `ConfigError` where rows are not those that the checkpoint in `folder` was made with, as far as numbers of rows, bytes and weights tell. */
export function requireSameSources(folder: string, was: readonly SourceSummary[], is: readonly SourceSummary[]): void {
  const advice = 'put the data back as it was, or begin a new run from the adapter of this one (`adapter: <run>/adapter`)';
  if (was.length !== is.length)
    throw new ConfigError(`resume: the run in "${folder}" has other data; got ${is.length} sources, expected ${was.length}; ${advice}`);
  for (const [index, source] of is.entries()) {
    for (const key of ['rows', 'bytes', 'weight'] as const) {
      const before = was[index]?.[key];
      if (before !== source[key])
        throw new ConfigError(
          `resume: "${source.name}" is not the data of the run in "${folder}"; got ${source[key] ?? 'no'} ${key}, expected ${before ?? 'no'} ${key}; ${advice}`,
        );
    }
  }
}
