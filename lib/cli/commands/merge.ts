import { existsSync, readdirSync } from 'node:fs';
import { type Command, Option } from 'commander';
import { z } from 'zod';
import type { EncoderModel, Model, ModelDType, TunedEncoder, TunedModel } from '../../index.js';
import { type CombinationType, combinationTypes, saveModel } from '../../index.js';
import type { Compute } from '../../models/weight-storage.js';
import type { TaskId } from '../../nn/context.js';
import { readRecipe } from '../../recipe.js';
import { type CommandContext, command, realNumber, runCommand, taskId, WrongUse, wholeNumber } from '../command.js';
import { loadOnto, type ModelOptions, openBase, type RecipeTask } from '../open-model.js';
import { addTaskOptions, computeOption, dtypeOption, type TaskOptions, taskOf } from '../options.js';
import type { OutputOptions } from '../output.js';

interface Options extends OutputOptions, TaskOptions {
  readonly model?: string;
  readonly recipe?: string;
  readonly adapter: readonly string[];
  readonly weight: readonly number[];
  readonly combine?: CombinationType;
  readonly density?: number;
  readonly majoritySign?: 'total' | 'frequency';
  readonly rank?: number;
  readonly seed?: number;
  readonly out: string;
  readonly dtype?: ModelDType;
  readonly compute?: Compute;
  readonly taskId?: TaskId;
}

/** What `--json` prints. */
export const mergeOutput = z.strictObject({
  out: z.string().describe('folder of the merged model'),
  maxError: z.number().describe("largest relative error of a layer's output"),
  tensors: z.int().describe('tensors written'),
});

export function mergeCommand(): Command {
  return addTaskOptions(
    command(
      'merge',
      'Fold an adapter into its model and save the result as a Hugging Face folder.',
      'lorikeet merge --model ./smollm2 --adapter runs/notes/adapter --out merged',
    ),
  )
    .option('--model <path>', 'folder of a published model, .gguf file or hub id; without it that of --recipe')
    .option('--recipe <file>', 'take model, task and dtype from a recipe')
    .requiredOption('--adapter <folder>', 'PEFT folder; repeat it to combine several', append)
    .addOption(new Option('--weight <number>', 'how much of the adapter before it, also negative').argParser(appendNumber).default([], '1'))
    .addOption(new Option('--combine <type>', 'how several adapters become one (default: cat, the exact sum)').choices(combinationTypes))
    .option('--density <share>', 'share of values that ties, dare and magnitude_prune keep', realNumber(0, 1))
    .addOption(
      new Option('--majority-sign <method>', 'how ties elects a sign: by sum or by count (default: total)').choices(['total', 'frequency']),
    )
    .option('--rank <number>', 'rank of an svd or linear_exact combination', wholeNumber(1))
    .option('--seed <number>', 'seed of the random choice of dare', wholeNumber(0))
    .option('--task-id <n>', 'task whose change is folded in, of an adapter that is routed by task: its number, or mean', taskId)
    .requiredOption('--out <folder>', 'folder to write; must be new or empty')
    .addOption(dtypeOption())
    .addOption(computeOption())
    .action((options: Options) => runCommand(options, run));
}

const append = (text: string, before: readonly string[] = []): readonly string[] => [...before, text];
const appendNumber = (text: string, before: readonly number[]): readonly number[] => [
  ...before,
  realNumber(Number.NEGATIVE_INFINITY)(text),
];

/** Loads the adapters; with weights or with several of them, their combination is the active one. */
async function openAdapters(
  model: Model | EncoderModel,
  options: Options,
  { output, signal }: CommandContext,
): Promise<TunedModel | TunedEncoder> {
  const { adapter: folders, weight: weights, combine, density, majoritySign, rank, seed } = options;
  const [first = ''] = folders;
  if (folders.length === 1 && weights.length === 0 && combine === undefined) return loadOnto(model, first, { signal });
  let tuned = await loadOnto(model, first, { name: 'adapter1', signal });
  for (const [i, folder] of folders.slice(1).entries()) tuned = await loadOnto(model, folder, { name: `adapter${i + 2}`, signal });
  output.message(`combining ${folders.length} adapters`);
  const parts = folders.map((_, i) => ({ adapter: `adapter${i + 1}`, weight: weights[i] ?? 1 }));
  await tuned.combine('combined', parts, {
    signal,
    ...(combine && { type: combine }),
    ...(density !== undefined && { density }),
    ...(majoritySign && { majoritySign }),
    ...(rank !== undefined && { rank }),
    ...(seed !== undefined && { seed }),
  });
  return tuned;
}

/** What to load: options on the command line win over the recipe. */
function baseOf(options: Options): Omit<ModelOptions, 'adapter'> & RecipeTask {
  const recipe = options.recipe === undefined ? undefined : readRecipe(options.recipe);
  const model = options.model ?? recipe?.model;
  if (model === undefined) throw new WrongUse('merge: say which model: --model PATH, or --recipe FILE');
  const { dtype = recipe?.dtype } = options;
  // What the recipe computes in belongs to the dtype that it has.
  const compute = options.compute ?? (options.dtype === undefined ? recipe?.compute : undefined);
  const task = taskOf(options) ?? recipe?.task;
  return { model, dtype, compute, ...(task === undefined ? {} : { task, seed: recipe?.training.seed ?? 0 }) };
}

async function run(options: Options, context: CommandContext): Promise<void> {
  const { out, adapter, weight, taskId: task } = options;
  const { output, signal } = context;
  if (weight.length > 0 && weight.length !== adapter.length)
    throw new WrongUse(`merge: each --adapter needs its --weight; got ${adapter.length} adapters and ${weight.length} weights`);
  if (existsSync(out) && readdirSync(out).length > 0) throw new WrongUse(`merge: folder "${out}" exists; choose another, or remove it`);
  const model = await openBase(baseOf(options), context);
  try {
    const tuned = await openAdapters(model, options, context);
    output.startProgress('merging layers', 0);
    const { maxError } = await tuned.merge({
      keepBase: false,
      dequantize: true,
      signal,
      ...(task === undefined ? {} : { task }),
      onProgress: ({ done }) => output.progress(done),
    });
    output.message(`writing ${out}`);
    const tensors = await saveModel(model, out);
    output.result(
      { out, maxError, tensors } satisfies z.output<typeof mergeOutput>,
      `merged into ${out} (${tensors} tensors); largest relative error of a layer's output ${maxError.toExponential(2)}`,
    );
  } finally {
    model.dispose();
  }
}
