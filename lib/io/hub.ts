import { createHash } from 'node:crypto';
import { copyFile, mkdir, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import {
  downloadFile,
  getHFHubCachePath,
  getRepoFolderName,
  HubApiError,
  type ListFileEntry,
  listFiles,
  modelInfo,
} from '@huggingface/hub';
import { CancelledError, HubError, LorikeetError, throwIfAborted } from '../errors.js';
import { writeFileAtomically } from './atomic-file.js';

/** How far a download has come. */
export interface HubProgress {
  /** File being fetched, as the repository names it. */
  readonly file: string;
  /** Bytes of this and all earlier files that are here. */
  readonly bytes: number;
  /** Bytes of all files together. */
  readonly totalBytes: number;
}

export interface HubOptions {
  /** Branch, tag or commit. Default `main`. */
  readonly revision?: string;
  /** Access token for gated models. Default: the environment variable `HF_TOKEN`. */
  readonly token?: string;
  /** Folder for downloaded files. Default: the one that all Hugging Face tools share (`HF_HUB_CACHE`, `HF_HOME`). */
  readonly cacheDir?: string;
  /** Address of the hub. Default: the environment variable `HF_ENDPOINT`, else the public hub. */
  readonly hubUrl?: string;
  /** Use only what is in the cache already. Default: whether `HF_HUB_OFFLINE` is set. */
  readonly offline?: boolean;
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: HubProgress) => void;
  /** Replaces the global `fetch`. */
  readonly fetch?: typeof fetch;
}

/** Whether a text has the form of a hub id, `organisation/name`. */
export function isHubId(text: string): boolean {
  return (
    text.length <= 96 * 2 &&
    /^[A-Za-z0-9][\w.-]*\/[A-Za-z0-9][\w.-]*$/.test(text) &&
    !text.includes('..') &&
    !text.includes('--') &&
    !text.endsWith('.git')
  );
}

/** Files that say what a model is, and its weights and tokenizer; no other framework's weights, no code, no pickles. */
function isWanted(path: string): boolean {
  if (path.includes('/')) return /^additional_chat_templates\/[\w.-]+\.jinja$/.test(path);
  return /\.(safetensors|json|jinja|txt|model)$/.test(path) && !/^(consolidated|.*\.onnx|flax_model|tf_model)/.test(path);
}

/** Which files of a repository to fetch: safetensors where there are any, else the only GGUF file. */
function choose(id: string, files: readonly ListFileEntry[]): ListFileEntry[] {
  const wanted = files.filter(({ type, path }) => type === 'file' && isWanted(path));
  if (wanted.some(({ path }) => path.endsWith('.safetensors'))) return wanted;
  const blocks = files.filter(({ type, path }) => type === 'file' && path.endsWith('.gguf'));
  if (blocks.length === 1) return blocks;
  if (blocks.length > 1)
    throw new HubError(
      `hub: "${id}" has ${blocks.length} GGUF files; download the one you want and pass its path: ${blocks
        .map(({ path }) => path)
        .slice(0, 8)
        .join(', ')}`,
    );
  throw new HubError(`hub: "${id}" has no safetensors and no GGUF file`);
}

/**
 * The local folder of a model of the hub, downloaded into the shared cache first where it is not there yet; finished files are not fetched again.
 *
 * Throws `HubError` when the model does not exist, needs a token, or the hub cannot be reached and the cache does not hold it; `CancelledError` when the
 * signal fires.
 */
export async function downloadModel(id: string, options: HubOptions = {}): Promise<string> {
  if (!isHubId(id)) throw new HubError(`hub: not an id; got "${id}", expected organisation/name`);
  const cacheDir = options.cacheDir ?? getHFHubCachePath();
  const storage = join(cacheDir, getRepoFolderName({ type: 'model', name: id }));
  throwIfAborted(options.signal, `hub: download of "${id}"`);
  if (options.offline ?? isSet(process.env.HF_HUB_OFFLINE)) return fromCache(id, storage, options, undefined);
  try {
    return await fetchSnapshot(id, storage, options);
  } catch (error) {
    if (options.signal?.aborted) throw new CancelledError(`hub: download of "${id}" was cancelled`, { cause: options.signal.reason });
    if (error instanceof LorikeetError) throw error;
    if (error instanceof HubApiError) throw apiError(id, error);
    if (typeof (error as NodeJS.ErrnoException).path === 'string') {
      throw new HubError(`hub: the cache folder ${cacheDir} cannot be used; ${(error as Error).message}`, { cause: error });
    }
    return fromCache(id, storage, options, error);
  }
}

const isSet = (value: string | undefined): boolean => value !== undefined && !['', '0', 'false', 'off', 'no'].includes(value.toLowerCase());

