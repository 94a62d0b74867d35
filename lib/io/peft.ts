import { randomBytes } from 'node:crypto';
import { access, readdir, readFile, rename, rm } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import type { AdapterForm, AnyMethod, CommonConfig, PortableAdapter } from '../adapters/adapter.js';
import type { Attached } from '../adapters/adapter-set.js';
import { namedTensorsOf } from '../adapters/adapter-table.js';
import { embeddingBases } from '../adapters/base-weights.js';
import { newerNames } from '../adapters/newer-names.js';
import { AdapterError, FormatError, InvalidArgumentError } from '../errors.js';
import { EncoderNetwork, type EncoderTask } from '../models/encoder.js';
import type { TaskId } from '../nn/context.js';
import type { Module } from '../nn/module.js';
import { cast } from '../ops/elementwise.js';
import { noGrad, scope } from '../scope.js';
import type { Tensor } from '../tensor.js';
import { adapterWeights, kAdapterWeights, loadAdapterWeights } from './adapter-weights.js';
import { makeFolder, syncFolder, writeFileAtomically } from './atomic-file.js';
import { writing } from './io-error.js';
import { readJsonObjectIfAny } from './json.js';
import { type PeftConfig, readPeftConfig, writePeftConfig } from './peft-config.js';
import { kReconstruction } from './peft-lora-xs.js';
import { saveSafetensors } from './safetensors.js';

const kConfig = 'adapter_config.json';
const kPrefix = 'base_model.model.';

/** An adapter folder as read: its config, and its tensors by module path and end (`model.layers.0.self_attn.q_proj.lora_A.weight`). */
export interface PeftFolder {
  readonly config: PeftConfig;
  readonly tensors: ReadonlyMap<string, Tensor>;
}

export interface PeftSaveOptions {
  /** Dtype of the tensors in the file, counts left aside. Default: as trained, f32. */
  readonly dtype?: 'f32' | 'bf16' | 'f16';
  /** Also write the bare weights of adapted embeddings and heads, as PEFT does; loaders do not need them. Default false. */
  readonly saveEmbeddings?: boolean;
  /**
   * `published` (the default): for the published weights and for every loader; as plain LoRA where that makes the same change of the
   * weights. `native`: as trained, of an adapter that is published as another one (LoRA-XS, MoSA), so that it can be trained on. Of an adapter
   * that took a part out of the frozen weights as it started (PiSSA and its kin), `published` is plain LoRA of twice the rank. `split`: as
   * trained, for the weights that are left. `initial`: the part that was taken, as an adapter, which PEFT's
   * `path_initial_model_for_weight_conversion` and the option `initial` of `attach` and `loadAdapter` read. `lora`: as plain LoRA that makes
   * the same change of the layers, of methods that can be written so (Hydra, and Poly for one task).
   */
  readonly form?: AdapterForm;
  /** With the form `lora`, of an adapter that is routed by task: the one that is written, or `'mean'`. Default: the only one. */
  readonly task?: TaskId;
  /**
   * Names of modules: `published` (the default), those of the published weights, which every program reads that keeps to them; `transformers-5`, those that ViT and AST
   * have in transformers from version 5 on, where PEFT wants them in adapters too. The same for other networks.
   */
  readonly names?: 'published' | 'transformers-5';
  /** What `base_model_name_or_path` says. Default: where the model was loaded from. */
  readonly baseModel?: string;
}

const exists = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  );

/** The name a tensor has inside the model: without the wrappers of PEFT and of compiled modules, and without what PEFT's cutting out of adapter names leaves. */
export function bareName(key: string): string {
  const name = key.replaceAll('_orig_mod.', '');
  return (name.startsWith(kPrefix) ? name.slice(kPrefix.length) : name)
    .replace(/\.lora_magnitude_vector\.weight$/, '.lora_magnitude_vector')
    .replace(/(\.default)?_lora_latent_mapping\.weight$/, '.lora_latent_mapping.weight');
}

/** The table of virtual tokens. */
const kTable = 'prompt_embeddings';
/** What PEFT writes before names of modules beside such a table. */
const kWholePrefix = 'base_model.';

/** The name of a tensor in a file: a latent mapping follows its module with an underscore. */
export const fileName = (name: string, { whole }: Pick<AnyMethod, 'whole'>): string =>
  (name === kTable ? '' : whole === undefined ? kPrefix : kWholePrefix) +
  name.replace(/\.lora_latent_mapping\.weight$/, '_lora_latent_mapping.weight');

/**
 * Reads `adapter_config.json` and `adapter_model.safetensors`, or `adapter_model.bin` where that is not there; the caller disposes the tensors. Throws `InvalidArgumentError` when there
 * is no such folder, `FormatError` for what is missing in it or broken.
 */
export async function readPeftFolder(folder: string): Promise<PeftFolder> {
  if (!(await exists(folder))) throw new InvalidArgumentError(`loadAdapter: no such folder; got "${folder}", expected a PEFT folder`);
  const file = await readJsonObjectIfAny(join(folder, kConfig));
  if (file === undefined) throw new FormatError(`${folder}: no ${kConfig} here${await hintFor(folder)}`);
  const weights = adapterWeights(folder);
  if (weights === undefined) throw new FormatError(`${folder}: no ${kAdapterWeights} here`);
  const stored = await loadAdapterWeights(weights);
  try {
    const tensors = new Map<string, Tensor>();
    for (const [key, value] of stored) {
      const name = stored.has(kTable) ? key.replace(kWholePrefix, '') : bareName(key);
      if (tensors.has(name)) throw new FormatError(`${weights}: two tensors mean "${name}"`);
      tensors.set(name, value);
    }
    return { config: readPeftConfig(file, [...tensors.keys()]), tensors };
  } catch (error) {
    for (const value of stored.values()) value.dispose();
    throw error;
  }
}

