#!/usr/bin/env node
import { CommanderError } from 'commander';
import { errorLine, usageExit } from './exit-codes.js';
import { createProgram } from './program.js';

try {
  await createProgram().parseAsync();
} catch (error) {
  // Commander has printed its own message; anything else is a defect and shows its stack.
  if (!(error instanceof CommanderError)) throw error;
  process.exitCode = usageExit(error);
  // The options were not understood, so the wish for JSON is taken from the words.
  if (process.exitCode !== 0 && process.argv.includes('--json'))
    process.stdout.write(errorLine({ code: 'usage', message: error.message.replace(/^error: /, '') }));
}
