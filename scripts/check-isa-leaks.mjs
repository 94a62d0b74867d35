// Fails when an object file compiled for a wide instruction level offers code to the whole binary: the linker keeps one copy of a shared inline
// function, and if that is the wide one an older CPU dies on it. Reads the objects of the CMake build (npm run build:native) with nm.
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const build = join(root, 'build', 'CMakeFiles');
const levels = ['avx2', 'avx512', 'avx512_bf16', 'amx_bf16'];

const leaks = [];
let objects = 0;
for (const level of levels) {
  const folder = join(build, `lorikeet_cpu_${level}.dir`);
  if (!existsSync(folder)) continue;
  // The level's namespace as it stands in a mangled name, e.g. 4avx2.
  const mark = `${level.length}${level}`;
  for (const name of readdirSync(folder, { recursive: true }).filter((path) => path.endsWith('.o'))) {
    objects++;
    const symbols = execFileSync('nm', ['--defined-only', join(folder, name)], { encoding: 'utf8', maxBuffer: 1 << 26 });
    for (const line of symbols.split('\n')) {
      const [, type, symbol] = line.trim().split(/\s+/);
      if (symbol && /^[TWi]$/.test(type) && !symbol.includes(mark)) leaks.push(`${level} ${name}: ${symbol}`);
    }
  }
}

if (objects === 0 && process.arch === 'x64') {
  console.error('check-isa-leaks: no object files; run npm run build:native first');
  process.exit(1);
}
for (const leak of leaks) console.error(`check-isa-leaks: shared code compiled for ${leak}`);
console.log(`check-isa-leaks: ${objects} objects, ${leaks.length} leaks`);
process.exit(leaks.length > 0 ? 1 : 0);
