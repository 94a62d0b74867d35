import { IoError } from '../errors.js';

/** What to do about the system's errors that people meet. */
const kRemedies: Readonly<Record<string, string>> = {
  ENOSPC: 'the disk is full, or its inodes are used up; free some space',
  EDQUOT: 'the quota is used up; free some space',
  EFBIG: 'the file is larger than this system or process may write',
  EROFS: 'the file system is read-only',
  EACCES: 'this user may not write there',
  EPERM: 'this user may not write there',
  ENOENT: 'the folder is gone',
  ENOTDIR: 'a part of the path is a file',
  EMFILE: 'the process has too many files open',
  EIO: 'the device failed',
};

/** An error of the file system as an `IoError` that says what could not be written; any other value as it is. */
export function asIoError(error: unknown, path: string): unknown {
  if (!isSystemError(error)) return error;
  const remedy = kRemedies[error.code];
  return new IoError(`write: cannot write "${path}"; got ${error.code} from ${error.syscall}${remedy === undefined ? '' : `: ${remedy}`}`, {
    cause: error,
  });
}

/** Runs work that writes `path`; errors of the file system come out as `IoError`. */
export async function writing<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw asIoError(error, path);
  }
}

/** The same for synchronous work. */
export function writingSync<T>(path: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw asIoError(error, path);
  }
}

function isSystemError(error: unknown): error is NodeJS.ErrnoException & { code: string; syscall: string } {
  return (
    error instanceof Error && 'syscall' in error && 'code' in error && typeof error.code === 'string' && /^E[A-Z0-9]+$/.test(error.code)
  );
}
