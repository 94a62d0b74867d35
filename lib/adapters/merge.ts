import { AdapterError, NonFiniteError, throwIfAborted } from '../errors.js';
import { op } from '../native.js';
import { inference, type TaskId } from '../nn/context.js';
import { Conv } from '../nn/conv.js';
import { Embedding } from '../nn/embedding.js';
import { Linear } from '../nn/linear.js';
import type { Layer, Module, Parameter } from '../nn/module.js';
import type { Pair } from '../ops/conv.js';
import { normal, tensor } from '../ops/create.js';
import { abs, cast, clone, sub } from '../ops/elementwise.js';
import { PackedWeight, packWeight } from '../ops/linalg.js';
import { max, mean } from '../ops/reduce.js';
import { noGrad, scope, unscoped } from '../scope.js';
import { type DType, Tensor } from '../tensor.js';
import type { AdapterModule, LayerParameters, MergeDetails } from './adapter.js';
import type { Carrier } from './inject.js';
import { denseParameters, parametersOf } from './trained-copy.js';

export interface MergeOptions {
  /**
   * Keep the unmerged weights, so that `unmerge` gives back their exact bits. Without them (half the memory for the adapted layers) `unmerge` subtracts the
   * delta again where the method allows it, which is exact to rounding only. Default true.
   */
  readonly keepBase?: boolean;
  /** Allow a base that is stored in blocks of few bits: the merged layers become dense. Default false, as the rounding of the base hides small deltas. */
  readonly dequantize?: boolean;
  /** Of adapters that are routed by task: the one whose change is folded in, or `'mean'`. Default: the only one. */
  readonly task?: TaskId;
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: { readonly done: number; readonly total: number; readonly path: string }) => void;
}

/** How far the merged layer is from the adapted one, measured on random inputs: errors relative to the size of the output. */
export interface MergedLayer {
  readonly path: string;
  readonly maxError: number;
  readonly meanError: number;
}

/** `maxError` and `meanError` are the largest and the average over the layers. */
export interface MergeReport {
  readonly maxError: number;
  readonly meanError: number;
  readonly layers: readonly MergedLayer[];
}

/** What undoes the merging of one layer. */
export interface MergedState {
  readonly layer: Carrier;
  readonly modules: readonly AdapterModule[];
  /** The parameters before, by name; a name without one had none. Empty where they are computed again. */
  readonly before: ReadonlyMap<string, Parameter | undefined>;
}

const nonFiniteCount = op('nonFiniteCount');
const kProbeRows = 16;
const kProbeSeed = 20_240_607;

const at = (sides: Pair, side: number): number => (typeof sides === 'number' ? sides : (sides[side] ?? 1));

/** Random inputs for a layer, or undefined for a kind whose merge only puts values in place. */
function probeOf(layer: Module, dtype: DType): Tensor | undefined {
  if (layer instanceof Linear)
    return cast(normal([kProbeRows, layer.inFeatures], { seed: kProbeSeed, dtype: dtype === 'f64' ? 'f64' : 'f32' }), dtype);
  if (layer instanceof Conv) {
    const sides = layer.kernel.map((taps, side) => at(layer.dilation, side) * (taps - 1) + 1 + at(layer.stride, side));
    return cast(normal([2, layer.inChannels, ...sides], { seed: kProbeSeed, dtype: dtype === 'f64' ? 'f64' : 'f32' }), dtype);
  }
  if (!(layer instanceof Embedding)) return undefined;
  const count = Math.min(layer.size, 64);
  const ids = Array.from({ length: count }, (_, i) => Math.floor((i * layer.size) / count));
  return tensor(ids, { dtype: 'i64' });
}

/** The dtype a layer computes in. */
function dtypeOf(layer: Module): DType {
  const [first] = parametersOf(layer).values();
  return first?.dtype ?? 'f32';
}

