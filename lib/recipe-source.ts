import type { DataSource, DataSources } from './data/index.js';
import type { Recipe } from './recipe.js';

/** The data sources of a recipe without the keys that are not set. */
export function sourcesOf(sources: Recipe['data']['train']): DataSources {
  return Array.isArray(sources) ? sources.map(sourceOf) : sourceOf(sources);
}

function sourceOf(source: object): DataSource {
  return Object.fromEntries(Object.entries(source).filter(([, value]) => value !== undefined)) as unknown as DataSource;
}
