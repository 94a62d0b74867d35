import { type Command, Option } from 'commander';
import { kComputes } from '../models/weight-storage.js';
import { checked, type Recipe } from '../recipe.js';
import { kTasks, taskSchema } from '../recipe-schema.js';
import { WrongUse } from './command.js';

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

/** What says which head an encoder gets, where no recipe does. */
export interface TaskOptions {
  readonly task?: (typeof kTasks)[number];
  readonly labels?: string;
}

/** The options that choose the head of an encoder. */
export function addTaskOptions(command: Command): Command {
  return command
    .addOption(
      new Option('--task <name>', 'of an encoder: what it answers; published: what its checkpoint was published for').choices(kTasks),
    )
    .option(
      '--labels <names>',
      'with --task: names of the classes with commas between them, or how many there are (default: those of the model)',
    );
}

/** The task as a recipe would say it. Throws `WrongUse` for labels without a task. */
export function taskOf({ task, labels }: TaskOptions): Recipe['task'] {
  if (task === undefined && labels !== undefined) throw new WrongUse('--labels goes with --task; got it alone');
  if (task === undefined) return undefined;
  const names = labels === undefined ? {} : { labels: /^\d+$/.test(labels) ? Number(labels) : labels.split(',') };
  return checked(taskSchema, { type: task, ...names }, 'task');
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