async function measure(path: string, before: Tensor | undefined, after: () => Tensor | undefined): Promise<MergedLayer> {
  if (before === undefined) return { path, maxError: 0, meanError: 0 };
  const [worst, average, largest, size] = await scope(async () => {
    const wide = (x: Tensor): Tensor => (x.dtype === 'f64' ? x : cast(x, 'f32'));
    const reference = wide(before);
    const difference = noGrad(() => abs(sub(wide(after() as Tensor), reference)));
    return Promise.all([max(difference).item(), mean(difference).item(), max(abs(reference)).item(), mean(abs(reference)).item()]);
  });
  const relative = (error: number, to: number): number => (error === 0 ? 0 : error / to);
  return { path, maxError: relative(worst, largest), meanError: relative(average, size) };
}

/** Those that stand for parameters of the layer come first, then those inside it, then those around it. */
function inOrderOfRunning(modules: readonly AdapterModule[]): AdapterModule[] {
  const rank = ({ replaces, forward }: AdapterModule): number => (replaces !== undefined ? 0 : forward === undefined ? 1 : 2);
  return [...modules].sort((a, b) => rank(a) - rank(b));
}

/**
 * The dense parameters of a layer with the modules folded in, in the order in which they run; computed in the dtype of the adapters. As in a
 * pass, the bare layer of a module has the parameters that other modules put in place.
 */
function folded(
  layer: Module,
  modules: readonly AdapterModule[],
  dtype: DType,
  details: MergeDetails,
): { pristine: LayerParameters; merged: LayerParameters } {
  const pristine = denseParameters(layer, dtype);
  let [bare, merged] = [pristine, pristine];
  for (const module of inOrderOfRunning(modules)) {
    merged = module.merge?.(bare, merged, details) ?? merged;
    if (module.replaces !== undefined) bare = merged;
  }
  return { pristine, merged };
}

/** Puts dense values into a layer, in the dtype and form of what they replace; returns what was there. */
function install(
  path: string,
  layer: Module,
  values: LayerParameters,
  unchanged: LayerParameters,
): { before: Map<string, Parameter | undefined>; checks: Tensor[] } {
  const holder = layer as unknown as Record<string, Parameter | undefined>;
  const before = new Map<string, Parameter | undefined>();
  const checks: Tensor[] = [];
  for (const [name, value] of Object.entries(values)) {
    if (value === unchanged[name]) continue;
    const old = holder[name];
    const dtype = old?.dtype ?? value.dtype;
    const stored = value.dtype === dtype ? value : cast(value, dtype);
    checks.push(new Tensor(nonFiniteCount([stored.handle])));
    before.set(name, old);
    // A trained copy goes on being trained: the layer gets values of its own.
    const packs = layer instanceof Linear && old instanceof PackedWeight;
    const own = stored !== value || (packs && layer.layout !== 'native') ? stored : clone(value);
    holder[name] = packs ? packWeight(own, { layout: layer.layout }) : own;
  }
  if (before.size === 0) throw new AdapterError(`merge: nothing to fold into "${path}"`);
  return { before, checks };
}