async function fetchSnapshot(id: string, storage: string, options: HubOptions): Promise<string> {
  const revision = options.revision ?? 'main';
  const token = options.token ?? process.env.HF_TOKEN;
  const hubUrl = options.hubUrl ?? process.env.HF_ENDPOINT;
  const common = { fetch: watchedFetch(options), ...(token ? { accessToken: token } : {}), ...(hubUrl ? { hubUrl } : {}) };
  const { sha } = await modelInfo({ ...common, name: id, revision, additionalFields: ['sha'] });
  if (!isName(sha)) throw new HubError(`hub: the answer for "${id}" names no commit; got ${JSON.stringify(sha)}`);
  const files: ListFileEntry[] = [];
  for await (const entry of listFiles({ ...common, repo: id, recursive: true, revision: sha })) files.push(entry);
  const wanted = choose(id, files);
  const snapshot = join(storage, 'snapshots', sha);
  const totalBytes = wanted.reduce((sum, { size }) => sum + size, 0);
  let bytes = 0;
  for (const entry of wanted) {
    throwIfAborted(options.signal, `hub: download of "${id}"`);
    const before = bytes;
    const report = (count: number): void => {
      bytes = before + count;
      options.onProgress?.({ file: entry.path, bytes, totalBytes });
    };
    report(0);
    const target = join(snapshot, entry.path);
    if (!(await exists(target))) {
      const oid = entry.lfs?.oid ?? entry.xetHash ?? entry.oid;
      if (!isName(oid)) throw new HubError(`hub: the answer for "${id}" names no content of ${entry.path}; got ${JSON.stringify(oid)}`);
      const blob = join(storage, 'blobs', oid);
      if (!(await exists(blob))) {
        const content = await downloadFile({ ...common, repo: id, path: entry.path, revision: sha });
        if (content === null) throw new HubError(`hub: "${id}" has no file ${entry.path}`);
        await writeFileAtomically(blob, checked(id, entry, content, report));
      }
      await link(blob, target);
    }
    report(entry.size);
  }
  // Written last: a name in `refs` means that the files of its snapshot are complete.
  const ref = join(storage, 'refs', revision);
  await mkdir(dirname(ref), { recursive: true });
  await writeFile(ref, sha);
  return snapshot;
}

/** Whether a name given by the hub may become the name of a file. */
const isName = (name: unknown): name is string => typeof name === 'string' && /^[A-Za-z0-9]{8,128}$/.test(name);

const exists = async (path: string): Promise<boolean> => (await stat(path).catch(() => undefined)) !== undefined;

/** The bytes of a file as they come, checked against the size and, for large files, the SHA-256 that the hub gives. */
async function* checked(
  id: string,
  { path, size, lfs }: ListFileEntry,
  content: Blob,
  report: (bytes: number) => void,
): AsyncGenerator<Uint8Array> {
  const hash = createHash('sha256');
  let bytes = 0;
  for await (const piece of content.stream() as unknown as AsyncIterable<Uint8Array>) {
    bytes += piece.length;
    hash.update(piece);
    report(Math.min(bytes, size));
    yield piece;
  }
  if (bytes !== size) throw new HubError(`hub: ${path} of "${id}" came incomplete; got ${bytes} bytes, expected ${size}`);
  const digest = hash.digest('hex');
  if (lfs !== undefined && digest !== lfs.oid)
    throw new HubError(`hub: ${path} of "${id}" came damaged; got SHA-256 ${digest}, expected ${lfs.oid}`);
}

/** Lets a file of a snapshot stand for its content in `blobs`, as the cache of all Hugging Face tools is laid out. */
async function link(blob: string, target: string): Promise<void> {
  await mkdir(dirname(target), { recursive: true });
  await rm(target, { force: true });
  await symlink(relative(dirname(target), blob), target).catch(() => copyFile(blob, target));
}

/** A fetch that ends with the signal. */
function watchedFetch({ fetch: given, signal }: HubOptions): typeof fetch {
  const base = given ?? fetch;
  return (input, init) => {
    const signals = [signal, init?.signal].filter((entry) => entry !== undefined && entry !== null);
    return base(input, { ...init, ...(signals.length > 0 ? { signal: AbortSignal.any(signals) } : {}) });
  };
}

/** The snapshot in the cache that a branch, tag or commit names, or an error that says why the hub was of no help. */
async function fromCache(id: string, storage: string, options: HubOptions, cause: unknown): Promise<string> {
  const revision = options.revision ?? 'main';
  const commit = /^[0-9a-f]{40}$/.test(revision)
    ? revision
    : (await readFile(join(storage, 'refs', revision), 'utf8').catch(() => '')).trim();
  const snapshot = join(storage, 'snapshots', commit);
  const complete =
    commit !== '' && (await stat(snapshot).catch(() => undefined))?.isDirectory() === true && (await readdir(snapshot)).length > 0;
  if (complete) return snapshot;
  const why = cause === undefined ? 'the hub is switched off (offline)' : `the hub cannot be reached (${reason(cause)})`;
  throw new HubError(`hub: "${id}" is not in the cache, and ${why}; pass the path of a folder or .gguf file instead`, { cause });
}

function reason(error: unknown): string {
  const { cause, message } = error as Error & { cause?: { code?: string; message?: string } };
  return cause?.code ?? cause?.message ?? message;
}

function apiError(id: string, error: HubApiError): HubError {
  const { statusCode } = error;
  if (statusCode === 404)
    return new HubError(`hub: there is no model "${id}" (or no such revision); check the spelling, or pass a folder`, { cause: error });
  if (statusCode === 401 || statusCode === 403) {
    return new HubError(
      `hub: "${id}" does not exist or needs permission; ask for access on its page and pass a token (HF_TOKEN), or pass a folder`,
      { cause: error },
    );
  }
  return new HubError(`hub: the request for "${id}" failed with status ${statusCode}; try again, or pass a folder`, { cause: error });
}
