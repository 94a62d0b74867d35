import type { Command } from 'commander';
import { z } from 'zod';
import type { DataSources } from '../../data/index.js';
import { evaluate } from '../../index.js';
import { type Recipe, readRecipe } from '../../recipe.js';
import { sourcesOf } from '../../recipe-source.js';
import { type CommandContext, command, runCommand, WrongUse, wholeNumber } from '../command.js';
import { type ModelOptions, openModel } from '../open-model.js';
import { addModelOptions, addSetOption } from '../options.js';
import type { OutputOptions } from '../output.js';

interface Options extends OutputOptions, Partial<ModelOptions> {
  readonly data?: string;
  readonly field?: string;
  readonly maxLength?: number;
  readonly batch: number;
  readonly recipe?: string;
  readonly set: string[];
}

/** What `--json` prints. */
export const evaluateOutput = z.strictObject({
  nll: z.number().describe('mean negative log-likelihood of every predicted token, in nats'),
  perplexity: z.number().describe('exp(nll)'),
  tokens: z.int().describe('predicted tokens'),
  sequences: z.int().describe('rows'),
  accuracy: z.number().optional().describe('with `labels`: part of the rows whose own label is the likeliest'),
});

export function evaluateCommand(): Command {
  return addSetOption(
    addModelOptions(
      command(
        'evaluate',
        'Measure how well a model predicts held-out rows.',
        'lorikeet evaluate --model ./smollm2 --adapter runs/notes/adapter --data dev.jsonl --json',
      ),
      false,
    ),
  )
    .option('--data <file>', 'rows to predict: .jsonl, .json, .csv, .parquet or .txt')
    .option('--field <name>', 'field that holds the text of a row (default: text)')
    .option('--max-length <n>', "cut rows to this many tokens (default: the model's context)", wholeNumber(2))
    .option('--batch <n>', 'rows of one forward pass', wholeNumber(1), 8)
    .option('--recipe <file>', 'take model, dtype and data.eval from a recipe')
    .action((options: Options) => runCommand(options, run));
}

async function run(options: Options, context: CommandContext): Promise<void> {
  const { output, signal } = context;
  const { model: modelOptions, source, badRows } = planOf(options);
  const opened = await openModel(modelOptions, context);
  try {
    output.startProgress('rows', 0);
    let started = false;
    const { maxLength, batch } = options;
    const result = await evaluate(opened.model, source, {
      batch,
      badRows,
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
    output.result(
      { ...result } satisfies z.output<typeof evaluateOutput>,
      accuracy === undefined ? told : `${told}  accuracy ${accuracy.toFixed(4)}`,
    );
  } finally {
    opened.dispose();
  }
}

/** What to evaluate on what: options on the command line win over the recipe. */
function planOf(options: Options): { model: ModelOptions; source: DataSources; badRows: 'error' | 'skip' } {
  const { data, field, recipe: path } = options;
  const recipe = path === undefined ? undefined : readRecipe(path, options.set);
  if (path === undefined && options.set.length > 0) throw new WrongUse('evaluate: --set changes a recipe; got no --recipe');
  const model = options.model ?? recipe?.model;
  if (model === undefined) throw new WrongUse('evaluate: say which model: --model PATH, or --recipe FILE');
  const dtype = options.dtype ?? recipe?.dtype;
  // What the recipe computes in belongs to the dtype that it has.
  const compute = options.compute ?? (options.dtype === undefined ? recipe?.compute : undefined);
  const device = options.device ?? recipe?.device;
  return {
    model: {
      model,
      ...(options.adapter === undefined ? {} : { adapter: options.adapter }),
      dtype,
      compute,
      device,
    },
    badRows: data === undefined ? (recipe?.data.badRows ?? 'error') : 'error',
    source: data === undefined ? heldOut(recipe) : { path: data, ...(field === undefined ? {} : { field }) },
  };
}

function heldOut(recipe: Recipe | undefined): DataSources {
  if (recipe === undefined) throw new WrongUse('evaluate: say which rows: --data FILE, or --recipe FILE with data.eval');
  if (recipe.data.eval === undefined) throw new WrongUse('evaluate: the recipe has no data.eval; add it, or give --data FILE');
  return sourcesOf(recipe.data.eval);
}
