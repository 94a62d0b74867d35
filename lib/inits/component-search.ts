import { ConfigError, throwIfAborted } from '../errors.js';
import { tensor } from '../ops/create.js';
import { indexSelect } from '../ops/index-ops.js';
import { concat } from '../ops/join.js';
import { contiguous } from '../ops/shape.js';
import { disposeTensors, keep, noGrad } from '../scope.js';
import type { Tensor } from '../tensor.js';
import { type Calibration, isOfExamples, requireCounts } from './calibration.js';
import type { EvaOptions } from './eva.js';
import type { InitContext, StartLayer } from './init.js';
import { flatRows } from './input-groups.js';
import { inMode } from './mode.js';
import { observing } from './observe.js';
import { PrincipalComponents } from './principal-components.js';
import { allotRanks, mostComponents } from './rank-allotment.js';

/** Above this rho there is no limit but the width of the input. */
const kUnlimited = 1000;

/** The layers with one input, and the components of it. */
export interface Group {
  readonly leader: string;
  readonly layers: readonly StartLayer[];
  readonly found: PrincipalComponents;
  /** Rows of an input with one for each example, until there are enough to be taken in. */
  readonly waiting: Tensor[];
}

/** The groups of layers that `leaders` tells. Throws `ConfigError` where an input has fewer columns than components are asked for. */
export function grouped(layers: readonly StartLayer[], leaders: ReadonlyMap<string, string>, { rho, tau }: EvaOptions): Group[] {
  const members = new Map<string, StartLayer[]>();
  for (const each of layers) {
    const leader = leaders.get(each.path) ?? each.path;
    members.set(leader, [...(members.get(leader) ?? []), each]);
  }
  return [...members].map(([leader, together]) => {
    const width = Math.min(...together.map(({ layer }) => layer.inFeatures));
    const rank = Math.max(...together.map((each) => each.rank));
    const most = rho > kUnlimited ? width : mostComponents(rank, rho);
    if (most > width) {
      throw new ConfigError(
        `eva: rank ${rank} times rho ${rho} asks for ${most} components of the input of "${leader}", which has ${width}; expected a smaller rank or rho`,
      );
    }
    return { leader, layers: together, found: new PrincipalComponents(leader, most, tau), waiting: [] };
  });
}

/** The ranks of all layers, or undefined while a layer has no components yet. */
function ranksOf(layers: readonly StartLayer[], groups: readonly Group[]): Map<string, number> | undefined {
  if (groups.some(({ found }) => found.batches === 0)) return undefined;
  const ratios = new Map(groups.flatMap(({ layers: together, found }) => together.map(({ path }) => [path, found.ratios] as const)));
  const budget = layers.reduce((total, { rank }) => total + rank, 0);
  return allotRanks(
    layers.map(({ path }) => ({ path, ratios: ratios.get(path) ?? [] })),
    budget,
  );
}

/** The indices of the rows that count, i64; undefined when all do. The caller owns it. */
function chosenRows(
  data: Calibration,
  batch: unknown,
  learnt: boolean,
): { readonly index: Tensor | undefined; readonly of: number } | undefined {
  const counts = data.counts(batch, learnt);
  if (counts === undefined) return undefined;
  const index = counts.flatMap((counting, row) => (counting ? [row] : []));
  return { index: index.length === counts.length ? undefined : keep(tensor(index, { dtype: 'i64' })), of: counts.length };
}

/** Takes in rows of examples as soon as enough of them are there; the group owns them. Returns how many there were. */
async function takeExamplesIn({ found, waiting }: Group, rows: Tensor): Promise<number> {
  waiting.push(rows);
  const count = waiting.reduce((sum, { shape }) => sum + (shape[0] ?? 0), 0);
  if (count < found.count) return count;
  const together = waiting.splice(0);
  using all = keep(concat(together, 0));
  disposeTensors(together);
  await found.update(all);
  return count;
}

