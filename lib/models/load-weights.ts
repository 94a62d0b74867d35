import { FormatError, NonFiniteError, throwIfAborted } from '../errors.js';
import type { Weights } from '../io/weights.js';
import { op } from '../native.js';
import { Linear, retie } from '../nn/linear.js';
import type { Module } from '../nn/module.js';
import { rowParts } from '../nn/quantized.js';
import { cast, clone } from '../ops/elementwise.js';
import { type PackedWeight, packWeight, type WeightLayout } from '../ops/linalg.js';
import { scope, unscoped } from '../scope.js';
import { type DType, Tensor } from '../tensor.js';
import { freshValue } from './fresh.js';
import { checkStorage, isInt8, isQuantized, packedInt8, quantized, staysInFile, type WeightStorage } from './weight-storage.js';

/** How far loading has come, counted in parameters. */
export interface LoadProgress {
  readonly loaded: number;
  readonly total: number;
  /** The weight that was just loaded. */
  readonly name: string;
}

/** What loading asks of a network. */
export interface LoadableNetwork extends Module {
  /** Paths of modules that a checkpoint may lack whole, such as a head that is still to be trained: they get random values. Default none. */
  readonly startable?: readonly string[];
  /** Deviation of those values. Default 0.02. */
  readonly initialDeviation?: number;
  /** The weights of a checkpoint that this network reads, by the names that they have here. */
  sanitize<T>(weights: ReadonlyMap<string, T>): Map<string, T>;
}

