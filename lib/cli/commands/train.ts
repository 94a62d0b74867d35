import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import { resolveConfig } from '../../adapters/resolve-config.js';
import { ConfigError } from '../../errors.js';
import { type AdapterConfig, attach, loadAdapter, loadModel, train } from '../../index.js';
import { type Recipe, readRecipe } from '../../recipe.js';
import { RunFolder } from '../../train/run-folder.js';
import { type CommandContext, command, runCommand } from '../command.js';
import { formatBytes, formatCount, formatSeconds, type OutputOptions } from '../output.js';
import { sourceOf } from '../recipe-source.js';

interface Options extends OutputOptions {
  readonly recipe: string;
  readonly set: string[];
  readonly out?: string;
  readonly resume?: boolean;
}

export function trainCommand(): Command {
  return command(
    'train',
    'Train an adapter as a recipe says; Ctrl-C finishes the current step, saves, and says how to resume.',
    'lorikeet train recipe.yaml --set training.steps=50 --out runs/notes',
  )
    .argument('<recipe>', 'YAML recipe: model, adapter, data, training, out')
    .option('--set <key.path=value>', 'change a value of the recipe (repeatable)', (set: string, all: string[]) => [...all, set], [])
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
  output.message(`loading ${recipe.model}`);
  const model = await loadModel(recipe.model, {
    signal,
    ...(recipe.dtype === undefined ? {} : { dtype: recipe.dtype }),
    ...(recipe.compute === undefined ? {} : { compute: recipe.compute }),
    ...(recipe.device === undefined ? {} : { device: recipe.device }),
  });
  try {
    const { adapter } = recipe;
    const tuned =
      typeof adapter === 'string'
        ? await loadAdapter(model, adapter, { signal })
        : await attach(model, adapter as unknown as AdapterConfig, { signal, seed: recipe.training.seed });
    const training = train(tuned, {
      data: { train: sourceOf(recipe.data.train), ...(recipe.data.eval === undefined ? {} : { eval: sourceOf(recipe.data.eval) }) },
      training: recipe.training,
      report: recipe.report,
      out,
      resume,
      signal,
      recipe,
      onData: ({ rows }) => output.progress(rows),
    });
    output.startProgress('reading rows', 0);
    let started = false;
    for await (const { step, loss, evalLoss, tokensPerSecond } of training) {
      if (!started) output.startProgress('step', recipe.training.steps);
      started = true;
      if (evalLoss !== undefined) output.message(`step ${step}: held-out loss ${evalLoss.toFixed(4)}`);
      output.progress(step, `loss ${loss.toFixed(4)}  ${formatCount(tokensPerSecond)} tokens/s`);
    }
    const result = await training;
    const { best: _, ...fields } = result;
    const held = result.evalLoss === undefined ? '' : `, held-out loss ${result.evalLoss.toFixed(4)}`;
    const place = result.adapter === undefined ? '' : `\nadapter in ${result.adapter}`;
    output.result(
      { ...fields, evalLoss: result.evalLoss ?? null, adapter: result.adapter ?? null },
      `${result.steps} steps in ${formatSeconds(result.seconds)}: loss ${result.loss.toFixed(4)}${held}, ${formatCount(result.tokensPerSecond)} tokens/s, ` +
        `${formatCount(result.trainableParameters)} trainable parameters, peak ${formatBytes(result.peakBytes)}${place}`,
    );
  } finally {
    model.dispose();
  }
}

/** The recipe with the adapter's own defaults filled in, or with its folder checked. */
function completed(recipe: Recipe): Recipe {
  const { adapter } = recipe;
  if (typeof adapter !== 'string') return { ...recipe, adapter: { type: adapter.type, ...resolveConfig(adapter).config } };
  if (!existsSync(join(adapter, 'adapter_config.json')))
    throw new ConfigError(
      `recipe: adapter: no adapter_config.json in "${adapter}"; expected the folder of an adapter, or a map with "type"`,
    );
  return recipe;
}
