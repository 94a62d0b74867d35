import { readFile, stat } from 'node:fs/promises';
import { FormatError } from '../../errors.js';
import { cannotRead, checkEncoding } from './lines.js';

/** Files that can only be read as a whole may be this long, in bytes. */
export const kMaxWholeBytes = 256 * 1024 * 1024;

/** The text of a UTF-8 file without a byte order mark. Throws `FormatError` where it is too long or not UTF-8, with `advice` on what to do about its length. */
export async function readWhole(path: string, advice: string): Promise<string> {
  let bytes: Buffer;
  try {
    const { size } = await stat(path);
    if (size > kMaxWholeBytes)
      throw new FormatError(`${path}: too long to be read as a whole; got ${size} bytes, expected at most ${kMaxWholeBytes}; ${advice}`);
    bytes = await readFile(path);
  } catch (cause) {
    throw cannotRead(path, cause);
  }
  checkEncoding(bytes, path);
  if (bytes.includes(0)) throw new FormatError(`${path}: a NUL byte in the text; expected UTF-8 text, not UTF-16 or binary data`);
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new FormatError(`${path}: not valid UTF-8; expected UTF-8 text`, { cause });
  }
}
