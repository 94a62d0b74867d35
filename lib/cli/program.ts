import { readFileSync } from 'node:fs';
import { Command } from 'commander';
import { compareCommand } from './commands/compare.js';
import { completionCommand } from './commands/completion.js';
import { convertCommand } from './commands/convert.js';
import { doctorCommand } from './commands/doctor.js';
import { estimateCommand } from './commands/estimate.js';
import { evaluateCommand } from './commands/evaluate.js';
import { generateCommand } from './commands/generate.js';
import { inspectCommand } from './commands/inspect.js';
import { mergeCommand } from './commands/merge.js';
import { trainCommand } from './commands/train.js';

const commands = [
  trainCommand,
  evaluateCommand,
  generateCommand,
  mergeCommand,
  convertCommand,
  inspectCommand,
  compareCommand,
  estimateCommand,
  doctorCommand,
  completionCommand,
];

/** The whole command line; `parseAsync` runs it. */
export function createProgram(): Command {
  const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string };
  const program = new Command('lorikeet')
    .description('Fine-tune, evaluate, run and merge adapters of language models, on this machine, without Python.')
    .version(version)
    .showSuggestionAfterError()
    .exitOverride()
    .addHelpText('after', '\nExample:\n  $ lorikeet train recipe.yaml --set training.steps=50\n\nEach command has its own --help.');
  for (const make of commands) program.addCommand(make());
  return program;
}
