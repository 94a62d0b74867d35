import { kExit } from './exit-codes.js';
import type { Output } from './output.js';

/** Milliseconds within which a second Ctrl-C is the same one: npm and other parents pass on what the terminal has sent already. */
const kSameSignal = 300;

/**
 * What can end a command from outside, as one signal: Ctrl-C, SIGTERM, a terminal that is gone (SIGHUP), and a reader that is gone (EPIPE). The first
 * lets the running step end and be saved; a second Ctrl-C or SIGTERM ends the process at once. The listeners stay until the
 * process ends: what comes while it ends must not take its exit code away.
 */
export function watchInterruption(output: Output): AbortSignal {
  const controller = new AbortController();
  let first = 0;
  const abort = (reason: string): void => {
    if (controller.signal.aborted) return;
    first = performance.now();
    controller.abort(new Error(reason));
  };
  const stop = (name: NodeJS.Signals): void => {
    if (!controller.signal.aborted) {
      output.message(`${name === 'SIGINT' ? 'Ctrl-C' : name}: finishing the current step (once more stops at once)`);
      abort(name);
    } else if (performance.now() - first > kSameSignal) {
      output.endProgress();
      process.exit(kExit.cancelled);
    }
  };
  const hangUp = (): void => abort('SIGHUP');
  const lost = (error: NodeJS.ErrnoException): void => {
    if (error.code !== 'EPIPE' && error.code !== 'EIO' && error.code !== 'ERR_STREAM_DESTROYED') throw error;
    abort(error.code);
  };
  process.on('SIGINT', stop).on('SIGTERM', stop).on('SIGHUP', hangUp);
  process.stdout.on('error', lost);
  process.stderr.on('error', lost);
  return controller.signal;
}
