#!/usr/bin/env node
import { readFileSync } from 'node:fs';
import { Command } from 'commander';
import { compareCommand } from './commands/compare.js';
import { convertCommand } from './commands/convert.js';
import { doctorCommand } from './commands/doctor.js';
import { estimateCommand } from './commands/estimate.js';
import { evaluateCommand } from './commands/evaluate.js';
import { generateCommand } from './commands/generate.js';
import { inspectCommand } from './commands/inspect.js';
import { mergeCommand } from './commands/merge.js';
import { trainCommand } from './commands/train.js';
import { usageExit } from './exit-codes.js';

const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string };

const program = new Command('lorikeet')
  .description('Fine-tune, evaluate, run and merge adapters of language models, on this machine, without Python.')
  .version(version)
  .showSuggestionAfterError()
  .exitOverride()
  .addHelpText('after', '\nExample:\n  $ lorikeet train recipe.yaml --set training.steps=50\n\nEach command has its own --help.');
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
];
for (const make of commands) program.addCommand(make());

try {
  await program.parseAsync();
} catch (error) {
  // Commander has printed its own message; anything else is a defect and shows its stack.
  if (!(error instanceof Error) || !('exitCode' in error)) throw error;
  process.exitCode = usageExit(error);
}
