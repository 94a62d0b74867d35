import type { Command } from 'commander';
import { z } from 'zod';
import { type DataSource, type DataSources, type SourceOptions, sourceList } from '../../data/source.js';
import { type EvaluateOptions, type Evaluation, evaluate, type TaskEvaluation } from '../../index.js';
import { isLanguageModel } from '../../model.js';
import type { TaskId } from '../../nn/context.js';
import { type Recipe, readRecipe } from '../../recipe.js';
import { sourcesOf } from '../../recipe-source.js';
import { type CommandContext, command, runCommand, taskId, WrongUse, wholeNumber } from '../command.js';
import { type ModelOptions, openModel, type RecipeTask } from '../open-model.js';
import { addModelOptions, addSetOption, addTaskOptions, type TaskOptions, taskOf } from '../options.js';
import type { Output, OutputOptions } from '../output.js';

interface Options extends OutputOptions, Partial<ModelOptions>, TaskOptions {
  readonly data?: string;
  readonly field?: string;
  readonly maxLength?: number;
  readonly batch: number;
  readonly recipe?: string;
  readonly taskId?: TaskId;
  readonly set: string[];
}

/** What `--json` prints for a language model. */
const languageOutput = z.strictObject({
  nll: z.number().describe('mean negative log-likelihood of every predicted token, in nats'),
  perplexity: z.number().describe('exp(nll)'),
  tokens: z.int().describe('predicted tokens'),
  sequences: z.int().describe('rows'),
  accuracy: z.number().optional().describe('with `labels`: part of the rows whose own label is the likeliest'),
});

/** What `--json` prints for an encoder with the head of a task. */
const taskOutput = z.strictObject({
  task: z.string().describe('what the model was trained for'),
  loss: z.number().describe('mean loss over all targets: in nats, of a regression the squared error'),
  metrics: z.record(z.string(), z.number()).describe('metrics of the task, such as accuracy'),
  targets: z.int().describe('targets that the loss is the mean of'),
  rows: z.int(),
});

/** What `--json` prints. */
export const evaluateOutput = z.union([languageOutput, taskOutput]);

export function evaluateCommand(): Command {
  return addSetOption(
    addTaskOptions(
      addModelOptions(
        command(
          'evaluate',
          'Measure how well a model predicts held-out rows.',
          'lorikeet evaluate --model ./smollm2 --adapter runs/notes/adapter --data dev.jsonl --json',
        ),
        false,
      ),
    ),
  )
    .option('--data <file>', 'rows to predict: .jsonl, .json, .csv, .parquet or .txt')
    .option('--field <name>', 'field that holds the text of a row (default: text)')
    .option('--max-length <n>', "cut rows to this many tokens (default: the model's context)", wholeNumber(2))
    .option('--batch <n>', 'rows of one forward pass', wholeNumber(1), 8)
    .option('--recipe <file>', 'take model, task, dtype and data.eval from a recipe')
    .option('--task-id <n>', 'task of the rows, for an adapter that is routed by task: its number, or mean', taskId)
    .action((options: Options) => runCommand(options, run));
}

async function run(options: Options, context: CommandContext): Promise<void> {
  const { output, signal } = context;
  const { model: modelOptions, source, badRows, loss } = planOf(options);
  const opened = await openModel(modelOptions, context);
  try {
    const common = { ...limitsOf(options), badRows, signal, loss, onProgress: progressOf(output) };
    const { model } = opened;
    if (isLanguageModel(model)) tell(output, await evaluate(model, source, common));
    else tellTask(output, await evaluate(model, source, common));
  } finally {
    opened.dispose();
  }
}

const limitsOf = ({ maxLength, batch }: Options) => ({ batch, ...(maxLength === undefined ? {} : { maxLength }) });

/** Shows how many rows are done; how many there are is known with the first of them. */
function progressOf(output: Output): NonNullable<EvaluateOptions['onProgress']> {
  output.startProgress('rows', 0);
  let started = false;
  return ({ rows, total }) => {
    if (!started) output.startProgress('rows', total);
    started = true;
    output.progress(rows);
  };
}

function tell(output: Output, result: Evaluation): void {
  const { nll, perplexity, tokens, sequences, accuracy } = result;
  const told = `nll ${nll.toFixed(6)}  perplexity ${perplexity.toFixed(4)}  tokens ${tokens}  sequences ${sequences}`;
  output.result(
    { ...result } satisfies z.output<typeof languageOutput>,
    accuracy === undefined ? told : `${told}  accuracy ${accuracy.toFixed(4)}`,
  );
}

function tellTask(output: Output, { task, loss, metrics, targets, rows }: TaskEvaluation): void {
  const told = Object.entries({ loss, ...metrics }).map(([name, value]) => `${name} ${value.toFixed(6)}`);
  const result = { task, loss, metrics: { ...metrics }, targets, rows } satisfies z.output<typeof taskOutput>;
  output.result(result, `${told.join('  ')}  targets ${targets}  rows ${rows}`);
}

interface Plan extends Pick<EvaluateOptions, 'loss'> {
  readonly badRows: 'error' | 'skip';
  readonly model: ModelOptions & RecipeTask;
  readonly source: DataSources;
}

/** What to evaluate on what: options on the command line win over the recipe. */
function planOf(options: Options): Plan {
  const { data, field, recipe: path } = options;
  const recipe = path === undefined ? undefined : readRecipe(path, options.set);
  if (path === undefined && options.set.length > 0) throw new WrongUse('evaluate: --set changes a recipe; got no --recipe');
  const model = options.model ?? recipe?.model;
  if (model === undefined) throw new WrongUse('evaluate: say which model: --model PATH, or --recipe FILE');
  const dtype = options.dtype ?? recipe?.dtype;
  // What the recipe computes in belongs to the dtype that it has.
  const compute = options.compute ?? (options.dtype === undefined ? recipe?.compute : undefined);
  const device = options.device ?? recipe?.device;
  const task = taskOf(options) ?? recipe?.task;
  return {
    model: {
      model,
      ...(options.adapter === undefined ? {} : { adapter: options.adapter }),
      dtype,
      compute,
      device,
      ...(task === undefined ? {} : { task, seed: recipe?.training.seed ?? 0 }),
    },
    loss: recipe?.training.loss,
    badRows: data === undefined ? (recipe?.data.badRows ?? 'error') : 'error',
    source: ofTask(
      data === undefined ? heldOut(recipe) : { ...taskFields(recipe), path: data, ...(field === undefined ? {} : { field }) },
      options.taskId,
    ),
  };
}

/** The sources, with all rows of one task where there is one. */
function ofTask(sources: DataSources, task: TaskId | undefined): DataSources {
  return task === undefined ? sources : sourceList(sources).map((source) => ({ ...source, task }));
}

/** The fields that the rows of a task have in its recipe. */
function taskFields(recipe: Recipe | undefined): SourceOptions {
  if (recipe?.task === undefined) return {};
  const [first] = sourceList(sourcesOf(recipe.data.eval ?? recipe.data.train));
  const { path: _, rows: __, weight: ___, separator: ____, streaming: _____, ...fields } = first as DataSource;
  return fields;
}

function heldOut(recipe: Recipe | undefined): DataSources {
  if (recipe === undefined) throw new WrongUse('evaluate: say which rows: --data FILE, or --recipe FILE with data.eval');
  if (recipe.data.eval === undefined) throw new WrongUse('evaluate: the recipe has no data.eval; add it, or give --data FILE');
  return sourcesOf(recipe.data.eval);
}
