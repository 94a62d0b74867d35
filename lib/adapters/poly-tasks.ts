import { AdapterError } from '../errors.js';
import type { TaskId } from '../nn/context.js';
import { copyInto, narrow } from '../ops/shape.js';
import { hashName } from '../random.js';
import { noGrad, scope } from '../scope.js';
import type { Placement } from './adapter.js';
import type { AdapterSet } from './adapter-set.js';
import { startLogits } from './poly.js';
import type { PolyConfig } from './poly-config.js';
import { PolyLinear } from './poly-linear.js';
import type { AdaptedModel, Tuned } from './tuned.js';

/** How much each skill counts in one layer for one task. */
export interface RoutingRow {
  readonly path: string;
  readonly task: TaskId;
  /** By block (H of them) and skill: without draws, as in evaluation. */
  readonly weights: readonly (readonly number[])[];
}

const setOf = (tuned: Tuned<AdaptedModel> | AdapterSet): AdapterSet => ('adapters' in tuned ? tuned.adapters : tuned);

/** The Poly modules of an adapter. Throws `AdapterError` where it is of another method. */
function polyOf(set: AdapterSet, name: string, what: string): (Placement & { readonly module: PolyLinear })[] {
  const { method, placements } = set.get(name);
  if (method.name !== 'poly') throw new AdapterError(`${what}: "${name}" is not routed by task; got "${method.name}", expected "poly"`);
  return placements.filter((placement): placement is Placement & { readonly module: PolyLinear } => placement.module instanceof PolyLinear);
}

/**
 * The weights of the skills by layer and task, of the adapter `name` (default: the active one); `tasks` defaults to all.
 *
 * ```ts
 * for (const { path, task, weights } of routing(tuned)) console.log(path, task, weights);
 * ```
 */
export function routing(tuned: Tuned<AdaptedModel> | AdapterSet, name?: string, tasks?: readonly TaskId[]): RoutingRow[] {
  const set = setOf(tuned);
  return polyOf(set, name ?? onlyActive(set), 'routing').flatMap(({ path, module }) => {
    const { poly_router: router, random } = module;
    const asked = tasks ?? Array.from({ length: router.tasks }, (_, task) => task);
    router.check(asked);
    const { skills, splits } = router.settings;
    const values = scope(() => [...(noGrad(() => router.weights(asked, false, random)).dataSync() as Float32Array)]);
    return asked.map((task, i) => ({
      path,
      task,
      weights: Array.from({ length: splits }, (_, q) => values.slice((i * splits + q) * skills, (i * splits + q + 1) * skills)),
    }));
  });
}

function onlyActive({ active }: AdapterSet): string {
  const [name, ...others] = active;
  if (name === undefined || others.length > 0)
    throw new AdapterError(`routing: say which adapter; got ${active.length} active ones, expected a name`);
  return name;
}

/**
 * Gives an adapter another number of tasks: the first ones stay, new ones start in nearly equal parts of all skills. Make the optimizer
 * afterwards: the logits are new tensors.
 */
export function resizeTasks(
  tuned: Tuned<AdaptedModel> | AdapterSet,
  name: string,
  tasks: number,
  options: { readonly seed?: number } = {},
): void {
  const set = setOf(tuned);
  if (!(Number.isSafeInteger(tasks) && tasks >= 1))
    throw new AdapterError(`resizeTasks: the number of tasks must be a whole number of at least 1; got ${tasks}`);
  const context = { dtype: set.dtype, seed: options.seed ?? 0, stream: (path: string, end: string) => hashName(`${path}.${end}`) };
  const routers = new Map(polyOf(set, name, 'resizeTasks').map(({ path, module }) => [module.poly_router, path]));
  for (const [router, path] of routers) {
    const before = router.module_logits;
    const after = startLogits(tasks, router.settings, path, context);
    const kept = Math.min(tasks, router.tasks);
    scope(() => noGrad(() => copyInto(narrow(after, 0, 0, kept), narrow(before, 0, 0, kept))));
    after.setRequiresGrad(before.requiresGrad);
    router.module_logits = after;
    before.dispose();
  }
  set.reconfigure(name, { tasks } as Partial<PolyConfig>);
}
