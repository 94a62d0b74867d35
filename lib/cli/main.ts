#!/usr/bin/env node
import { usageExit } from './exit-codes.js';
import { createProgram } from './program.js';

try {
  await createProgram().parseAsync();
} catch (error) {
  // Commander has printed its own message; anything else is a defect and shows its stack.
  if (!(error instanceof Error) || !('exitCode' in error)) throw error;
  process.exitCode = usageExit(error);
}
