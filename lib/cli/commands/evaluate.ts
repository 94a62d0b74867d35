import { type Command, Option } from 'commander';
import { z } from 'zod';
import { type AnswerKind, kAnswerKinds } from '../../data/answers.js';
import { type DataSource, type DataSources, type SourceOptions, sourceList } from '../../data/source.js';
import { type EvaluateOptions, type Evaluation, type EvaluationOptions, evaluate, type TaskEvaluation } from '../../index.js';
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
  readonly answers?: AnswerKind;
  readonly maxNewTokens?: number;
  readonly beams?: number;
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
  answerAccuracy: z
    .number()
    .optional()
    .describe('with `--answers` or `evaluation.answers`: part of the rows whose generated answer is right'),
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
    .addOption(
      new Option('--answers <kind>', 'also generate answers to the prompts of the rows, and score them by this rule').choices(kAnswerKinds),
    )
    .option(
      '--max-new-tokens <n>',
      'with --answers: tokens of an answer (default: 256 for numbers and letters, 32 for words)',
      wholeNumber(1),
    )
    .option('--beams <n>', 'with --answers: beam search with so many beams (default: the likeliest token each time)', wholeNumber(1))
    .option('--recipe <file>', 'take model, task, dtype, data.eval and evaluation from a recipe')
    .option('--task-id <n>', 'task of the rows, for an adapter that is routed by task: its number, or mean', taskId)
    .action((options: Options) => runCommand(options, run));
}

async function run(options: Options, context: CommandContext): Promise<void> {
  const { output, signal } = context;
  const { model: modelOptions, source, badRows, loss, answers } = planOf(options);
  const opened = await openModel(modelOptions, context);
  try {
    const common = { ...limitsOf(options), badRows, signal, loss, onProgress: progressOf(output) };
    const { model } = opened;
    if (isLanguageModel(model)) tell(output, await evaluate(model, source, { ...common, answers, onAnswers: answersProgressOf(output) }));
    else tellTask(output, await evaluate(model, source, { ...common, answers }));
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

/** The same for answers, with how many of them are right. */
function answersProgressOf(output: Output): NonNullable<EvaluateOptions['onAnswers']> {
  let started = false;
  return ({ rows, right, total }) => {
    if (!started) output.startProgress('answers', total);
    started = true;
    output.progress(rows, [`${right} right`]);
  };
}

function tell(output: Output, result: Evaluation): void {
  const { nll, perplexity, tokens, sequences, accuracy, answerAccuracy } = result;
  const told = `nll ${nll.toFixed(6)}  perplexity ${perplexity.toFixed(4)}  tokens ${tokens}  sequences ${sequences}`;
  const labels = accuracy === undefined ? '' : `  accuracy ${accuracy.toFixed(4)}`;
  const answers = answerAccuracy === undefined ? '' : `  answer accuracy ${answerAccuracy.toFixed(4)}`;
  output.result({ ...result } satisfies z.output<typeof languageOutput>, told + labels + answers);
}

function tellTask(output: Output, { task, loss, metrics, targets, rows }: TaskEvaluation): void {
  const told = Object.entries({ loss, ...metrics }).map(([name, value]) => `${name} ${value.toFixed(6)}`);
  const result = { task, loss, metrics: { ...metrics }, targets, rows } satisfies z.output<typeof taskOutput>;
  output.result(result, `${told.join('  ')}  targets ${targets}  rows ${rows}`);
}

interface Plan extends Pick<EvaluateOptions, 'loss' | 'answers'> {
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
  const answers = answersOf(options, recipe);
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
    answers,
    badRows: data === undefined ? (recipe?.data.badRows ?? 'error') : 'error',
    source: ofTask(
      data === undefined ? heldOut(recipe) : { ...fieldsOf(recipe, answers), path: data, ...(field === undefined ? {} : { field }) },
      options.taskId,
    ),
  };
}

/** The sources, with all rows of one task where there is one. */
function ofTask(sources: DataSources, task: TaskId | undefined): DataSources {
  return task === undefined ? sources : sourceList(sources).map((source) => ({ ...source, task }));
}

/** How answers are asked and scored; the options win over the recipe. */
function answersOf({ answers, maxNewTokens, beams }: Options, recipe: Recipe | undefined): EvaluationOptions['answers'] {
  const own = recipe?.evaluation?.answers;
  const kind = answers ?? own?.kind;
  const given = { ...(maxNewTokens === undefined ? {} : { maxNewTokens }), ...(beams === undefined ? {} : { beams }) };
  if (kind !== undefined) return { ...own, kind, ...given };
  if (Object.keys(given).length > 0) throw new WrongUse('evaluate: --max-new-tokens and --beams go with --answers; got them alone');
  return undefined;
}

/** The fields that the rows of a task, or those that ask something, have in their recipe. */
function fieldsOf(recipe: Recipe | undefined, answers: EvaluationOptions['answers']): SourceOptions {
  if (recipe === undefined || (recipe.task === undefined && answers === undefined)) return {};
  const [first] = sourceList(sourcesOf(recipe.data.eval ?? recipe.data.train));
  const { path: _, rows: __, weight: ___, separator: ____, streaming: _____, ...fields } = first as DataSource;
  return fields;
}

function heldOut(recipe: Recipe | undefined): DataSources {
  if (recipe === undefined) throw new WrongUse('evaluate: say which rows: --data FILE, or --recipe FILE with data.eval');
  if (recipe.data.eval === undefined) throw new WrongUse('evaluate: the recipe has no data.eval; add it, or give --data FILE');
  return sourcesOf(recipe.data.eval);
}
