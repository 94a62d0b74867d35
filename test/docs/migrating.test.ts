import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import test from 'ava';

// The TypeScript blocks of the page, one after the other, are one program: it must compile with strict types, and run.

const run = promisify(execFile);
const compiler = join(dirname(createRequire(import.meta.url).resolve('typescript/package.json')), 'bin/tsc');
const options =
  '--ignoreConfig --strict --exactOptionalPropertyTypes --module nodenext --target es2022 --lib es2023,esnext.disposable --types node --skipLibCheck'.split(
    ' ',
  );

test('the program of docs/migrating-from-peft.md compiles and runs', async (t) => {
  mkdirSync('out/docs', { recursive: true });
  const sources = mkdtempSync('out/docs/migrating-');
  const folder = mkdtempSync(join(tmpdir(), 'lorikeet-migrating-'));
  t.teardown(() => {
    for (const each of [sources, folder]) rmSync(each, { recursive: true });
  });
  const blocks = [...readFileSync('docs/migrating-from-peft.md', 'utf8').matchAll(/^```ts\n([\s\S]*?)^```$/gm)].map(([, code]) => code);
  const program = join(sources, 'program.ts');
  writeFileSync(program, blocks.join(''));
  const failed = (error: { stdout: string }) => t.fail(error.stdout);
  await run(process.execPath, [compiler, ...options, program]).catch(failed);
  symlinkSync(resolve('examples'), join(folder, 'examples'));
  const { stdout } = await run(process.execPath, [resolve(sources, 'program.js')], { cwd: folder });
  const lines = stdout.split('\n');
  t.deepEqual(lines.slice(0, 3), ['6 run/adapter', 'true', '2']);
  t.regex(lines[3] ?? '', /^9 \d/);
  t.regex(lines[4] ?? '', /^evaluated 10 (true|false)$/);
  t.regex(lines[5] ?? '', /^10 \d+$/);
  t.is(lines.at(-2)?.slice(-4), 'true');
});
