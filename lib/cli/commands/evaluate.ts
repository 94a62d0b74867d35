import type { Command } from 'commander';
import type { DataSource } from '../../data/index.js';
import { evaluate } from '../../index.js';
import { type Recipe, readRecipe } from '../../recipe.js';
import { type CommandContext, command, runCommand, WrongUse, wholeNumber } from '../command.js';
import { type ModelOptions, openModel } from '../open-model.js';
import { addModelOptions } from '../options.js';
import type { OutputOptions } from '../output.js';
import { sourceOf } from '../recipe-source.js';

interface Options extends OutputOptions, Partial<ModelOptions> {
  readonly data?: string;
  readonly field?: string;
  readonly maxLength?: number;
  readonly batch: number;
  readonly recipe?: string;
  readonly set: string[];
}

export function evaluateCommand(): Command {
  return addModelOptions(
    command(
      'evaluate',
      'Measure how well a model predicts held-out rows.',
      'lorikeet evaluate --model ./smollm2 --adapter runs/notes/adapter --data dev.jsonl --json',
    ),
    false,
  )
    .option('--data <file>', 'rows to predict: .jsonl, .json, .csv, .parquet or .txt')
    .option('--field <name>', 'field that holds the text of a row (default: text)')
    .option('--max-length <n>', "cut rows to this many tokens (default: the model's context)", wholeNumber(2))
    .option('--batch <n>', 'rows of one forward pass', wholeNumber(1), 8)
    .option('--recipe <file>', 'take model, dtype and data.eval from a recipe')
    .option('--set <key.path=value>', 'change a value of the recipe (repeatable)', (set: string, all: string[]) => [...all, set], [])
    .action((options: Options) => runCommand(options, run));
}

async function run(options: Options, context: CommandContext): Promise<void> {
  const { output, signal } = context;
  const { model: modelOptions, source } = planOf(options);
  const opened = await openModel(modelOptions, context);
  try {
    output.startProgress('rows', 0);
    let started = false;
    const { maxLength, batch } = options;
    const result = await evaluate(opened.model, source, {
      batch,
      signal,
      ...(maxLength === undefined ? {} : { maxLength }),
      onProgress: ({ rows, total }) => {
        if (!started) output.startProgress('rows', total);
        started = true;
        output.progress(rows);
      },
    });
    const { nll, perplexity, tokens, sequences, accuracy } = result;
    const told = `nll ${nll.toFixed(6)}  perplexity ${perplexity.toFixed(4)}  tokens ${tokens}  sequences ${sequences}`;
    output.result({ ...result }, accuracy === undefined ? told : `${told}  accuracy ${accuracy.toFixed(4)}`);
  } finally {
    opened.dispose();
  }
}

/** What to evaluate on what: options on the command line win over the recipe. */
function planOf(options: Options): { model: ModelOptions; source: DataSource } {
  const { data, field, recipe: path } = options;
  const recipe = path === undefined ? undefined : readRecipe(path, options.set);
  if (path === undefined && options.set.length > 0) throw new WrongUse('evaluate: --set changes a recipe; got no --recipe');
  const model = options.model ?? recipe?.model;
  if (model === undefined) throw new WrongUse('evaluate: say which model: --model PATH, or --recipe FILE');
  const dtype = options.dtype ?? recipe?.dtype;
  const compute = options.compute ?? recipe?.compute;
  const device = options.device ?? recipe?.device;
  return {
    model: {
      model,
      ...(options.adapter === undefined ? {} : { adapter: options.adapter }),
      ...(dtype === undefined ? {} : { dtype }),
      ...(compute === undefined ? {} : { compute }),
      ...(device === undefined ? {} : { device }),
    },
    source: data === undefined ? heldOut(recipe) : { path: data, ...(field === undefined ? {} : { field }) },
  };
}

function heldOut(recipe: Recipe | undefined): DataSource {
  if (recipe === undefined) throw new WrongUse('evaluate: say which rows: --data FILE, or --recipe FILE with data.eval');
  if (recipe.data.eval === undefined) throw new WrongUse('evaluate: the recipe has no data.eval; add it, or give --data FILE');
  return sourceOf(recipe.data.eval);
}
