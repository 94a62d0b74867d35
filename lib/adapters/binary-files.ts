import { readFile } from 'node:fs/promises';
import { AdapterError, ConfigError } from '../errors.js';
import { writeFileAtomically } from '../io/atomic-file.js';
import {
  type BinaryAdapterFile,
  type BinaryBackbone,
  type BinaryMatrix,
  type BinaryMethod,
  readBinaryAdapter,
  readBinaryInfo,
  writeBinaryAdapter,
  writeBinaryInfo,
} from '../io/binary-adapter.js';
import { Linear } from '../nn/linear.js';
import type { Module } from '../nn/module.js';
import { tensor } from '../ops/create.js';
import { cast } from '../ops/elementwise.js';
import { copyInto } from '../ops/shape.js';
import type { SignBits } from '../ops/sign.js';
import { noGrad, scope } from '../scope.js';
import type { Tensor } from '../tensor.js';
import type { AdapterModule } from './adapter.js';
import type { AdapterSet, Attached, AttachOptions } from './adapter-set.js';
import type { BinaryConfig } from './binary-config.js';
import { BinaryAdaptFormer, BinaryHead, BinaryLora } from './binary-modules.js';
import { type BinaryWeight, StoredWeight } from './binary-weight.js';
import { layersOf } from './inject.js';
import { resolveConfig } from './resolve-config.js';
import { streamWidth } from './sublayer-bottleneck.js';
import { type AdapterBase, adaptersOf } from './tuned-of.js';

/** An encoder with or without adapters, or a network. */
export type BinaryBase = AdapterBase;

/** The file of its description, whose name ends in `.yaml`. */
const describes = (file: string): string => file.replace(/(\.bin)?$/, '.yaml');

function backboneOf(network: Module): BinaryBackbone {
  const blocks = layersOf(network).filter(({ role }) => role === 'block');
  const [first] = blocks;
  if (first === undefined) throw new AdapterError('binary adapter: the network has no blocks');
  return { blocks: blocks.length, width: streamWidth('binary adapter', first) };
}

/** The one linear head of a network. */
function headOf(network: Module): { path: string; layer: Linear } {
  const found = layersOf(network).flatMap(({ role, path, layer }) => (role === 'head' && layer instanceof Linear ? [{ path, layer }] : []));
  const [only] = found;
  if (only === undefined || found.length > 1)
    throw new AdapterError(
      `binary adapter: needs a network with one linear head; got ${found.map(({ path }) => path).join(', ') || 'none'}`,
    );
  return only;
}

/** The paths that files hold matrices of, in their order: every block, or query and value of every block. */
function placesIn(network: Module, { adapter }: BinaryConfig): string[] {
  const layers = layersOf(network);
  const blocks = layers.filter(({ role }) => role === 'block').map(({ path }) => path);
  if (adapter === 'adaptformer') return blocks;
  return blocks.flatMap((block) =>
    (['attention.query', 'attention.value'] as const).flatMap((role) =>
      layers.filter((layer) => layer.role === role && layer.path.startsWith(`${block}.`)).map(({ path }) => path),
    ),
  );
}

/**
 * The two matrices of the modules on blocks or layers, in the order of files. Throws `ConfigError` unless these and the head at `head` are
 * all that the adapter has.
 */
function pairsOf({ placements, config }: Attached, network: Module, head: string): BinaryWeight[] {
  const places = placesIn(network, config as BinaryConfig);
  const found = new Map<string, BinaryWeight[]>();
  for (const { path, module } of placements)
    if (module instanceof BinaryAdaptFormer || module instanceof BinaryLora) found.set(path, [module.weights.down, module.weights.up]);
  const missing = places.find((path) => !found.has(path));
  const other = placements.find(({ path }) => path !== head && !places.includes(path))?.path;
  if (missing !== undefined || other !== undefined)
    throw new ConfigError(
      `binary adapter: such files hold the head and ${(config as BinaryConfig).adapter === 'lora' ? 'query and value of every block' : 'every block'} alone; got ` +
        (missing === undefined ? `"${other}" beside them` : `nothing on "${missing}"`),
    );
  return places.flatMap((path) => found.get(path) ?? []);
}

const moduleAt = ({ placements }: Attached, path: string, kind: (module: AdapterModule) => boolean): AdapterModule | undefined =>
  placements.find((placement) => placement.path === path && kind(placement.module))?.module;

function put(slot: Tensor, values: Tensor): void {
  copyInto(slot, cast(values, slot.dtype));
}

function fillMatrix(weight: BinaryWeight | undefined, { name, shape, codes, meta }: BinaryMatrix): void {
  if (!(weight instanceof StoredWeight) || weight.shape[0] !== shape[0] || weight.shape[1] !== shape[1])
    throw new AdapterError(
      `binary adapter: "${name}" does not fit the network; got [${shape.join(', ')}], expected ${weight === undefined ? 'no such matrix' : `[${weight.shape.join(', ')}]`}`,
    );
  put(weight.qweight, tensor(codes));
  put(weight.qmeta, tensor(meta));
}

function fill(attached: Attached, network: Module, { matrices, head }: BinaryAdapterFile, path: string): void {
  const weights = pairsOf(attached, network, path);
  if (weights.length !== matrices.length)
    throw new AdapterError(`binary adapter: the file has ${matrices.length} matrices; the network takes ${weights.length}`);
  for (const [i, matrix] of matrices.entries()) fillMatrix(weights[i], matrix);
  if ('codes' in head) {
    fillMatrix((moduleAt(attached, path, (module) => module instanceof BinaryHead) as BinaryHead).adapter_head, head);
    return;
  }
  const { weight, bias } = moduleAt(attached, path, (module) => !(module instanceof BinaryHead)) as unknown as {
    weight: Tensor;
    bias: Tensor;
  };
  put(weight, tensor(head.weight, { shape: weight.shape }));
  put(bias, tensor(head.bias));
}

