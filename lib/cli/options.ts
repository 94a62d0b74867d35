import { type Command, Option } from 'commander';
import { kComputes } from '../models/weight-storage.js';

/** Dtypes that commands take for `--dtype`. */
export const kDtypes = ['f32', 'bf16', 'f16', 'f64', 'stored', 'nf4', 'int8'] as const;

/** The options that choose a model and an adapter; `--model` is required unless told otherwise. */
export function addModelOptions(command: Command, required = true): Command {
  const model = new Option('--model <path>', 'folder of a published model, .gguf file or hub id');
  return command
    .addOption(required ? model.makeOptionMandatory() : model)
    .option('--adapter <folder>', 'PEFT folder to load onto the model')
    .addOption(dtypeOption())
    .addOption(computeOption())
    .addOption(new Option('--device <name>', 'where to compute').choices(['cpu', 'cuda']));
}

export function dtypeOption(): Option {
  return new Option('--dtype <dtype>', 'dtype to keep weights in (default: as stored, GGUF blocks as f32)').choices(kDtypes);
}

export function computeOption(): Option {
  return new Option(
    '--compute <dtype>',
    'with --dtype stored, nf4 or int8: dtype of everything else; int8: products of frozen layers in 8-bit integers',
  ).choices(kComputes);
}

/** `--set`, for the commands that read a recipe. */
export function addSetOption(command: Command): Command {
  return command.option(
    '--set <key.path=value>',
    'change a value of the recipe (repeatable)',
    (set: string, all: string[]) => [...all, set],
    [],
  );
}
