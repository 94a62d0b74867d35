// npm run bench -- SUITE [options] [--json]: runs bench/SUITE.bench.ts. Without a suite, lists them.
import { readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { machine, type Report, type Suite } from './harness.js';

const folder = dirname(fileURLToPath(import.meta.url));
const ending = '.bench.js';
const names = readdirSync(folder)
  .filter((name) => name.endsWith(ending))
  .map((name) => name.slice(0, -ending.length))
  .sort();

const load = async (name: string): Promise<Suite> =>
  ((await import(pathToFileURL(join(folder, name + ending)).href)) as { suite: Suite }).suite;

function reportTo(stream: NodeJS.WriteStream): Report {
  return {
    line: (text) => void stream.write(`${text}\n`),
    table: (rows) => {
      const columns = Object.keys(rows[0] ?? {});
      const cells = [columns, ...rows.map((row) => columns.map((column) => String(row[column] ?? '')))];
      const widths = columns.map((_, i) => Math.max(...cells.map((row) => row[i]?.length ?? 0)));
      for (const row of cells)
        stream.write(`${row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0))).join('  ')}\n`);
    },
  };
}

const [name, ...args] = process.argv.slice(2);
if (name === undefined || !names.includes(name)) {
  if (name !== undefined) process.stderr.write(`bench: no suite "${name}"\n`);
  process.stderr.write('npm run bench -- SUITE [options] [--json]\n');
  for (const each of names) process.stderr.write(`  ${each.padEnd(10)} ${(await load(each)).description}\n`);
  process.exitCode = 2;
} else {
  const json = args.includes('--json');
  const report = reportTo(json ? process.stderr : process.stdout);
  report.line(machine());
  const suite = await load(name);
  const result = await suite.run(
    args.filter((arg) => arg !== '--json'),
    report,
  );
  if (json) process.stdout.write(`${JSON.stringify(result)}\n`);
}
