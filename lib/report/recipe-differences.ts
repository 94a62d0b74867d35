/** A key, as a dotted path, with its value in each recipe; undefined where it is missing. */
export interface RecipeDifference {
  readonly key: string;
  readonly values: readonly unknown[];
}

/** The keys in which recipes differ, in the order of the first that has them. The run folder itself (`out`) is none. */
export function recipeDifferences(recipes: readonly Readonly<Record<string, unknown>>[]): RecipeDifference[] {
  const flat = recipes.map((recipe) => new Map(entriesOf(recipe, '')));
  const keys = new Set(flat.flatMap((recipe) => [...recipe.keys()]));
  keys.delete('out');
  return [...keys]
    .map((key) => ({ key, values: flat.map((recipe) => recipe.get(key)) }))
    .filter(({ values }) => new Set(values.map((value) => JSON.stringify(value))).size > 1);
}

function entriesOf(value: unknown, path: string): [string, unknown][] {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return [[path, value]];
  return Object.entries(value).flatMap(([key, inner]) => entriesOf(inner, path === '' ? key : `${path}.${key}`));
}
