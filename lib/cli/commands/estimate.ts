import type { Command } from 'commander';
import { type Estimate, estimate } from '../../estimate/index.js';
import { readRecipe } from '../../recipe.js';
import { type CommandContext, command, runCommand } from '../command.js';
import { addSetOption } from '../options.js';
import { formatBytes, formatCount, formatSeconds, type OutputOptions } from '../output.js';

interface Options extends OutputOptions {
  readonly recipe: string;
  readonly set: string[];
}

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
  output.result({ ...found }, describe(found, recipe.training.steps));
}

function describe(found: Estimate, steps: number): string {
  const { peakBytes, totalBytes, processBytes, availableBytes, secondsPerStep, totalSeconds, trainableParameters, tokensPerStep } = found;
  const parts = Object.entries(peakBytes).map(([name, bytes]) => `  ${name.padEnd(12)} ${formatBytes(bytes).padStart(9)}`);
  return [
    `peak memory    ${formatBytes(totalBytes)} (the whole process ${formatBytes(processBytes)}) of ${formatBytes(availableBytes)} available`,
    ...parts,
    `time           about ${formatSeconds(secondsPerStep)} a step, ${formatSeconds(totalSeconds)} for ${steps} steps`,
    `a step trains  ${formatCount(tokensPerStep)} tokens`,
    `trainable      ${formatCount(trainableParameters)} parameters`,
  ].join('\n');
}
