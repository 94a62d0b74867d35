import { AdapterError } from '../errors.js';
import type { ForwardContext, RowAdapters } from '../nn/context.js';
import { Linear } from '../nn/linear.js';
import { Layer, type Module, type Parameter } from '../nn/module.js';
import { cast } from '../ops/elementwise.js';
import { type LowRankFactors, type LowRankLayer, lowRankLinear } from '../ops/lowrank.js';
import { narrow } from '../ops/shape.js';
import type { Tensor } from '../tensor.js';
import type { AdapterModule } from './adapter.js';
import { aroundSublayers, aroundSublayersByRow } from './around-sublayers.js';
import { inFront, inFrontByRow } from './in-front.js';
import { joined, type Run, routeRows, segmentsOf } from './row-routing.js';

/** Which adapters run: shared by all adapted layers of a model. */
export class Activation {
  readonly known = new Set<string>();
  readonly merged = new Set<string>();
  active: readonly string[] = [];
  enabled = true;

  /** The adapters of a forward pass without routing. */
  get running(): readonly string[] {
    return this.enabled ? this.active.filter((name) => !this.merged.has(name)) : [];
  }

  /** The adapters of each row; checked. */
  routed(rows: RowAdapters): RowAdapters {
    if (this.merged.size > 0) throw new AdapterError(`adapters by row: unmerge first; got merged adapters ${[...this.merged].join(', ')}`);
    for (const row of rows) {
      for (const name of row) {
        if (!this.known.has(name))
          throw new AdapterError(`adapters by row: no adapter "${name}"; there are ${[...this.known].join(', ') || 'none'}`);
      }
    }
    return this.enabled ? rows : rows.map(() => []);
  }
}

/**
 * Stands for a layer of the model and applies the adapters that are on it. For everything that walks the module tree it is the bare layer: same children,
 * same parameters, same names. It owns its adapter modules.
 */
export class AdaptedLayer extends Layer {
  readonly #base: Layer;
  readonly #activation: Activation;
  readonly #adapters = new Map<string, AdapterModule[]>();

  constructor(base: Layer, activation: Activation) {
    super(base.role);
    this.#base = base;
    this.#activation = activation;
  }

  get base(): Layer {
    return this.#base;
  }