async function hintFor(folder: string): Promise<string> {
  const entries = await readdir(folder, { withFileTypes: true }).catch(() => []);
  const inside: string[] = [];
  for (const entry of entries)
    if (entry.isDirectory() && (await exists(join(folder, entry.name, kConfig)))) inside.push(join(folder, entry.name));
  return inside.length === 0 ? '' : `; there are adapters in ${inside.join(', ')}`;
}

/** What PEFT calls the tasks of text encoders. */
const taskTypes: { readonly [Task in EncoderTask]: string | null } = {
  classification: 'SEQ_CLS',
  regression: 'SEQ_CLS',
  'token-classification': 'TOKEN_CLS',
  'masked-lm': null,
  embedding: 'FEATURE_EXTRACTION',
};

/** The task type of an adapter. PEFT expects a head in the files of its classifiers: an adapter without one gets none. */
function taskTypeOf(network: Module, { modulesToSave }: CommonConfig): string | null | undefined {
  if (!(network instanceof EncoderNetwork)) return undefined;
  const type = network.modality === 'text' ? taskTypes[network.task] : null;
  const needsHead = type === 'SEQ_CLS' || type === 'TOKEN_CLS';
  return needsHead && modulesToSave?.includes('classifier') !== true ? null : type;
}

/** Writes an adapter as a PEFT folder: the folder appears whole, and one that was there is replaced whole. */
export async function savePeftFolder(folder: string, attached: Attached, network: Module, options: PeftSaveOptions = {}): Promise<void> {
  await scope(async () => {
    const { method = attached.method, config: settings, tensors: own, codes } = portable(attached, options.form, options.task);
    const file = method === attached.method ? attached.file : undefined;
    const newer = options.names === 'transformers-5' ? newerNames(attached, network) : undefined;
    const config = writePeftConfig({
      method,
      config: { ...settings, ...newer?.patterns },
      targets: newer?.targets ?? attached.targets,
      file,
      baseModel: options.baseModel,
      taskType: taskTypeOf(network, settings),
    });
    const texts = Object.entries({ ...method.peft?.beside?.(settings), [kConfig]: config });
    const tensors: Record<string, Tensor> = {};
    noGrad(() => {
      const bases = options.saveEmbeddings === true ? embeddingBases(network, attached) : [];
      for (const [name, value] of [...own, ...bases]) {
        const asked = codes?.has(value) || value.dtype === 'i64' ? undefined : options.dtype;
        tensors[fileName(newer?.nameOf(name) ?? name, method)] = asked === undefined || value.dtype === asked ? value : cast(value, asked);
      }
    });
    const saveWeights = (target: string) =>
      saveSafetensors(join(target, kAdapterWeights), tensors, { ...method.peft?.metadata?.(settings), format: 'pt' });
    // Where only the weights change, one rename replaces them: the folder is whole for a reader at every moment.
    const same = await Promise.all(texts.map(([name, text]) => holds(join(folder, name), text)));
    if (same.every(Boolean)) return saveWeights(folder);
    await replaceFolder(folder, async (target) => {
      await saveWeights(target);
      for (const [name, text] of texts) await writeFileAtomically(join(target, name), text);
    });
  });
}

/** The config and tensors to be written. */
function portable({ method, config, placements }: Attached, form: AdapterForm = 'published', task?: TaskId): PortableAdapter<CommonConfig> {
  if (method.portable !== undefined)
    return noGrad(() => (method as AnyMethod).portable?.(config, placements, form, { task })) as PortableAdapter<CommonConfig>;
  if (form !== 'published')
    throw new AdapterError(`save: an adapter of "${method.name}" is written in one form; got "${form}", expected "published"`);
  return {
    config,
    tensors: placements.flatMap(namedTensorsOf),
  };
}

const holds = (file: string, text: string): Promise<boolean> =>
  readFile(file, 'utf8').then(
    (present) => present === text,
    () => false,
  );

const ours = new Set([kConfig, kAdapterWeights, kReconstruction, 'README.md']);

/**
 * Runs `write` on a temporary folder beside `folder`, then renames it into place. A folder with files of somebody else stays, and gets the new files one by one,
 * each replaced whole.
 */
export async function replaceFolder(folder: string, write: (target: string) => Promise<void>): Promise<void> {
  const final = resolve(folder);
  const present = await readdir(final).catch(() => undefined);
  if (present?.some((name) => !ours.has(name))) {
    await write(final);
    return;
  }
  const mark = `${process.pid}-${randomBytes(4).toString('hex')}`;
  const temporary = join(dirname(final), `.${basename(final)}.${mark}.tmp`);
  await writing(final, async () => {
    try {
      await makeFolder(temporary);
      await write(temporary);
      if (present === undefined) {
        await rename(temporary, final);
      } else {
        const old = join(dirname(final), `.${basename(final)}.${mark}.old.tmp`);
        await rename(final, old);
        await rename(temporary, final).catch(async (error: unknown) => {
          await rename(old, final);
          throw error;
        });
        await rm(old, { recursive: true, force: true });
      }
      await syncFolder(dirname(final));
    } catch (error) {
      await rm(temporary, { recursive: true, force: true }).catch(() => undefined);
      throw error;
    }
  });
}
