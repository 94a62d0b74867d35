import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { resolveConfig } from '../adapters/resolve-config.js';
import { ConfigError } from '../errors.js';
import type { Recipe } from '../recipe.js';

/** The recipe with the adapter's own defaults filled in, or with its folder checked. */
export function completed(recipe: Recipe): Recipe {
  const { adapter } = recipe;
  if (typeof adapter !== 'string') return { ...recipe, adapter: { type: adapter.type, ...resolveConfig(adapter).config } };
  if (!existsSync(join(adapter, 'adapter_config.json')))
    throw new ConfigError(
      `recipe: adapter: no adapter_config.json in "${adapter}"; expected the folder of an adapter, or a map with "type"`,
    );
  return recipe;
}