  get names(): readonly string[] {
    return [...this.#adapters.keys()];
  }

  adaptersOf(name: string): readonly AdapterModule[] {
    return this.#adapters.get(name) ?? [];
  }

  /** Throws `AdapterError` for a module that goes around sub-layers, or in front of keys, where there are none. */
  add(name: string, module: AdapterModule): void {
    if (module.sublayer !== undefined && this.role !== 'block')
      throw new AdapterError(
        `adapter: ${module.constructor.name} goes around the sub-layers of a block; got a layer of role ${this.role ?? 'none'}`,
      );
    if (module.prefix !== undefined && this.role !== 'attention')
      throw new AdapterError(
        `adapter: ${module.constructor.name} puts keys and values in front of those of attention; got a layer of role ${this.role ?? 'none'}`,
      );
    this.#adapters.set(name, [...this.adaptersOf(name), module]);
  }

  remove(name: string): void {
    for (const module of this.adaptersOf(name)) module.dispose();
    this.#adapters.delete(name);
  }

  override forward(x: Tensor, context?: ForwardContext): Tensor {
    const rows = context?.rows;
    if (rows === undefined) return this.run(x, context, this.#modulesOf(this.#activation.running));
    return this.#runRows(x, context, this.#activation.routed(rows));
  }

  override effective(context?: ForwardContext): Layer {
    const rows = context?.rows === undefined ? [this.#activation.running] : this.#activation.routed(context.rows);
    return rows.some((names) => this.#modulesOf(names).length > 0) ? this : this.#base;
  }

  override product(x: Tensor, context?: ForwardContext): (() => LowRankLayer) | undefined {
    // Branches are part of the product of a linear layer alone; see #runChain.
    const base = this.#base instanceof Linear ? this.#base.product(x, context) : undefined;
    const { rows, training = false } = context ?? {};
    if (base === undefined) return undefined;
    if (rows === undefined) {
      const modules = this.#modulesOf(this.#activation.running);
      return modules.every(isLowRankOnly) ? () => ({ ...base(), adapters: branchesOf(modules, training) }) : undefined;
    }
    const runs = this.#runsOf(x, context, this.#activation.routed(rows));
    if (!runs.every(({ adapters }) => adapters.every(isLowRankOnly))) return undefined;
    return () => ({ ...base(), ...segmentsOf(joined(runs), rowsPerEntry(x), training) });
  }

  /** The output with exactly these adapter modules, whatever is active. */
  run(x: Tensor, context: ForwardContext | undefined, modules: readonly AdapterModule[]): Tensor {
    if (modules.length === 0) return this.#base.forward(x, context);
    const restore = replaceParameters(this.#base, modules);
    try {
      return this.#runChain(x, context, modules);
    } finally {
      restore();
    }
  }

  /** The modules of these adapters, and what stands in for the absent ones that took a part out of the weight. */
  #modulesOf(names: readonly string[]): AdapterModule[] {
    const modules = names.flatMap((name) => this.adaptersOf(name));
    for (const [name, absent] of this.#adapters) {
      if (names.includes(name) || this.#activation.merged.has(name)) continue;
      for (const { taken } of absent) if (taken !== undefined) modules.push(taken.standIn);
    }
    return modules;
  }

  /** Low-rank branches first, in one product with the base; the others around it in their order. */
  #runChain(x: Tensor, context: ForwardContext | undefined, modules: readonly AdapterModule[]): Tensor {
    const training = context?.training ?? false;
    const base = this.#base;
    const factors = base instanceof Linear ? branchesOf(modules, training) : [];
    const bare =
      base instanceof Linear && factors.length > 0
        ? (input: Tensor): Tensor => lowRankLinear(input, base.weight, { ...biasOf(base), adapters: factors })
        : (input: Tensor): Tensor => base.forward(input, inFront(aroundSublayers(context, modules), modules, x.shape[0] ?? 0));
    return this.#around(x, context, modules, bare, factors.length === 0);
  }

  /** The modules with a `forward` of their own, one around the other; `first` tells the innermost that `bare` is the bare layer. */
  #around(
    x: Tensor,
    context: ForwardContext | undefined,
    modules: readonly AdapterModule[],
    bare: (x: Tensor) => Tensor,
    first: boolean,
  ): Tensor {
    let next = bare;
    let innermost = first;
    for (const module of modules) {
      if (module.forward === undefined) continue;
      const below = next;
      const isFirst = innermost;
      next = (input: Tensor): Tensor =>
        module.forward?.({ x: input, context, base: this.#base, next: below, first: isFirst }) ?? below(input);
      innermost = false;
    }
    return next(x);
  }

  /** The modules of each row of the batch. The leading axis of x is the batch, or the batch with positions folded into it. */
  #runsOf(x: Tensor, context: ForwardContext | undefined, rows: RowAdapters): Run[] {
    const leading = x.shape[0] ?? 0;
    if (rows.length === 0 || leading % rows.length !== 0) {
      throw new AdapterError(`adapters by row: got ${rows.length} entries for a batch of ${leading}; expected one entry a row`);
    }
    const { tasks } = context ?? {};
    if (tasks !== undefined && tasks.length !== rows.length)
      throw new AdapterError(`adapters by row: got the tasks of ${tasks.length} rows, expected one for each of ${rows.length} rows`);
    const perRow = leading / rows.length;
    return rows.map((names, row) => ({ start: row * perRow, length: perRow, adapters: this.#modulesOf(names) }));
  }

  /** Each batch row with its own adapters. */
  #runRows(x: Tensor, context: ForwardContext | undefined, rows: RowAdapters): Tensor {
    const runs = this.#runsOf(x, context, rows);
    const perRow = (x.shape[0] ?? 0) / rows.length;
    const base = this.#base;
    if ([...base.namedChildren()].length > 0) return this.#runRowsAround(x, context, runs, perRow);
    const alone = (part: Tensor, modules: readonly AdapterModule[], start: number): Tensor =>
      this.run(part, ofRows(context, start / perRow, (part.shape[0] ?? 0) / perRow), modules);
    if (!(base instanceof Linear)) {
      return routeRows(x, runs, { isPlain: (modules) => modules.length === 0, together: (part) => base.forward(part, context), alone });
    }
    const together = (part: Tensor, parts: readonly Run[]): Tensor =>
      lowRankLinear(part, base.weight, { ...biasOf(base), ...segmentsOf(parts, rowsPerEntry(part), context?.training ?? false) });
    return routeRows(x, runs, { isPlain: (modules) => modules.every(isLowRankOnly), together, alone });
  }

  /**
   * A layer made of layers sees the whole batch, whose rows have their adapters inside too; the adapters around it then work on their rows of its input and output.
   */
  #runRowsAround(x: Tensor, context: ForwardContext | undefined, runs: readonly Run[], perRow: number): Tensor {
    const y = this.#base.forward(x, inFrontByRow(aroundSublayersByRow(context, runs), runs));
    const { training = false, tasks } = context ?? {};
    const inner: ForwardContext = { training, ...(tasks && { tasks }) };
    return routeRows(x, runs, {
      isPlain: () => false,
      together: () => y,
      alone: (part, modules, start) => {
        const below = narrow(y, 0, start, part.shape[0] ?? 0);
        const bare = (input: Tensor): Tensor => {
          if (input !== part)
            throw new AdapterError('adapters by row: an adapter around a block cannot change the input of the block for some rows alone');
          return below;
        };
        return this.#around(part, ofRows(inner, start / perRow, (part.shape[0] ?? 0) / perRow), modules, bare, true);
      },
    });
  }

  override namedChildren(): Iterable<[string, Module]> {
    return this.#base.namedChildren();
  }

  override namedModules(prefix = ''): Iterable<[string, Module]> {
    return this.#base.namedModules(prefix);
  }

  override ownParameters(): Iterable<[string, Parameter]> {
    return this.#base.ownParameters();
  }

  override parameterShapes(): Record<string, readonly number[]> {
    return this.#base.parameterShapes();
  }

  override assign(name: string, value: Parameter): void {
    this.#base.assign(name, value);
  }

  override setChild(name: string, replacement: Module): void {
    this.#base.setChild(name, replacement);
  }

  override checkTrainable(): void {
    this.#base.checkTrainable();
  }

  override setTrainable(on: boolean): void {
    this.#base.setTrainable(on);
  }

  override dispose(): void {
    this.#base.dispose();
  }
}

/** The context of `count` rows of the batch from row `start`. */
function ofRows<Context extends ForwardContext | undefined>(context: Context, start: number, count: number): Context {
  return context?.tasks === undefined ? context : { ...context, tasks: context.tasks.slice(start, start + count) };
}

const isLowRankOnly = (module: AdapterModule): boolean =>
  module.lowRank !== undefined && module.forward === undefined && module.replaces === undefined;
const branchesOf = (modules: readonly AdapterModule[], training: boolean): LowRankFactors[] =>
  modules.flatMap((module) => module.lowRank?.(training) ?? []);
/** Rows of x [B, .., K] for each entry of its leading axis. */
const rowsPerEntry = (x: Tensor): number => x.size / (x.shape.at(-1) ?? 1) / (x.shape[0] ?? 1);
const biasOf = (base: Linear): { bias?: Tensor } => (base.bias === undefined ? {} : { bias: base.bias });

/** Puts the tensors that adapters replace into the layer, in its own dtype; the returned function puts the old ones back. */
function replaceParameters(base: Layer, modules: readonly AdapterModule[]): () => void {
  const holder = base as unknown as Record<string, Parameter | undefined>;
  const before: [string, Parameter | undefined][] = [];
  for (const module of modules) {
    for (const [name, value] of Object.entries(module.replaces?.() ?? {})) {
      const old = holder[name];
      before.push([name, old]);
      holder[name] = old === undefined || old.dtype === value.dtype ? value : cast(value, old.dtype);
    }
  }
  return () => {
    for (const [name, value] of before.reverse()) {
      if (value === undefined) delete holder[name];
      else holder[name] = value;
    }
  };
}