/** Folds adapter modules into one layer. Puts everything back when the result is not finite. */
async function mergeLayer(
  path: string,
  layer: Carrier,
  modules: readonly AdapterModule[],
  dtype: DType,
  options: MergeOptions,
): Promise<[MergedState, MergedLayer]> {
  const { base } = layer;
  for (const module of modules) {
    if (module.merge === undefined)
      throw new AdapterError(`merge: the adapter on "${path}" (${module.constructor.name}) cannot be folded into weights`);
  }
  const coarse = [...parametersOf(base).values()].find((value) => value instanceof PackedWeight && value.quantization !== undefined);
  if (coarse !== undefined && options.dequantize !== true) {
    throw new AdapterError(
      `merge: the weight of "${path}" is stored as ${(coarse as PackedWeight).quantization}, whose rounding hides the adapter; dequantize: true merges into a dense copy`,
    );
  }
  const { task } = options;
  const context = task === undefined ? undefined : { ...inference, tasks: [task] };
  const [before, installed] = unscoped(() =>
    scope(() =>
      noGrad(() => {
        const probe = probeOf(base, dtypeOf(base));
        const { pristine, merged } = folded(base, modules, dtype, { task });
        const adapted = probe === undefined ? undefined : layer.run?.(probe, context, modules);
        const done = install(path, base, merged, pristine);
        const now = parametersOf(base);
        // What the layer holds from here on, and what is still to be read, must outlive this scope.
        return [adapted, done, [...done.before.keys()].map((name) => now.get(name))] as const;
      }),
    ),
  );
  const state: MergedState = { layer, modules, before: installed.before };
  try {
    const broken = await Promise.all(installed.checks.map((check) => check.item()));
    if (broken.some((count) => count > 0)) {
      throw new NonFiniteError(
        `merge: the merged weights of "${path}" are not finite; nothing was changed; check the adapter for NaN or infinite values`,
      );
    }
    const probed = await measure(path, before, () => {
      const probe = probeOf(base, dtypeOf(base));
      return probe === undefined ? undefined : (base as Layer).forward(probe);
    });
    if (!Number.isFinite(probed.maxError))
      throw new NonFiniteError(`merge: the merged layer "${path}" gives values that are not finite; nothing was changed`);
    return [state, probed];
  } catch (error) {
    restoreLayer(state);
    throw error;
  } finally {
    before?.dispose();
    for (const check of installed.checks) check.dispose();
  }
}

/** Puts the parameters from before back and releases the merged ones. */
function restoreLayer({ layer, before }: MergedState): void {
  const holder = layer.base as unknown as Record<string, Parameter | undefined>;
  for (const [name, value] of before) {
    holder[name]?.dispose();
    if (value === undefined) delete holder[name];
    else holder[name] = value;
  }
}

/** Folds the modules into their layers, all or none. Returns what `unmergeLayers` needs. */
export async function mergeLayers(
  layers: readonly (readonly [path: string, layer: Carrier, modules: readonly AdapterModule[]])[],
  dtype: DType,
  options: MergeOptions,
): Promise<{ states: MergedState[]; report: MergeReport }> {
  const states: MergedState[] = [];
  const measured: MergedLayer[] = [];
  try {
    for (const [path, layer, modules] of layers) {
      throwIfAborted(options.signal, 'merge');
      const [state, row] = await mergeLayer(path, layer, modules, dtype, options);
      states.push(state);
      measured.push(row);
      options.onProgress?.({ done: states.length, total: layers.length, path });
    }
  } catch (error) {
    for (const state of states) restoreLayer(state);
    throw error;
  }
  const final = options.keepBase === false ? states.map(forgetBase) : states;
  const errors = measured.map((row) => row.maxError);
  const average = measured.reduce((total, row) => total + row.meanError, 0) / Math.max(measured.length, 1);
  return { states: final, report: { maxError: Math.max(0, ...errors), meanError: average, layers: measured } };
}

/** Releases the unmerged parameters; a weight that belongs to the embedding a head is tied to stays. */
export function releaseBase({ layer, before }: MergedState): void {
  const owned = layer.base instanceof Linear ? layer.base.tiedTo?.weight : undefined;
  for (const value of before.values()) if (value !== owned) value?.dispose();
}

/** Releases the unmerged parameters where the modules can compute them again. */
function forgetBase(state: MergedState): MergedState {
  if (!state.modules.every((module) => module.unmerge !== undefined)) return state;
  releaseBase(state);
  return { ...state, before: new Map() };
}

/** Gives the layers the parameters they had before merging. */
export function unmergeLayers(states: readonly MergedState[], dtype: DType): void {
  for (const state of states) {
    if (state.before.size > 0) {
      restoreLayer(state);
      continue;
    }
    const { base } = state.layer;
    const old = unscoped(() =>
      scope(() =>
        noGrad(() => {
          const merged = denseParameters(base, dtype);
          let values = merged;
          for (const module of [...state.modules].reverse()) values = module.unmerge?.(values) ?? values;
          const { before } = install('', base, values, merged);
          const now = parametersOf(base);
          return [[...before.values()], [...before.keys()].map((name) => now.get(name))] as const;
        }),
      ),
    );
    for (const value of old[0]) value?.dispose();
  }
}
