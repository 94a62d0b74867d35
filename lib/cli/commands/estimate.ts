import type { Command } from 'commander';
import { z } from 'zod';
import { type Estimate, estimate } from '../../estimate/index.js';
import { readRecipe } from '../../recipe.js';
import { type CommandContext, command, runCommand } from '../command.js';
import { addSetOption } from '../options.js';
import { formatBytes, formatCount, formatSeconds, type OutputOptions } from '../output.js';

interface Options extends OutputOptions {
  readonly recipe: string;
  readonly set: string[];
}

const bytes = z.int().nonnegative();

/** What `--json` prints. */
export const estimateOutput = z.strictObject({
  peakBytes: z
    .strictObject({
      weights: bytes.describe('frozen weights in the layouts of their kernels'),
      adapter: bytes,
      gradients: bytes,
      optimizer: bytes.describe('state of the optimizer'),
      activations: bytes.describe('what the blocks keep for backward'),
      workspace: bytes.describe('what comes and goes: head and loss, a block while it runs'),
    })
    .describe('native memory at its peak, by part'),
  totalBytes: bytes.describe('sum of `peakBytes`; `peakBytes` of the finished run'),
  mappedBytes: bytes.describe('weights that stay in the mapped file, not counted in the others'),
  processBytes: bytes.describe('`totalBytes` with the runtime'),
  availableBytes: bytes.describe('what this process can still take'),
  secondsPerStep: z.number().nonnegative(),
  totalSeconds: z.number().nonnegative().describe('of all steps, evaluations not counted'),
  trainableParameters: bytes,
  tokensPerStep: bytes.describe('tokens of one optimizer step, padding not counted'),
});

export function estimateCommand(): Command {
  return addSetOption(
    command(
      'estimate',
      'Say what memory and time a recipe takes, before its model is loaded.',
      'lorikeet estimate recipe.yaml --set training.batch=16',
    ).argument('<recipe>', 'YAML recipe, as for train'),
  ).action((recipe: string, options: Omit<Options, 'recipe'>) => runCommand<Options>({ ...options, recipe }, run));
}

async function run({ recipe: path, set }: Options, { output, signal }: CommandContext): Promise<void> {
  const recipe = readRecipe(path, set);
  output.message(`measuring a few blocks of ${recipe.model}`);
  let started = false;
  const found = await estimate(recipe, {
    signal,
    onProgress: ({ done, total }) => {
      if (!started) output.startProgress('trial', total);
      started = true;
      output.progress(done);
    },
  });
  output.result({ ...found } satisfies z.output<typeof estimateOutput>, describe(found, recipe.training.steps));
}

function describe(found: Estimate, steps: number): string {
  const {
    peakBytes,
    totalBytes,
    mappedBytes,
    processBytes,
    availableBytes,
    secondsPerStep,
    totalSeconds,
    trainableParameters,
    tokensPerStep,
  } = found;
  const parts = Object.entries(peakBytes).map(([name, bytes]) => `  ${name.padEnd(12)} ${formatBytes(bytes).padStart(9)}`);
  return [
    `peak memory    ${formatBytes(totalBytes)} (the whole process ${formatBytes(processBytes)}) of ${formatBytes(availableBytes)} available`,
    ...parts,
    ...(mappedBytes > 0 ? [`beside that    ${formatBytes(mappedBytes)} of the mapped file, which the system may drop and read again`] : []),
    `time           about ${formatSeconds(secondsPerStep)} a step, ${formatSeconds(totalSeconds)} for ${steps} steps`,
    `a step trains  ${formatCount(tokensPerStep)} tokens`,
    `trainable      ${formatCount(trainableParameters)} parameters`,
  ].join('\n');
}
