import { existsSync } from 'node:fs';
import { cp, mkdir, realpath } from 'node:fs/promises';
import { join } from 'node:path';
import { writeFileAtomically } from '../io/atomic-file.js';
import { ggufTokenizer, hasGgufTokenizer } from '../io/gguf-tokenizer.js';
import { resolveModel } from '../io/model-files.js';
import { saveSafetensors } from '../io/safetensors.js';
import { writePooling } from '../io/sentence-encoder.js';
import { isLanguageModel, type LanguageModel } from '../model.js';
import { Linear } from '../nn/linear.js';
import { dense } from '../nn/quantized.js';
import { cast, notEqual } from '../ops/elementwise.js';
import { PackedWeight } from '../ops/linalg.js';
import { sum } from '../ops/reduce.js';
import { noGrad, scope } from '../scope.js';
import type { TaskModel } from '../task-model.js';
import type { DType, Tensor } from '../tensor.js';
import { lackingOf } from './lacking.js';
import { publishedClass } from './published-task.js';
import { kResidual } from './residual.js';
import { headToSave, kHead } from './saved-head.js';

export interface SaveModelOptions {
  /** Dtype of the weights in the file. Default: as they are in memory. */
  readonly dtype?: DType;
}

/** What transformers calls the dtypes. */
const torchNames: { readonly [dtype in DType]?: string } = { f64: 'float64', f32: 'float32', bf16: 'bfloat16', f16: 'float16' };

/** What lies beside the weights and makes the folder complete. */
const companions = [
  'generation_config.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'added_tokens.json',
  'tokenizer.model',
  'vocab.json',
  'merges.txt',
  'chat_template.jinja',
  'preprocessor_config.json',
  'vocab.txt',
  'modules.json',
  '1_Pooling',
  '2_Normalize',
];

/**
 * Writes a model as a Hugging Face folder that transformers and `loadModel` read: `config.json`, `model.safetensors` with the published names, and the
 * tokenizer files. Weights are those in memory: after `tuned.merge()` the merged ones. Where an adapter holds a part of them (PiSSA and its kin), the config says so
 * under `lorikeet_residual`. Of sentence encoders also the pooling as sentence-transformers writes it, of encoders of images and audio pooling and positions under
 * `lorikeet_head`. Returns the number of tensors.
 */
export async function saveModel(
  model: (LanguageModel & { readonly source: string }) | TaskModel,
  folder: string,
  options: SaveModelOptions = {},
): Promise<number> {
  await mkdir(folder, { recursive: true });
  const { network } = model;
  const untied = isLanguageModel(model) ? await ownHead(model) : undefined;
  const count = await scope(async () => {
    const weights = new Map<string, Tensor>();
    const put = (name: string, value: Tensor | PackedWeight) => {
      const dense = value instanceof PackedWeight ? value.unpack() : value;
      weights.set(name, options.dtype === undefined ? dense : noGrad(() => cast(dense, options.dtype as DType)));
    };
    for (const [name, value] of network.namedParameters()) put(name, value);
    if (untied !== undefined) put('lm_head.weight', untied.weight);
    await saveSafetensors(join(folder, 'model.safetensors'), weights);
    return weights.size;
  });
  const name = torchNames[options.dtype ?? model.dtype];
  const { [kResidual]: _, [kHead]: __, ...published } = model.config;
  const lacking = lackingOf(model);
  const config = {
    ...published,
    ...(lacking === undefined ? {} : { [kResidual]: lacking }),
    ...(name === undefined ? {} : { torch_dtype: name }),
    ...(untied === undefined ? {} : { tie_word_embeddings: false }),
    ...(isLanguageModel(model) ? {} : { ...classOf(model), ...headToSave(model.network) }),
  };
  await writeFileAtomically(join(folder, 'config.json'), `${JSON.stringify(config, undefined, 2)}\n`);
  await writeCompanions(model.source, folder);
  if (!isLanguageModel(model) && model.network.modality === 'text' && model.network.pooling !== undefined)
    await writePooling(folder, model.network.pooling, model.network.shape.hiddenSize);
  return count;
}

/** The class of transformers that reads an encoder with its head. */
function classOf({ config, task, network }: TaskModel): { readonly architectures?: readonly string[] } {
  const name = publishedClass(config, task, network.modality);
  return name === undefined ? {} : { architectures: [name] };
}

/** The head that is tied to the embedding where it was changed apart from it. */
async function ownHead({ network }: LanguageModel): Promise<Linear | undefined> {
  const head = network.lm_head.effective();
  if (!(head instanceof Linear) || head.tiedTo === undefined || !(head.weight instanceof PackedWeight)) return undefined;
  const { weight } = head;
  const { tiedTo } = head;
  const different = await scope(() => noGrad(() => sum(cast(notEqual(weight.unpack(), dense(tiedTo.weight)), 'f32'))).item());
  return different > 0 ? head : undefined;
}

async function writeCompanions(source: string, folder: string): Promise<void> {
  const files = await resolveModel(source);
  if (files.kind === 'gguf') {
    if (!hasGgufTokenizer(files.gguf.header)) return;
    const { json, special, templates } = ggufTokenizer(files.gguf.header);
    const tokens = Object.fromEntries(Object.entries(special).map(([role, token]) => [`${role}_token`, token]));
    const template = templates.default === undefined ? {} : { chat_template: templates.default };
    await writeFileAtomically(join(folder, 'tokenizer.json'), JSON.stringify(json));
    const config = { tokenizer_class: 'PreTrainedTokenizerFast', ...tokens, ...template };
    await writeFileAtomically(join(folder, 'tokenizer_config.json'), `${JSON.stringify(config, undefined, 2)}\n`);
    return;
  }
  if (files.kind !== 'huggingface') return;
  if ((await realpath(files.folder)) === (await realpath(folder))) return; // they are there
  for (const name of companions)
    if (existsSync(join(files.folder, name))) await cp(join(files.folder, name), join(folder, name), { recursive: true });
}
