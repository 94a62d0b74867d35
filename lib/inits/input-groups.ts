import type { Module } from '../nn/module.js';
import { normal } from '../ops/create.js';
import { cast } from '../ops/elementwise.js';
import { matmul } from '../ops/linalg.js';
import { reshape } from '../ops/shape.js';
import { noGrad, scope, unscoped } from '../scope.js';
import type { Tensor } from '../tensor.js';
import type { InitContext, StartLayer } from './init.js';
import { inMode } from './mode.js';
import { observing } from './observe.js';

/** Rows [.., K] as a matrix. */
export const flatRows = (x: Tensor): Tensor => reshape(x, [x.size / (x.shape.at(-1) ?? 1), x.shape.at(-1) ?? 1]);

/**
 * Two random projections rᵀ X c of a matrix, in f64. Inputs that agree in both are the same, to the rounding of the sums; of two different ones both would agree
 * with a chance of about 2⁻¹⁰⁰.
 */
function fingerprint(x: Tensor): Tensor {
  return unscoped(() =>
    scope(() => {
      const rows = cast(flatRows(x), 'f64');
      const [count = 0, width = 0] = rows.shape;
      const left = normal([1, count], { dtype: 'f64', seed: 1 });
      return matmul(left, matmul(rows, normal([width, 2], { dtype: 'f64', seed: 2 })));
    }),
  );
}

/**
 * For each layer the first one, in the given order, that gets the same input in the pass that `run` makes: itself where none comes before, and where the pass does
 * not reach it. Query, key and value of a block are one group, gate and up another.
 */
export async function inputGroups(
  network: Module,
  paths: readonly string[],
  run: () => Promise<void> | void,
): Promise<ReadonlyMap<string, string>> {
  const seen = new Map<string, { readonly shape: string; readonly values: Tensor }[]>();
  const onInput = (path: string, x: Tensor): void => {
    seen.set(path, [...(seen.get(path) ?? []), { shape: x.shape.join('x'), values: fingerprint(x) }]);
  };
  try {
    await observing(network, paths, { onInput }, async () => run());
    const leaders = new Map<string, string>();
    const groups = new Map<string, string>();
    for (const path of paths) {
      const passes = seen.get(path) ?? [];
      const numbers = await Promise.all(passes.map(async ({ shape, values }) => `${shape}: ${(await values.data()).join(' ')}`));
      const key = passes.length === 0 ? path : numbers.join('; ');
      const leader = leaders.get(key) ?? path;
      leaders.set(key, leader);
      groups.set(path, leader);
    }
    return groups;
  } finally {
    for (const { values } of [...seen.values()].flat()) values.dispose();
  }
}

/** The groups of these layers by a pass of the first batch of the data, out of training mode; `head` tells whether the output head has to run. */
export function inputGroupsOf(
  layers: readonly StartLayer[],
  { network, data }: Pick<InitContext, 'network' | 'data'>,
  head: boolean,
): Promise<ReadonlyMap<string, string>> {
  const paths = layers.map(({ path }) => path);
  return inputGroups(network, paths, () =>
    inMode(network, false, async () => {
      for await (const batch of data?.batches() ?? []) return noGrad(() => data?.forward(batch, head));
    }),
  );
}
