import type { DataSource } from './data/index.js';
import type { Recipe } from './recipe.js';

/** A data source of a recipe without the keys that are not set. */
export function sourceOf(source: Recipe['data']['train']): DataSource {
  return Object.fromEntries(Object.entries(source).filter(([, value]) => value !== undefined)) as unknown as DataSource;
}
