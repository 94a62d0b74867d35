import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { type Command, Option } from 'commander';
import { z } from 'zod';
import { loadModel, saveModel } from '../../index.js';
import { readAdapter } from '../../io/dialects/read.js';
import { writeAdapter } from '../../io/dialects/write.js';
import { ggufShape } from '../../io/gguf/writer-config.js';
import { saveGguf } from '../../io/gguf/writer-model.js';
import { readGguf } from '../../io/gguf.js';
import { type JsonObject, readJsonObject } from '../../io/json.js';
import { resolveModel } from '../../io/model-files.js';
import { type CommandContext, command, runCommand, WrongUse } from '../command.js';
import type { OutputOptions } from '../output.js';

const kTargets = ['peft', 'kohya', 'mlx', 'gguf', 'safetensors'] as const;
const kTypes = ['f32', 'f16', 'bf16', 'q8_0'] as const;

interface Options extends OutputOptions {
  readonly from: string;
  readonly to: (typeof kTargets)[number];
  readonly out: string;
  readonly model?: string;
  readonly dtype?: (typeof kTypes)[number];
}

/** What `--json` prints. */
export const convertOutput = z.strictObject({
  out: z.string().describe('file or folder that was written'),
  tensors: z.int().describe('tensors written'),
  from: z.string().describe('what `--from` was taken for'),
  to: z.enum(kTargets),
});

export function convertCommand(): Command {
  return command(
    'convert',
    'Write a LoRA adapter or a model in another format.',
    'lorikeet convert --from runs/notes/adapter --to gguf --model ./smollm2 --out notes.gguf',
  )
    .requiredOption(
      '--from <path>',
      'adapter (PEFT, mlx or diffusers folder, kohya or diffusers .safetensors, .gguf) or model (folder, .gguf)',
    )
    .addOption(
      new Option('--to <format>', 'format to write; safetensors: one file for an adapter, a Hugging Face folder for a model')
        .choices(kTargets)
        .makeOptionMandatory(),
    )
    .requiredOption('--out <path>', 'file or folder to write; must not exist, or be an empty folder')
    .option('--model <path>', 'base model of an adapter: needed for gguf, and for kohya names that are not those of a language model')
    .addOption(new Option('--dtype <dtype>', 'type of the tensors in a gguf file, or of a model').choices(kTypes))
    .action((options: Options) => runCommand(options, run));
}

async function run(options: Options, context: CommandContext): Promise<void> {
  const { from, to, out } = options;
  if (existsSync(out) && !(statSync(out).isDirectory() && readdirSync(out).length === 0))
    throw new WrongUse(`convert: "${out}" exists; choose another, or remove it`);
  if (!existsSync(from)) throw new WrongUse(`convert: there is nothing at "${from}"`);
  const { tensors, ...seen } = isModel(from) ? await convertModel(options, context) : await convertAdapter(options);
  const value = { out, tensors, from: seen.from, to } satisfies z.output<typeof convertOutput>;
  context.output.result(value, `${from} (${seen.from}) written as ${to} to ${out}: ${tensors} tensors`);
}

/** Whether a path holds a model; everything else must be an adapter. */
function isModel(path: string): boolean {
  if (path.endsWith('.gguf')) return readGguf(path).metadata.get('general.type') !== 'adapter';
  return existsSync(join(path, 'config.json')) && !existsSync(join(path, 'adapter_config.json'));
}

async function convertModel(
  { from, to, out, dtype }: Options,
  { output, signal }: CommandContext,
): Promise<{ tensors: number; from: string }> {
  if (to !== 'gguf' && to !== 'safetensors')
    throw new WrongUse(`convert: ${to} is a format of adapters; got a model, expected gguf or safetensors`);
  if (to === 'safetensors' && dtype === 'q8_0') throw new WrongUse('convert: q8_0 is a type of gguf files; expected f32, f16 or bf16');
  output.message(`loading ${from}`);
  const model = await loadModel(from, { signal });
  try {
    output.message(`writing ${out}`);
    const tensors =
      to === 'gguf'
        ? await saveGguf(model, out, {
            signal,
            onProgress: ({ done, total }) => (done === 0 ? output.startProgress('writing tensors', total) : output.progress(done)),
            ...(dtype !== undefined && { type: dtype }),
          })
        : await saveModel(model, out, dtype === undefined ? {} : { dtype: dtype as 'f32' | 'f16' | 'bf16' });
    const window = to === 'gguf' ? ggufShape(model.config).window : undefined;
    if (window !== undefined)
      output.message(`llama.cpp knows no sliding window for this architecture: it computes the same for up to ${window} tokens only`);
    return { tensors, from: 'model' };
  } finally {
    model.dispose();
  }
}

async function convertAdapter({ from, to, out, model, dtype }: Options): Promise<{ tensors: number; from: string }> {
  if (dtype !== undefined && (to !== 'gguf' || dtype === 'q8_0'))
    throw new WrongUse(`convert: an adapter is written as it is, in gguf as f32, f16 or bf16; got --dtype ${dtype} for ${to}`);
  const base = model === undefined ? undefined : await baseModel(model);
  const adapter = await readAdapter(from, base ?? {});
  try {
    const named = base ?? (to === 'gguf' || to === 'mlx' ? await namedBase(adapter.baseModel) : undefined);
    const tensors = await writeAdapter(adapter, to === 'safetensors' ? 'diffusers' : to, out, {
      ...(named && { config: named.config }),
      ...(dtype !== undefined && { type: dtype }),
    });
    return { tensors, from: adapter.dialect };
  } finally {
    adapter.dispose();
  }
}

interface BaseModel {
  readonly config: JsonObject;
  readonly modules?: readonly string[];
}

const moduleOf = (name: string): string => name.replace(/\.(weight|bias)$/, '');

async function baseModel(path: string): Promise<BaseModel> {
  const files = await resolveModel(path);
  if (files.kind === 'gguf') return { config: files.config, modules: [...new Set([...files.gguf.tensors.keys()].map(moduleOf))] };
  if (files.kind === 'safetensors') return { config: {}, modules: [...new Set([...files.weights.tensors.keys()].map(moduleOf))] };
  if (files.kind !== 'huggingface') throw new WrongUse(`convert: --model must be a base model; got an adapter at "${path}"`);
  const names = [...files.weights.tensors.keys()].map(moduleOf);
  return { config: files.config, modules: [...new Set([...names, 'lm_head'])] };
}

/** The base model that an adapter names, where it is on this machine. */
async function namedBase(path: string | undefined): Promise<BaseModel | undefined> {
  if (path === undefined) return undefined;
  if (path.endsWith('.gguf') && existsSync(path)) return baseModel(path);
  const config = join(path, 'config.json');
  return existsSync(config) ? { config: await readJsonObject(config) } : undefined;
}
