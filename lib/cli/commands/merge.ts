import { existsSync, readdirSync } from 'node:fs';
import type { Command } from 'commander';
import { loadAdapter, loadModel, saveModel } from '../../index.js';
import { type CommandContext, command, runCommand, WrongUse } from '../command.js';
import { dtypeOption } from '../options.js';
import type { OutputOptions } from '../output.js';

interface Options extends OutputOptions {
  readonly model: string;
  readonly adapter: string;
  readonly out: string;
  readonly dtype?: 'f32' | 'bf16' | 'f16' | 'f64';
}

export function mergeCommand(): Command {
  return command(
    'merge',
    'Fold an adapter into its model and save the result as a Hugging Face folder.',
    'lorikeet merge --model ./smollm2 --adapter runs/notes/adapter --out merged',
  )
    .requiredOption('--model <path>', 'folder of a published model, .gguf file or hub id')
    .requiredOption('--adapter <folder>', 'PEFT folder')
    .requiredOption('--out <folder>', 'folder to write; must be new or empty')
    .addOption(dtypeOption())
    .action((options: Options) => runCommand(options, run));
}

async function run(options: Options, { output, signal }: CommandContext): Promise<void> {
  const { out, dtype } = options;
  if (existsSync(out) && readdirSync(out).length > 0) throw new WrongUse(`merge: folder "${out}" exists; choose another, or remove it`);
  output.message(`loading ${options.model}`);
  const model = await loadModel(options.model, { signal, ...(dtype === undefined ? {} : { dtype }) });
  try {
    const tuned = await loadAdapter(model, options.adapter, { signal });
    output.startProgress('merging layers', 0);
    const { maxError } = await tuned.merge({ keepBase: false, signal, onProgress: ({ done }) => output.progress(done) });
    output.message(`writing ${out}`);
    const tensors = await saveModel(model, out);
    output.result(
      { out, maxError, tensors },
      `merged into ${out} (${tensors} tensors); largest relative error of a layer's output ${maxError.toExponential(2)}`,
    );
  } finally {
    model.dispose();
  }
}