export interface LoadWeightsOptions {
  /** Floating dtype to compute in; default: as stored, and f32 beside GGUF blocks. */
  readonly dtype?: DType | undefined;
  /** Keeps weights in few bits; default: as floats. */
  readonly storage?: WeightStorage | undefined;
  /** How frozen float weights are packed; default: as `packWeight` does. */
  readonly layout?: WeightLayout | undefined;
  /** Frozen linear layers multiply 8-bit integers; the head only in blocks of a file. */
  readonly int8?: boolean | undefined;
  /** Of the values of modules that the checkpoint lacks; default 0. */
  readonly seed?: number | undefined;
  readonly onProgress?: ((progress: LoadProgress) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

const nonFiniteCount = op('nonFiniteCount');
/** Values of a weight in blocks that are checked at once. */
const kValuesAtOnce = 1 << 20;

interface Slot {
  readonly shape: readonly number[];
  readonly module: Module;
  readonly parameter: string;
}

/** The tensors that a network reads from a checkpoint, by name. */
function slotsOf(network: Module): Map<string, Slot> {
  const slots = new Map<string, Slot>();
  for (const [path, module] of network.namedModules()) {
    for (const [name, shape] of Object.entries(module.parameterShapes())) {
      slots.set(path === '' ? name : `${path}.${name}`, { shape, module, parameter: name });
    }
  }
  return slots;
}

/**
 * Fills a network from stored weights. Nothing is read unless names and shapes fit exactly: a `FormatError` lists what is missing, unexpected or of another
 * shape. Only modules that the network calls `startable` may be missing, each as a whole: they get random values, and their paths are returned. A weight with NaN
 * or infinite values is a `NonFiniteError` that names it.
 */
export async function loadWeights(network: LoadableNetwork, weights: Weights, options: LoadWeightsOptions = {}): Promise<string[]> {
  checkStorage(options.storage, weights);
  if (options.layout !== undefined) setLayout(network, options.layout);
  const all = slotsOf(network);
  // By the name here, the name in the file.
  const sources = network.sanitize(new Map([...weights.entries.keys()].map((name) => [name, name])));
  const isIn = (path: string, name: string): boolean => name.startsWith(`${path}.`);
  const fresh = (network.startable ?? []).filter((path) => ![...sources.keys()].some((name) => isIn(path, name)));
  const slots = new Map([...all].filter(([name]) => !fresh.some((path) => isIn(path, name))));
  checkNames(slots, new Map([...sources].map(([name, stored]) => [name, weights.entries.get(stored)?.shape ?? []])), weights.source);
  const total = [...slots.values()].reduce((sum, slot) => sum + sizeOf(slot), 0);
  let loaded = 0;
  for (const [name, slot] of slots) {
    throwIfAborted(options.signal, 'loadModel');
    await scope(async () => {
      for (const broken of assign(slot, sources.get(name) as string, weights, options))
        if ((await broken.item()) > 0) throw new NonFiniteError(`${weights.source}: weight "${name}" has NaN or infinite values`);
    });
    loaded += sizeOf(slot);
    options.onProgress?.({ loaded, total, name });
  }
  initialise(network, new Map([...all].filter(([name]) => !slots.has(name))), options);
  retie(network);
  return fresh;
}

/** Gives what the checkpoint lacks its random values, in the dtype of the rest. */
function initialise(network: LoadableNetwork, slots: ReadonlyMap<string, Slot>, { dtype, seed = 0 }: LoadWeightsOptions): void {
  const [first] = network.namedParameters();
  const shared = { dtype: dtype ?? first?.[1].dtype ?? 'f32', deviation: network.initialDeviation ?? 0.02, seed };
  for (const [name, { module, parameter, shape }] of slots)
    module.assign(
      parameter,
      unscoped(() => freshValue(module, { name, shape, ...shared })),
    );
}

function setLayout(network: Module, layout: WeightLayout): void {
  for (const [, module] of network.namedModules()) if (module instanceof Linear) module.layout = layout;
}

/** Reads one weight into its place, in the storage asked for; yields the counts of values that are not finite. */
function* assign({ module, parameter }: Slot, name: string, weights: Weights, options: LoadWeightsOptions): Iterable<Tensor> {
  const { storage, dtype, layout, int8 = false } = options;
  const put = (value: Tensor | PackedWeight): void =>
    module.assign(parameter, int8 && isInt8(module, parameter) ? packedInt8(value) : value);
  const quantizes = storage !== undefined && isQuantized(storage, module, parameter);
  const blocks = quantizes && storage.type === 'stored' ? weights.loadBlocks?.(name, dtype ?? 'f32') : undefined;
  if (blocks !== undefined) {
    yield* brokenParts(blocks);
    module.assign(parameter, int8 ? packedInt8(blocks) : blocks);
    return;
  }
  const stored = weights.load(name);
  if (!isFloat(stored.dtype)) throw new FormatError(`${weights.source}: weight "${name}" must be of a floating dtype; got ${stored.dtype}`);
  yield new Tensor(nonFiniteCount([stored.handle]));
  if (quantizes && storage.type !== 'stored') {
    put(quantized(stored, storage, dtype ?? stored.dtype));
    return;
  }
  const value = dtype === undefined || stored.dtype === dtype ? stored : cast(stored, dtype);
  // A linear layer packs its weight itself; what stays dense must not lie in a file that others may change.
  if (module instanceof Linear && parameter === 'weight') put(value);
  else if (layout === 'native' && staysInFile(module, parameter)) put(unscoped(() => packWeight(value, { layout })));
  else put(clone(value));
}

/** The counts for the values of a weight in blocks, part by part. */
function* brokenParts(weight: PackedWeight): Iterable<Tensor> {
  const count = Math.max(1, Math.floor(kValuesAtOnce / (weight.shape[1] ?? 1)));
  for (const rows of rowParts(weight, count)) yield scope(() => new Tensor(nonFiniteCount([rows().handle])));
}

const isFloat = (dtype: DType): boolean => dtype === 'f64' || dtype === 'f32' || dtype === 'bf16' || dtype === 'f16';
const sizeOf = ({ shape }: Slot): number => shape.reduce((product, size) => product * size, 1);

function checkNames(slots: ReadonlyMap<string, Slot>, shapes: ReadonlyMap<string, readonly number[]>, source: string): void {
  const missing = [...slots.keys()].filter((name) => !shapes.has(name));
  const unexpected = [...shapes.keys()].filter((name) => !slots.has(name));
  const misshapen: string[] = [];
  for (const [name, { shape }] of slots) {
    const found = shapes.get(name);
    if (found !== undefined && found.join() !== shape.join())
      misshapen.push(`"${name}" got [${found.join(', ')}], expected [${shape.join(', ')}]`);
  }
  const problems = [listed('missing', missing), listed('unexpected', unexpected), listed('of another shape', misshapen)].filter(
    (text) => text !== '',
  );
  if (problems.length > 0) throw new FormatError(`${source}: the weights do not fit the config; ${problems.join('; ')}`);
}

function listed(what: string, names: readonly string[]): string {
  if (names.length === 0) return '';
  const more = names.length > 10 ? `, and ${names.length - 10} more` : '';
  return `${names.length} ${what}: ${names.slice(0, 10).join(', ')}${more}`;
}
