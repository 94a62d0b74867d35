// Lines by folder, and every file that outgrew its limit: asked why from 400 lines on, not accepted above 600.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const ask = 400;
const refuse = 600;

const files = execFileSync(
  'git',
  ['ls-files', '--cached', '--others', '--exclude-standard', '*.ts', '*.mjs', '*.cc', '*.h', '*.cu', '*.cuh', '*.py', '*.sh'],
  { cwd: root, encoding: 'utf8' },
)
  .split('\n')
  .filter(Boolean);

const folders = new Map();
const large = [];
for (const file of files) {
  let lines;
  try {
    lines = readFileSync(resolve(root, file), 'utf8').split('\n').length - 1;
  } catch {
    continue; // deleted but not committed
  }
  const folder = dirname(file).split('/').slice(0, 2).join('/');
  const entry = folders.get(folder) ?? { files: 0, lines: 0 };
  folders.set(folder, { files: entry.files + 1, lines: entry.lines + lines });
  if (lines > ask) large.push({ file, lines });
}

for (const [folder, { files: count, lines }] of [...folders].sort()) {
  console.log(`${folder.padEnd(24)} ${String(count).padStart(4)} files ${String(lines).padStart(7)} lines`);
}
for (const { file, lines } of large.sort((a, b) => b.lines - a.lines)) {
  console.log(`${lines > refuse ? 'too long' : 'long'}: ${file}, ${lines} lines`);
}
process.exit(large.some(({ lines }) => lines > refuse) ? 1 : 0);
