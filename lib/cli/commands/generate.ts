import type { Command } from 'commander';
import { z } from 'zod';
import { generate } from '../../index.js';
import type { TaskId } from '../../nn/context.js';
import { type CommandContext, command, realNumber, runCommand, taskId, wholeNumber } from '../command.js';
import { type ModelOptions, openModel } from '../open-model.js';
import { addModelOptions } from '../options.js';
import { formatCount, type OutputOptions } from '../output.js';

interface Options extends OutputOptions, ModelOptions {
  readonly prompt: string;
  readonly maxNewTokens: number;
  readonly temperature: number;
  readonly topK?: number;
  readonly topP?: number;
  readonly repetitionPenalty?: number;
  readonly beams?: number;
  readonly lengthPenalty?: number;
  readonly stop?: string[];
  readonly seed: number;
  readonly chat?: boolean;
  readonly taskId?: TaskId;
}

/** What `--json` prints. */
export const generateOutput = z.strictObject({
  text: z.string().describe('the continuation, without the prompt'),
  tokens: z.int().describe('new tokens'),
  promptTokens: z.int(),
  tokensPerSecond: z.number().describe('new tokens by the time from the start of the prompt'),
});

export function generateCommand(): Command {
  return addModelOptions(
    command(
      'generate',
      'Continue a prompt.',
      'lorikeet generate --model ./smollm2 --prompt "Why is the sky blue?" --chat --temperature 0.7',
    ),
  )
    .requiredOption('--prompt <text>', 'the text to continue, or with --chat the message to answer')
    .option('--max-new-tokens <n>', 'longest continuation in tokens', wholeNumber(1), 128)
    .option('--temperature <t>', '0 takes the most likely token; larger is more varied', realNumber(0), 0)
    .option('--top-k <k>', 'choose among the k most likely tokens', wholeNumber(1))
    .option('--top-p <p>', 'choose among the most likely tokens with this total probability', realNumber(0, 1))
    .option('--repetition-penalty <r>', 'weaken tokens that are already there; 1 is off', realNumber(0))
    .option('--beams <n>', 'beam search with so many beams; the text comes as a whole', wholeNumber(1))
    .option('--length-penalty <x>', 'with --beams: more is for longer texts (default: 1)', realNumber(-10, 10))
    .option('--stop <text...>', 'texts that end the continuation')
    .option('--seed <n>', 'seed of the draws', wholeNumber(0), 0)
    .option('--chat', "write the prompt as a user's message in the model's chat template")
    .option('--task-id <n>', 'task of the prompt, for an adapter that is routed by task: its number, or mean', taskId)
    .action((options: Options) => runCommand(options, run));
}

async function run(options: Options, context: CommandContext): Promise<void> {
  const { output, signal } = context;
  const {
    prompt,
    chat,
    maxNewTokens,
    temperature,
    topK,
    topP,
    repetitionPenalty,
    beams = 1,
    lengthPenalty,
    stop,
    seed,
    taskId: task,
  } = options;
  const opened = await openModel(options, context);
  try {
    const start = performance.now();
    const generation = generate(opened.model, chat ? [{ role: 'user', content: prompt }] : prompt, {
      maxNewTokens,
      temperature,
      seed,
      signal,
      ...(topK === undefined ? {} : { topK }),
      ...(topP === undefined ? {} : { topP }),
      ...(repetitionPenalty === undefined ? {} : { repetitionPenalty }),
      beams,
      ...(lengthPenalty === undefined ? {} : { lengthPenalty }),
      ...(stop === undefined ? {} : { stop }),
      ...(task === undefined ? {} : { task }),
    });
    output.startProgress('tokens', maxNewTokens);
    // Beam search has no pieces.
    for await (const piece of beams > 1 ? [await generation.text()] : generation) {
      if (output.json) output.progress(generation.ids.length);
      else {
        output.endProgress();
        process.stdout.write(piece);
      }
    }
    const { text, ids, promptTokens } = await generation.sample();
    const seconds = (performance.now() - start) / 1000;
    const tokensPerSecond = ids.length / seconds;
    if (!output.json) process.stdout.write('\n');
    output.result({ text, tokens: ids.length, promptTokens, tokensPerSecond } satisfies z.output<typeof generateOutput>, '');
    output.message(`${ids.length} tokens after ${promptTokens}, ${formatCount(tokensPerSecond)} tokens/s`);
  } finally {
    opened.dispose();
  }
}
