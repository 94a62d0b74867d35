import { CommanderError } from 'commander';
import { LorikeetError } from '../errors.js';

/** The exit codes of every command. */
export const kExit = { done: 0, failed: 1, usage: 2, cancelled: 130 } as const;

/** A wrong option or recipe: exit code 2. */
export class WrongUse extends Error {}

export function exitCodeOf(error: unknown): number {
  if (error instanceof WrongUse) return kExit.usage;
  if (!(error instanceof LorikeetError)) return kExit.failed;
  if (error.code === 'cancelled') return kExit.cancelled;
  return error.code === 'config' || error.code === 'invalid-argument' ? kExit.usage : kExit.failed;
}

/** Exit code of an error that commander itself threw; help and version are no errors. */
export function usageExit(error: unknown): number {
  return error instanceof CommanderError && error.exitCode === 0 ? kExit.done : kExit.usage;
}

/** What an error is called in JSON, and what it says. */
export function describeError(error: unknown): { readonly code: string; readonly message: string } {
  if (error instanceof LorikeetError) return { code: error.code, message: error.message };
  if (error instanceof WrongUse) return { code: 'usage', message: error.message };
  return { code: 'failed', message: error instanceof Error ? error.message : String(error) };
}