/** One pass: every given group takes in those rows of its input that count. `most` keeps how many each one got at most. */
async function takeIn(
  batch: unknown,
  observed: readonly Group[],
  data: Calibration,
  options: EvaOptions,
  context: InitContext,
  head: boolean,
  most: Map<string, number>,
): Promise<void> {
  const byPath = new Map(observed.map((group) => [group.leader, group]));
  const examples = data.examples(batch);
  const chosen = chosenRows(data, batch, options.useLabelMask);
  const pending = new Map<string, Promise<void>>();
  const onInput = (path: string, x: Tensor): void => {
    const group = byPath.get(path) as Group;
    const { found } = group;
    const ofExamples = isOfExamples(x, examples);
    const all = flatRows(x);
    if (chosen !== undefined && !ofExamples) requireCounts('eva', path, chosen.of, all.shape[0] ?? 0);
    const rows = keep(ofExamples || chosen?.index === undefined ? contiguous(all) : indexSelect(all, 0, chosen.index));
    const work = async (): Promise<void> => {
      const count = ofExamples ? await takeExamplesIn(group, rows) : (rows.shape[0] ?? 0);
      most.set(path, Math.max(most.get(path) ?? 0, count));
      if (!ofExamples && count >= found.count) await found.update(rows);
    };
    // A layer that runs several times in a pass takes its inputs in one after the other.
    const before = pending.get(path);
    pending.set(
      path,
      (before === undefined ? work() : before.then(work)).finally(() => (ofExamples ? undefined : rows.dispose())),
    );
  };
  const paths = [...byPath.keys()];
  const runs = await Promise.allSettled([
    inMode(context.network, false, () =>
      observing(context.network, paths, { onInput }, async () => noGrad(() => data.forward(batch, head))),
    ),
  ]);
  const ends = [...runs, ...(await Promise.allSettled(pending.values()))];
  chosen?.index?.dispose();
  for (const end of ends) if (end.status === 'rejected') throw end.reason;
}

/** The batches, from the first again when they end. */
async function* batchesOf(data: Calibration): AsyncGenerator<{ batch: unknown; round: number }> {
  for (let round = 0; ; round++) for await (const batch of data.batches()) yield { batch, round };
}

/** Takes batches in until the components that the ranks ask for are settled, or maxBatches. Returns the rank of each layer. */
export async function settle(
  layers: readonly StartLayer[],
  groups: readonly Group[],
  options: EvaOptions,
  context: InitContext,
  head: boolean,
): Promise<Map<string, number>> {
  const data = context.data as Calibration;
  let ranks: Map<string, number> | undefined;
  const most = new Map<string, number>();
  let batches = 0;
  const isOpen = ({ leader, found }: Group): boolean =>
    found.batches < options.minBatches || !found.isSettled(ranks?.get(leader) ?? found.count);
  let open = [...groups];
  for await (const { batch, round } of batchesOf(data)) {
    throwIfAborted(context.signal, 'eva');
    if (round > 0 || batches === options.maxBatches) requireRows(groups, most);
    if (batches === options.maxBatches) {
      const paths = open.map(({ leader }) => leader);
      process.emitWarning(
        `eva: after ${batches} batches (maxBatches) the components of ${paths.length} of ${groups.length} inputs are not settled, the first that of "${paths[0]}"; they are taken as they are`,
        'LorikeetWarning',
      );
      break;
    }
    await takeIn(batch, open, data, options, context, head, most);
    batches++;
    ranks = ranksOf(layers, groups);
    open = groups.filter(isOpen);
    context.onProgress({ done: groups.length - open.length, total: groups.length, path: `batch ${batches}` });
    if (ranks !== undefined && open.length === 0) break;
  }
  return ranks as Map<string, number>;
}

/** Throws when the data do not reach one of the layers, or have no batch large enough for it. */
function requireRows(groups: readonly Group[], most: ReadonlyMap<string, number>): void {
  const starved = groups.find(({ found }) => found.batches === 0);
  if (starved === undefined) return;
  const rows = most.get(starved.leader);
  if (rows === undefined)
    throw new ConfigError(`eva: no batch of the data reaches "${starved.leader}"; expected targets that the network runs`);
  throw new ConfigError(
    `eva: no batch has the ${starved.found.count} rows that the components of "${starved.leader}" take (rank times rho); got at most ${rows}, expected larger batches or a smaller rank`,
  );
}