/**
 * Puts a file of the authors of binary adapters (`NAME.bin` with `NAME.yaml` beside it) onto a vision transformer with a linear head of
 * as many classes. The adapter is for inference alone: such files hold codes. Throws `FormatError` for a file of another length,
 * `ConfigError` for a description that cannot be, and `AdapterError` where it does not fit the network, which is then as before.
 *
 * ```ts
 * const adapters = await loadBinaryAdapter(network, 'adaptformer/svhn.bin');
 * ```
 */
export async function loadBinaryAdapter(
  base: BinaryBase,
  file: string,
  options: Pick<AttachOptions, 'name' | 'activate' | 'signal'> = {},
): Promise<AdapterSet> {
  const set = adaptersOf(base);
  const info = readBinaryInfo(await readFile(describes(file), 'utf8'));
  const contents = readBinaryAdapter(await readFile(file), info, backboneOf(set.network));
  const { path, layer } = headOf(set.network);
  if (layer.outFeatures !== info.num_class)
    throw new AdapterError(`binary adapter: ${file} has ${info.num_class} classes; the head "${path}" has ${layer.outFeatures}`);
  const bihead = 'codes' in contents.head;
  if (!bihead && layer.bias === undefined) throw new AdapterError(`binary adapter: ${file} has a bias for the head; "${path}" has none`);
  const config: Partial<BinaryConfig> & { type: 'binary' } = {
    type: 'binary',
    adapter: info.method.startsWith('lora') ? 'lora' : 'adaptformer',
    bits: info.bit,
    dim: info.dim,
    scale: info.scale,
    bihead,
    storage: 'codes',
    modulesToSave: bihead ? null : [path],
  };
  await set.add(resolveConfig(config), options, { peft_type: 'BINARY' }, async (attached) =>
    scope(() => noGrad(() => fill(attached, set.network, contents, path))),
  );
  return set;
}

/** A matrix as files hold it. */
async function matrixOf(name: string, weight: BinaryWeight): Promise<BinaryMatrix> {
  const { bits, codes, meta } = weight.codes() ?? {};
  if (bits === undefined || codes === undefined || meta === undefined)
    throw new ConfigError(`binary adapter: "${name}" has 32 bits; such files hold 1, 2, 4 or 8`);
  const shape = weight.shape as readonly [number, number];
  return { name, shape, bits, codes: (await codes.data()) as Uint8Array, meta: (await meta.data()) as Float32Array };
}

export interface SaveBinaryOptions {
  /** Which adapter to save. Default: the active one. */
  readonly name?: string;
  /** What the description says of the data. Default empty. */
  readonly dataset?: string;
  /** What it says of the model. Default `vit_base_patch16_224_in21k`. */
  readonly backbone?: string;
}

/**
 * Writes a binary adapter with its head as the files of its authors, `NAME.bin` and `NAME.yaml`. Throws `ConfigError` for what such files
 * cannot hold: 32 bits, codes that end inside a byte, no trained head, other modules beside it, and other targets than every block, or
 * query and value of every block.
 */
export async function saveBinaryAdapter(base: BinaryBase, file: string, options: SaveBinaryOptions = {}): Promise<void> {
  const set = adaptersOf(base);
  const { name = set.active[0], dataset = '', backbone = 'vit_base_patch16_224_in21k' } = options;
  if (name === undefined) throw new AdapterError('binary adapter: no adapter is active; give the name of one');
  const attached = set.get(name);
  if (attached.method.name !== 'binary')
    throw new AdapterError(`binary adapter: "${name}" is of method "${attached.method.name}"; expected "binary"`);
  const { adapter, bits, dim, scale, bihead } = attached.config as BinaryConfig;
  const { path, layer } = headOf(set.network);
  await scope(async () => {
    const weights = pairsOf(attached, set.network, path);
    const matrices = await Promise.all(weights.map((weight, i) => noGrad(() => matrixOf(`matrix ${i}`, weight))));
    const copy = moduleAt(attached, path, (module) => !(module instanceof BinaryHead)) as unknown as
      | { weight?: Tensor; bias?: Tensor }
      | undefined;
    const own = moduleAt(attached, path, (module) => module instanceof BinaryHead) as BinaryHead | undefined;
    const contents: BinaryAdapterFile = {
      info: {
        backbone,
        bit: bits as SignBits,
        dataset,
        dim,
        method: `${adapter}${bihead ? '-bihead' : ''}` as BinaryMethod,
        num_class: layer.outFeatures,
        scale,
      },
      matrices,
      head: own === undefined ? await plainHead(path, copy) : await noGrad(() => matrixOf('head', own.adapter_head)),
    };
    const bytes = writeBinaryAdapter(contents, backboneOf(set.network));
    await writeFileAtomically(file, bytes);
    await writeFileAtomically(describes(file), writeBinaryInfo(contents.info));
  });
}

async function plainHead(
  path: string,
  copy: { weight?: Tensor; bias?: Tensor } | undefined,
): Promise<{ weight: Float32Array; bias: Float32Array }> {
  if (copy?.weight === undefined || copy.bias === undefined)
    throw new ConfigError(`binary adapter: such files hold a head with bias; expected bihead, or modulesToSave ["${path}"]`);
  return { weight: (await copy.weight.data()) as Float32Array, bias: (await copy.bias.data()) as Float32Array };
}
