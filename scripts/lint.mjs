// npm run lint: formatters, linters and house rules for both languages; prints every problem and a summary. --fix formats and applies safe fixes.

import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

process.chdir(dirname(dirname(fileURLToPath(import.meta.url))));
const fix = process.argv.includes('--fix');

const native = (folders, pattern) =>
  folders.flatMap((folder) =>
    readdirSync(join('native', folder))
      .filter((name) => pattern.test(name))
      .map((name) => join('native', folder, name)),
  );

function run(command, args) {
  return spawnSync(command, args, { stdio: ['ignore', 'inherit', 'inherit'] }).status === 0;
}

/** clang-tidy over core, ops and algo. A file whose text, headers and checks did not change since it passed is not looked at again. */
async function tidy() {
  if (!run('npm', ['run', '--silent', 'build:native'])) return false;
  const store = join('build', 'clang-tidy-passed.json');
  let passed = {};
  try {
    passed = JSON.parse(readFileSync(store, 'utf8'));
  } catch {
    // nothing passed yet
  }
  const folders = ['core', 'ops', 'algo'];
  const shared = createHash('sha256').update(readFileSync('.clang-tidy'));
  for (const header of native(folders, /\.h$/)) shared.update(readFileSync(header));
  const base = shared.digest('hex');
  const key = (file) => createHash('sha256').update(base).update(readFileSync(file)).digest('hex');
  const queue = native(folders, /\.cc$/).filter((file) => passed[file] !== key(file));
  const failed = [];
  const worker = async () => {
    for (let file = queue.pop(); file !== undefined; file = queue.pop()) {
      // Clang 14 knows _Float16 on x86 only with AVX512-FP16; nothing is generated here.
      const flags = process.arch === 'x64' ? ['--extra-arg=-mavx512fp16'] : [];
      const child = spawn('clang-tidy-14', ['--quiet', '-p', 'build', ...flags, '--extra-arg=-Wno-unknown-warning-option', file], {
        stdio: ['ignore', 'pipe', 'ignore'],
      });
      let text = '';
      child.stdout.on('data', (chunk) => {
        text += chunk;
      });
      const code = await new Promise((done) => child.on('close', done));
      if (code === 0) passed[file] = key(file);
      else {
        failed.push(file);
        console.log(text);
      }
    }
  };
  await Promise.all(Array.from({ length: availableParallelism() }, worker));
  mkdirSync('build', { recursive: true });
  writeFileSync(store, JSON.stringify(passed));
  return failed.length === 0;
}

const formatted = native(['core', 'ops', 'algo', 'cpu', 'cuda', 'binding', 'tests'], /\.(h|cc|cu|cuh)$/);
const steps = [
  ['biome', () => run('npx', ['biome', fix ? 'check' : 'ci', ...(fix ? ['--write'] : []), '--max-diagnostics=50'])],
  ['clang-format', () => run('clang-format-14', fix ? ['-i', ...formatted] : ['--dry-run', '-Werror', '--ferror-limit=20', ...formatted])],
  ['includes', () => run('node', ['scripts/check-includes.mjs'])],
  ['clang-tidy', tidy],
  ['isa leaks', () => run('node', ['scripts/check-isa-leaks.mjs'])],
  ['sizes', () => run('node', ['scripts/size-report.mjs'])],
];

const failures = [];
for (const [name, step] of steps) {
  const since = performance.now();
  const ok = await step();
  console.log(`${name.padEnd(14)} ${ok ? 'ok' : 'FAILED'} (${((performance.now() - since) / 1000).toFixed(1)} s)`);
  if (!ok) failures.push(name);
}
console.log(failures.length === 0 ? 'lint: clean' : `lint: failed: ${failures.join(', ')}`);
process.exit(failures.length === 0 ? 0 : 1);
