import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import test from 'ava';

// The complete programs on the pages users read first are run as they stand.

const run = promisify(execFile);

async function runFirstProgram(page: string, replace: (code: string) => string): Promise<string> {
  const code = /^```ts\n([\s\S]*?)^```$/m.exec(readFileSync(page, 'utf8'))?.[1] ?? '';
  const { stdout } = await run(process.execPath, ['--input-type=module', '-e', replace(code)]);
  return stdout;
}

test('the program of the README trains, saves and generates', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'lorikeet-readme-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const output = await runFirstProgram('README.md', (code) => code.replace("'my-adapter'", JSON.stringify(join(folder, 'my-adapter'))));
  const losses = [...output.matchAll(/^\d+ (\d\.\d+)$/gm)].map((match) => Number(match[1]));
  t.is(losses.length, 20, output);
  t.true((losses.at(-1) as number) < (losses[0] as number) - 0.5, output);
  t.is(JSON.parse(readFileSync(join(folder, 'my-adapter', 'adapter_config.json'), 'utf8')).peft_type, 'LORA');
});

test('the program of docs/memory.md leaves nothing behind', async (t) => {
  t.is(await runFirstProgram('docs/memory.md', (code) => code), '11 0\n');
});
