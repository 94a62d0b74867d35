import { Command, CommanderError, InvalidArgumentError as UsageError } from 'commander';
import { LorikeetError } from '../errors.js';
import { Output, type OutputOptions } from './output.js';

/** The exit codes of every command. */
export const kExit = { done: 0, failed: 1, usage: 2, cancelled: 130 } as const;

/** What a command gets beside its own options. */
export interface CommandContext {
  readonly output: Output;
  /** Fires on the first Ctrl-C or SIGTERM; a second one ends the process at once. */
  readonly signal: AbortSignal;
}

/** A wrong option or recipe: exit code 2. */
export class WrongUse extends Error {}

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
  const controller = new AbortController();
  const stop = (name: NodeJS.Signals) => {
    if (controller.signal.aborted) process.exit(kExit.cancelled);
    output.message(`${name === 'SIGINT' ? 'Ctrl-C' : name}: finishing the current step (once more stops at once)`);
    controller.abort(new Error(name));
  };
  process.on('SIGINT', stop).on('SIGTERM', stop);
  try {
    await body(options, { output, signal: controller.signal });
    process.exitCode = kExit.done;
  } catch (error) {
    output.endProgress();
    report(error, output);
  } finally {
    process.off('SIGINT', stop).off('SIGTERM', stop);
  }
}

function report(error: unknown, output: Output): void {
  const { code, message } = describe(error);
  process.exitCode = exitCodeOf(error);
  process.stderr.write(`lorikeet: ${message}\n`);
  if (process.env.LORIKEET_DEBUG === '1' && error instanceof Error) process.stderr.write(`${error.stack ?? ''}\n`);
  if (output.json) process.stdout.write(`${JSON.stringify({ error: { code, message } })}\n`);
}

function describe(error: unknown): { code: string; message: string } {
  if (error instanceof LorikeetError) return { code: error.code, message: error.message };
  if (error instanceof WrongUse) return { code: 'usage', message: error.message };
  return { code: 'failed', message: error instanceof Error ? error.message : String(error) };
}

function exitCodeOf(error: unknown): number {
  if (error instanceof WrongUse) return kExit.usage;
  if (!(error instanceof LorikeetError)) return kExit.failed;
  if (error.code === 'cancelled') return kExit.cancelled;
  return error.code === 'config' || error.code === 'invalid-argument' ? kExit.usage : kExit.failed;
}

/** Exit code of an error that commander itself threw; help and version are no errors. */
export function usageExit(error: unknown): number {
  return error instanceof CommanderError && error.exitCode === 0 ? kExit.done : kExit.usage;
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
