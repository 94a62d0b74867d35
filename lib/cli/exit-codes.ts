import type { CommanderError } from 'commander';
import { errorCodes, LorikeetError } from '../errors.js';

/** The exit codes of every command. */
export const kExit = { done: 0, failed: 1, usage: 2, cancelled: 130 } as const;

/** Codes of errors in JSON: those of the library, wrong usage, and what has no code. */
export const kErrorCodes = [...errorCodes, 'usage', 'failed'] as const;

/** A wrong option or recipe: exit code 2. */
export class WrongUse extends Error {}

export function exitCodeOf(error: unknown): number {
  if (error instanceof WrongUse) return kExit.usage;
  if (!(error instanceof LorikeetError)) return kExit.failed;
  if (error.code === 'cancelled') return kExit.cancelled;
  return error.code === 'config' || error.code === 'invalid-argument' ? kExit.usage : kExit.failed;
}

/** Exit code of an error that commander itself threw; help and version are no errors. */
export function usageExit(error: CommanderError): number {
  return error.exitCode === 0 ? kExit.done : kExit.usage;
}

/** An error in JSON: what it is called, and what it says. */
export interface ErrorDescription {
  readonly code: (typeof kErrorCodes)[number];
  readonly message: string;
}

/** The last line of standard output with `--json`. */
export const errorLine = ({ code, message }: ErrorDescription): string => `${JSON.stringify({ error: { code, message } })}\n`;

export function describeError(error: unknown): ErrorDescription {
  if (error instanceof LorikeetError) return { code: error.code, message: error.message };
  if (error instanceof WrongUse) return { code: 'usage', message: error.message };
  return { code: 'failed', message: error instanceof Error ? error.message : String(error) };
}
