import { existsSync } from 'node:fs';
import type { Command } from 'commander';
import { z } from 'zod';
import { CancelledError } from '../../errors.js';
import { freeMemory } from '../../estimate/check.js';
import { memory, type TrainingResult, type TrainingRun, train } from '../../index.js';
import { readRecipe } from '../../recipe.js';
import { sourcesOf } from '../../recipe-source.js';
import { RunFolder } from '../../train/run-folder.js';
import { type CommandContext, command, runCommand } from '../command.js';
import { completed } from '../complete-recipe.js';
import { formatMetrics } from '../metrics.js';
import { openRecipe } from '../open-recipe.js';
import { addSetOption } from '../options.js';
import { formatBytes, formatCount, formatSeconds, type Output, type OutputOptions } from '../output.js';
import { checkRecipe } from '../preflight.js';
import { runMessages } from '../run-messages.js';
import { shellLine } from '../shell-line.js';

interface Options extends OutputOptions {
  readonly recipe: string;
  readonly set: string[];
  readonly out?: string;
  readonly resume?: boolean;
}

/** What `--json` prints. */
export const trainOutput = z.strictObject({
  steps: z.int().describe('optimizer steps done, those before a resume included'),
  loss: z.number().describe('loss of the last step, in nats (of a regression the squared error)'),
  evalLoss: z.number().nullable().describe('last held-out loss; null without `data.eval`'),
  evalMetrics: z.record(z.string(), z.number()).optional().describe('last metrics of the task, where it has some'),
  tokens: z.int().describe('tokens trained on, padding not counted'),
  tokensPerSecond: z.number(),
  peakBytes: z.int().describe('most bytes of native memory in use at once'),
  trainableParameters: z.int(),
  adapter: z.string().nullable().describe('folder of the trained adapter; null without a run folder'),
  seconds: z.number().describe('wall time of all steps, evaluations not counted'),
  stoppedEarly: z.string().optional().describe('why the run ended before its last step'),
  skippedSteps: z.int().optional().describe('steps whose update was left out by `training.policy`'),
});

export function trainCommand(): Command {
  return addSetOption(
    command(
      'train',
      'Train an adapter as a recipe says; Ctrl-C finishes the current step, saves, and says how to resume.',
      'lorikeet train recipe.yaml --set training.steps=50 --out runs/notes',
    ).argument('<recipe>', 'YAML recipe: model, adapter, data, training, out'),
  )
    .option('--out <folder>', 'run folder, in place of the recipe\'s "out"')
    .option('--resume', 'go on with the run in the folder')
    .action((recipe: string, options: Omit<Options, 'recipe'>) => runCommand<Options>({ ...options, recipe }, run));
}

async function run(options: Options, context: CommandContext): Promise<void> {
  const { output, signal } = context;
  const { resume = false } = options;
  const recipe = completed(readRecipe(options.recipe, options.set));
  const out = options.out ?? recipe.out;
  if (out === undefined) output.message('no run folder (out): nothing will be written');
  else RunFolder.check(out, resume);
  const { warmup, steps } = recipe.training;
  if (warmup >= steps && warmup > 0) output.message(`warmup ${warmup} takes all ${steps} steps: the learning rate only rises`);
  const resumed = resume ? out : undefined;
  await checkRecipe(recipe, signal, resumed);
  const { tuned, dispose } = await openRecipe(recipe, context, resumed);
  try {
    const training = train(tuned, {
      data: {
        train: sourcesOf(recipe.data.train),
        ...(recipe.data.eval === undefined ? {} : { eval: sourcesOf(recipe.data.eval) }),
        badRows: recipe.data.badRows,
      },
      training: recipe.training,
      evaluation: recipe.evaluation,
      report: recipe.report,
      out,
      resume,
      signal,
      recipe,
      onData: ({ rows, bytes = 0, totalBytes = 0 }) =>
        output.progress(rows, totalBytes > 0 ? [`${Math.floor((100 * bytes) / totalBytes)}% of the file`] : []),
      onNotice: (message) => output.message(message),
      callbacks: runMessages(output),
    });
    await follow(training, recipe.training.steps, output);
    const result = await training;
    const { best: _, ...fields } = result;
    const value = { ...fields, evalLoss: result.evalLoss ?? null, adapter: result.adapter ?? null } satisfies z.output<typeof trainOutput>;
    output.result(value, describe(result));
  } catch (error) {
    if (error instanceof CancelledError && out !== undefined && existsSync(out))
      throw new CancelledError(`${error.message}\n  ${resumeLine(options)}`, { cause: error });
    throw error;
  } finally {
    dispose();
  }
}

/** Steps of this run after which its pace is known. */
const kPaceSteps = 2;

/** Shows the steps of a run as they come. */
async function follow(training: TrainingRun, total: number, output: Output): Promise<void> {
  output.startProgress('reading rows', 0);
  let done = 0;
  for await (const { step, loss, evalLoss, evalMetrics, tokensPerSecond, seconds } of training) {
    if (done++ === 0) output.startProgress('step', total);
    const { bytes, peakBytes } = memory();
    if (done === Math.min(kPaceSteps, total)) {
      const whole = formatBytes(freeMemory() + bytes);
      output.message(
        `about ${formatSeconds(seconds)} a step, ${formatSeconds(seconds * total)} in all, peak ${formatBytes(peakBytes)} of ${whole} free`,
      );
    }
    if (evalLoss !== undefined) output.message(`step ${step}: held-out loss ${evalLoss.toFixed(4)}${formatMetrics(evalMetrics)}`);
    output.progress(step, [
      `loss ${loss.toFixed(4)}`,
      `${formatCount(tokensPerSecond)} tokens/s`,
      `${formatBytes(peakBytes)} peak`,
      `${formatBytes(process.memoryUsage.rss())} process`,
    ]);
  }
}

function describe(result: TrainingResult): string {
  const { steps, seconds, loss, evalLoss, evalMetrics, tokensPerSecond, trainableParameters, peakBytes, adapter, stoppedEarly } = result;
  const why = stoppedEarly === undefined ? '' : `stopped early: ${stoppedEarly}\n`;
  const held = evalLoss === undefined ? '' : `, held-out loss ${evalLoss.toFixed(4)}${formatMetrics(evalMetrics)}`;
  const place = adapter === undefined ? '' : `\nadapter in ${adapter}`;
  return (
    `${why}${steps} steps in ${formatSeconds(seconds)}: loss ${loss.toFixed(4)}${held}, ${formatCount(tokensPerSecond)} tokens/s, ` +
    `${formatCount(trainableParameters)} trainable parameters, peak ${formatBytes(peakBytes)}${place}`
  );
}

/** The command that goes on with this run. */
function resumeLine({ recipe, set, out }: Options): string {
  const sets = set.flatMap((each) => ['--set', each]);
  return shellLine(['lorikeet', 'train', recipe, ...sets, ...(out === undefined ? [] : ['--out', out]), '--resume']);
}
