import { randomBytes } from 'node:crypto';
import { type FileHandle, mkdir, open, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { writing } from './io-error.js';

/**
 * A file that appears under its name complete or not at all: bytes go to a temporary name in the same folder; `commit` syncs, renames, and syncs the
 * folder. Until then, and after `abort`, a file that was there before is untouched. Missing folders are created. Throws `IoError` where the system
 * refuses.
 */
export class AtomicFile {
  readonly path: string;
  readonly #temporary: string;
  readonly #file: FileHandle;

  private constructor(path: string, temporary: string, file: FileHandle) {
    this.path = path;
    this.#temporary = temporary;
    this.#file = file;
  }

  static create(path: string): Promise<AtomicFile> {
    return writing(path, async () => {
      await makeFolder(dirname(path));
      const temporary = join(dirname(path), `.${basename(path)}.${process.pid}-${randomBytes(4).toString('hex')}.tmp`);
      return new AtomicFile(path, temporary, await open(temporary, 'wx'));
    });
  }

  write(bytes: Uint8Array): Promise<void> {
    return writing(this.path, async () => {
      for (let done = 0; done < bytes.length; ) {
        // One system call writes at most 2 GiB.
        const { bytesWritten } = await this.#file.write(bytes, done, Math.min(bytes.length - done, 1 << 30));
        done += bytesWritten;
      }
    });
  }

  commit(): Promise<void> {
    return writing(this.path, async () => {
      await this.#file.sync();
      await this.#file.close();
      await rename(this.#temporary, this.path);
      await syncFolder(dirname(this.path));
    });
  }

  async abort(): Promise<void> {
    await this.#file.close().catch(() => undefined);
    // What stays behind is hidden, and removed by the next run in its folder; the error on its way says more.
    await rm(this.#temporary, { force: true }).catch(() => undefined);
  }
}

/** Creates a folder and those above it that are missing. Unlike the recursive `mkdir` of Node it says what the system said, and always returns. */
export async function makeFolder(path: string): Promise<void> {
  try {
    await makeOne(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || dirname(path) === path) throw error;
    await makeFolder(dirname(path));
    await makeOne(path);
  }
}

/** One folder, which may be there already. */
async function makeOne(path: string): Promise<void> {
  try {
    await mkdir(path);
  } catch (error) {
    if (!(await isFolder(path))) throw error;
  }
}

const isFolder = (path: string): Promise<boolean> =>
  stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  );

/** Makes a rename in `folder` survive a power loss, where the system can. */
export async function syncFolder(folder: string): Promise<void> {
  if (process.platform === 'win32') return;
  const handle = await open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Writes a whole file as `AtomicFile` does. `content` may be given in pieces, which are asked for one after the other. */
export async function writeFileAtomically(
  path: string,
  content: string | Uint8Array | Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
): Promise<void> {
  const file = await AtomicFile.create(path);
  try {
    if (typeof content === 'string') await file.write(Buffer.from(content));
    else if (content instanceof Uint8Array) await file.write(content);
    else for await (const piece of content) await file.write(piece);
    await file.commit();
  } catch (error) {
    await file.abort();
    throw error;
  }
}
