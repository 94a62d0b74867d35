import { Command, InvalidArgumentError as UsageError } from 'commander';
import type { TaskId } from '../nn/context.js';
import { describeError, errorLine, exitCodeOf, kExit } from './exit-codes.js';
import { watchInterruption } from './interruption.js';
import { Output, type OutputOptions } from './output.js';

export { WrongUse } from './exit-codes.js';

/** What a command gets beside its own options. */
export interface CommandContext {
  readonly output: Output;
  /** Fires on the first Ctrl-C, SIGTERM or SIGHUP, and when nobody reads the output any more. */
  readonly signal: AbortSignal;
}

/** A new command with the options that all commands share and an example under its help. */
export function command(name: string, description: string, example: string): Command {
  return new Command(name)
    .description(description)
    .option('--json', 'print exactly one JSON object as the last line of standard output')
    .option('--quiet', 'no progress and no messages on standard error')
    .addHelpText('after', `\nExample:\n  $ ${example}`)
    .exitOverride();
}

/** Runs the body of a command: sets the exit code, prints errors, turns Ctrl-C into a signal. */
export async function runCommand<O extends OutputOptions>(
  options: O,
  body: (options: O, context: CommandContext) => Promise<void>,
): Promise<void> {
  const output = new Output(options);
  const signal = watchInterruption(output);
  try {
    await body(options, { output, signal });
    process.exitCode = kExit.done;
  } catch (error) {
    output.endProgress();
    report(error, output);
  }
}

function report(error: unknown, output: Output): void {
  const { code, message } = describeError(error);
  process.exitCode = exitCodeOf(error);
  process.stderr.write(`lorikeet: ${message}\n`);
  if (process.env.LORIKEET_DEBUG === '1' && error instanceof Error) process.stderr.write(`${error.stack ?? ''}\n`);
  if (output.json) process.stdout.write(errorLine({ code, message }));
}

/** Option parsers for commander: a number that must be whole or at least `minimum`. */
export function wholeNumber(minimum: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (text.trim() === '' || !Number.isSafeInteger(value) || value < minimum)
      throw new UsageError(`Expected a whole number of at least ${minimum}.`);
    return value;
  };
}

/** Option parser: the number of a task, or `mean`. */
export const taskId = (text: string): TaskId => (text === 'mean' ? text : wholeNumber(0)(text));

export function realNumber(minimum: number, maximum = Number.POSITIVE_INFINITY): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (text.trim() === '' || !(value >= minimum && value <= maximum)) {
      throw new UsageError(
        `Expected a number ${maximum === Number.POSITIVE_INFINITY ? `of at least ${minimum}` : `from ${minimum} to ${maximum}`}.`,
      );
    }
    return value;
  };
}
