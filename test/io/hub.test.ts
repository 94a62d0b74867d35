import { createHash } from 'node:crypto';
import { existsSync, lstatSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { CancelledError, HubError } from 'lorikeet';
import { downloadModel, type HubProgress, isHubId } from 'lorikeet/io';

const root = mkdtempSync(join(tmpdir(), 'lorikeet-hub-'));
test.after.always(() => rmSync(root, { recursive: true }));
let folders = 0;
const freshCache = (): string => join(root, `cache-${folders++}`);

const sha = 'a'.repeat(40);
const hash = (algorithm: string, bytes: Buffer): string => createHash(algorithm).update(bytes).digest('hex');

/** A hub with one model, as a fetch; `requests` lists what was asked for. */
function fakeHub(files: Readonly<Record<string, Buffer>>, damage?: string) {
  const requests: string[] = [];
  const answer = async (input: Parameters<typeof fetch>[0], init?: RequestInit): Promise<Response> => {
    init?.signal?.throwIfAborted();
    const url = new URL(input instanceof Request ? input.url : String(input));
    requests.push(url.pathname);
    if (url.pathname.startsWith('/api/models/org/model/revision/')) return Response.json({ _id: '1', id: 'org/model', sha });
    if (url.pathname.startsWith('/api/models/org/model/tree/')) {
      return Response.json(
        Object.entries(files).map(([path, bytes]) => ({
          type: 'file',
          path,
          size: bytes.length,
          oid: hash('sha1', bytes),
          ...(path.endsWith('.safetensors') ? { lfs: { oid: hash('sha256', bytes), size: bytes.length, pointerSize: 130 } } : {}),
        })),
      );
    }
    const name = url.pathname.replace(`/org/model/resolve/${sha}/`, '');
    const bytes = files[name];
    if (bytes === undefined) return new Response('no', { status: 404 });
    const sent = name === damage ? Buffer.from(bytes.map((byte) => byte ^ 1)) : bytes;
    const range = new Headers(init?.headers).get('Range') === 'bytes=0-0';
    return new Response(range ? sent.subarray(0, 1) : sent, {
      status: range ? 206 : 200,
      headers: { ETag: '"x"', ...(range ? { 'Content-Range': `bytes 0-0/${sent.length}` } : {}) },
    });
  };
  return { fetch: answer as typeof fetch, requests };
}

const files = {
  'config.json': Buffer.from('{}'),
  'model.safetensors': Buffer.alloc(3000, 7),
  'pytorch_model.bin': Buffer.alloc(9),
  'README.md': Buffer.from('hi'),
  'onnx/model.onnx': Buffer.alloc(3),
};

test('ids are told from paths', (t) => {
  for (const id of ['org/name', 'HuggingFaceTB/SmolLM2-135M-Instruct', 'a/b.c_d']) t.true(isHubId(id), id);
  for (const id of ['name', './a/b', '../a', 'a/b/c', '/a/b', 'a/../b', 'a\\b', 'a b/c', '', 'a/', `a/${'b'.repeat(300)}`])
    t.false(isHubId(id), id);
});

test('what a model needs is fetched once, checked, and reported', async (t) => {
  const cacheDir = freshCache();
  const hub = fakeHub(files);
  const progress: HubProgress[] = [];
  const folder = await downloadModel('org/model', { cacheDir, fetch: hub.fetch, onProgress: (step) => progress.push(step) });
  t.is(folder, join(cacheDir, 'models--org--model', 'snapshots', sha));
  t.deepEqual(readdirSync(folder).sort(), ['config.json', 'model.safetensors']);
  t.deepEqual(readFileSync(join(folder, 'model.safetensors')), files['model.safetensors']);
  t.true(lstatSync(join(folder, 'model.safetensors')).isSymbolicLink());
  t.deepEqual(progress.at(-1), { file: 'model.safetensors', bytes: 3002, totalBytes: 3002 });
  t.deepEqual(
    progress.map(({ bytes }) => bytes),
    progress.map(({ bytes }) => bytes).sort((a, b) => a - b),
  );

  const again = fakeHub(files);
  t.is(await downloadModel('org/model', { cacheDir, fetch: again.fetch }), folder);
  t.false(again.requests.some((path) => path.includes('/resolve/')));
  // And without a network, or where it is forbidden, the cache will do.
  const offline = () => Promise.reject(new TypeError('fetch failed'));
  t.is(await downloadModel('org/model', { cacheDir, fetch: offline }), folder);
  t.is(await downloadModel('org/model', { cacheDir, fetch: offline, offline: true }), folder);
});

test('without a network the error names the id and says what to do', async (t) => {
  const fetch = () => Promise.reject(Object.assign(new TypeError('fetch failed'), { cause: { code: 'ENOTFOUND' } }));
  await t.throwsAsync(downloadModel('org/model', { cacheDir: freshCache(), fetch }), {
    instanceOf: HubError,
    message:
      'hub: "org/model" is not in the cache, and the hub cannot be reached (ENOTFOUND); pass the path of a folder or .gguf file instead',
  });
  await t.throwsAsync(downloadModel('org/model', { cacheDir: freshCache(), offline: true }), {
    instanceOf: HubError,
    message: /switched off \(offline\); pass the path/,
  });
  await t.throwsAsync(downloadModel('no id', {}), { instanceOf: HubError, message: /not an id; got "no id"/ });
});

test('answers of the hub become errors that help', async (t) => {
  for (const [status, message] of [
    [404, /there is no model "org\/model"/],
    [401, /needs permission/],
    [403, /needs permission/],
    [500, /failed with status 500/],
  ] as const) {
    const fetch = () => Promise.resolve(Response.json({ error: 'x' }, { status }));
    await t.throwsAsync(downloadModel('org/model', { cacheDir: freshCache(), fetch }), { instanceOf: HubError, message });
  }
  await t.throwsAsync(
    downloadModel('org/model', { cacheDir: freshCache(), fetch: fakeHub({ 'pytorch_model.bin': Buffer.alloc(4) }).fetch }),
    { instanceOf: HubError, message: /no safetensors and no GGUF file/ },
  );
  const two = { 'a.gguf': Buffer.alloc(4), 'b.gguf': Buffer.alloc(4) };
  await t.throwsAsync(downloadModel('org/model', { cacheDir: freshCache(), fetch: fakeHub(two).fetch }), {
    instanceOf: HubError,
    message: /has 2 GGUF files; .*a\.gguf, b\.gguf/,
  });
});

test('damaged files are noticed and not kept', async (t) => {
  const cacheDir = freshCache();
  await t.throwsAsync(downloadModel('org/model', { cacheDir, fetch: fakeHub(files, 'model.safetensors').fetch }), {
    instanceOf: HubError,
    message: /model\.safetensors of "org\/model" came damaged/,
  });
  const storage = join(cacheDir, 'models--org--model');
  t.deepEqual(readdirSync(join(storage, 'blobs')).length, 1);
  t.false(existsSync(join(storage, 'refs')));
  await downloadModel('org/model', { cacheDir, fetch: fakeHub(files).fetch });
  t.true(existsSync(join(storage, 'refs', 'main')));
});

test('a signal ends a download', async (t) => {
  const controller = new AbortController();
  const hub = fakeHub(files);
  const stopping = downloadModel('org/model', {
    cacheDir: freshCache(),
    fetch: hub.fetch,
    signal: controller.signal,
    onProgress: ({ file }) => (file === 'model.safetensors' ? controller.abort(new Error('enough')) : undefined),
  });
  const error = await t.throwsAsync(stopping, { instanceOf: CancelledError });
  t.is((error.cause as Error).message, 'enough');
  await t.throwsAsync(downloadModel('org/model', { cacheDir: freshCache(), fetch: hub.fetch, signal: AbortSignal.abort() }), {
    instanceOf: CancelledError,
  });
});
