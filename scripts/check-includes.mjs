// Who may include whom in native/ (docs/architecture.md): prints every violation and fails if there is one.
import { readdirSync, readFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const native = join(dirname(dirname(fileURLToPath(import.meta.url))), 'native');

/** Folder -> folders whose headers it may include. */
const allowed = {
  core: ['core'],
  algo: ['core', 'algo'],
  ops: ['core', 'ops', 'algo'],
  cpu: ['core', 'cpu', 'ops'],
  cuda: ['core', 'cuda', 'ops'],
  binding: ['core', 'ops', 'algo', 'binding'],
  tests: ['core', 'ops', 'algo', 'cpu', 'tests'],
};

/** System headers that only one folder may use. */
const reserved = [
  { pattern: /^(napi|node_api|js_native_api)/, folder: 'binding' },
  { pattern: /^(cuda|cublas|cusolver|device_|cooperative_groups|mma)/, folder: 'cuda' },
];

const problems = [];
for (const [folder, targets] of Object.entries(allowed)) {
  let names = [];
  try {
    names = readdirSync(join(native, folder)).filter((name) => /\.(h|cc|cu|cuh)$/.test(name));
  } catch {
    continue; // a folder that this checkout does not have
  }
  for (const name of names) {
    const text = readFileSync(join(native, folder, name), 'utf8');
    const report = (line, message) => problems.push(`native/${folder}/${name}:${line}: ${message}`);
    const lines = text.split('\n');
    if (name.endsWith('.h') && !/^(#pragma once$|.*No include guard)/m.test(text))
      report(1, 'a header has #pragma once, or says why it has no guard');
    if (/^using namespace/m.test(text) && name.endsWith('.h')) report(1, 'no using namespace in a header');
    lines.forEach((line, index) => {
      const match = /^\s*#\s*include\s*([<"])([^>"]+)[>"]/.exec(line);
      if (!match) return;
      const [, kind, path] = match;
      if (kind === '<') {
        const owner = reserved.find(({ pattern }) => pattern.test(path));
        if (owner && owner.folder !== folder) report(index + 1, `<${path}> belongs to native/${owner.folder}`);
        return;
      }
      const target = dirname(path);
      if (target === '.') report(index + 1, `"${path}" must be named from native/, e.g. "${folder}/${path}"`);
      else if (!targets.includes(target)) report(index + 1, `native/${folder} may not include native/${target} ("${path}")`);
    });
    const own = `${folder}/${basename(name).replace(/\.cc$/, '.h')}`;
    const first = /^#include\s+"([^"]+)"/m.exec(text)?.[1];
    if (name.endsWith('.cc') && ['core', 'ops', 'algo'].includes(folder) && text.includes(`"${own}"`) && first !== own) {
      report(1, `its own header "${own}" comes first`);
    }
    if (name.endsWith('.cc') && folder === 'cpu' && !text.includes('#include "cpu/level.h"'))
      report(1, 'a kernel file includes "cpu/level.h"');
  }
}

for (const problem of problems) console.error(problem);
process.exit(problems.length > 0 ? 1 : 0);
