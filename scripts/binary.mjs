// What a shared object needs and offers, read with binutils. Used by prebuild.mjs and check-binary.mjs.
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';

export const sizeLimit = 30e6;
export const glibcLimit = '2.34';

const allowedLibraries = /^(libc\.so\.6|libm\.so\.6|libdl\.so\.2|libpthread\.so\.0|librt\.so\.1|libgcc_s\.so\.1|ld-linux.*\.so\.\d)$/;
const kernelEntryBytes = 24;

function readelf(...args) {
  return execFileSync('readelf', ['-W', ...args], { encoding: 'utf8', maxBuffer: 1 << 28, env: { ...process.env, LC_ALL: 'C' } });
}

const byVersion = (a, b) => a.localeCompare(b, 'en', { numeric: true });

/** Facts about a Linux addon: libraries, oldest glibc, symbols, bytes, kernels. */
export function describeBinary(path) {
  const libraries = [...readelf('-d', path).matchAll(/\(NEEDED\).*\[(.+)\]/g)].map((match) => match[1]);
  const symbols = readelf('--dyn-syms', path)
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .filter((fields) => fields.length >= 8 && /^\d+:$/.test(fields[0]))
    .map(([, , , , bind, , section, name]) => ({ bind, undefined: section === 'UND', name }));
  const versions = symbols.map(({ name }) => /@+GLIBC_([\d.]+)/.exec(name)?.[1]).filter(Boolean);
  const kernels = /lk_kernels\s+PROGBITS\s+\S+\s+\S+\s+(\S+)/.exec(readelf('-S', path))?.[1];
  return {
    libraries,
    glibc: versions.sort(byVersion).at(-1) ?? 'none',
    undefined: symbols.filter((s) => s.undefined && s.bind !== 'WEAK' && s.name && !s.name.includes('@')).map((s) => s.name),
    cxx: symbols.map((s) => s.name).filter((name) => /@+(GLIBCXX|CXXABI)_/.test(name)),
    exported: symbols.filter((s) => !s.undefined && s.bind !== 'LOCAL').map((s) => s.name),
    gcc: symbols
      .map(({ name }) => /@+GCC_([\d.]+)/.exec(name)?.[1])
      .filter(Boolean)
      .sort(byVersion),
    bytes: statSync(path).size,
    kernels: kernels ? Number.parseInt(kernels, 16) / kernelEntryBytes : 0,
  };
}

/** Kernel entries that the sources promise: every LORIKEET_KERNEL line at every instruction level. */
export function expectedKernels(root, levels) {
  const folder = join(root, 'native', 'cpu');
  const files = readdirSync(folder).filter((name) => name.endsWith('.cc'));
  const lines = files.flatMap((name) => readFileSync(join(folder, name), 'utf8').match(/^LORIKEET_KERNEL\(/gm) ?? []);
  return lines.length * levels;
}

/** Why a binary cannot be shipped; empty when it can. */
export function binaryProblems(facts, kernels) {
  const problems = [];
  const foreign = facts.libraries.filter((name) => !allowedLibraries.test(name));
  if (foreign.length > 0) problems.push(`needs ${foreign.join(', ')}, expected only the C library and libgcc_s`);
  if (byVersion(facts.glibc, glibcLimit) > 0) problems.push(`needs glibc ${facts.glibc}, expected at most ${glibcLimit}`);
  if (facts.cxx.length > 0) problems.push(`uses the shared C++ runtime: ${facts.cxx.slice(0, 3).join(', ')}`);
  const newUnwinder = facts.gcc.filter((version) => byVersion(version, '4.3') >= 0);
  if (newUnwinder.length > 0) problems.push(`needs libgcc_s of GCC ${newUnwinder.at(-1)}, expected 4.2 or older`);
  const unknown = facts.undefined.filter((name) => !/^(napi|node_api)_/.test(name));
  if (unknown.length > 0) problems.push(`undefined symbols that Node does not have: ${unknown.slice(0, 5).join(', ')}`);
  const leaked = facts.exported.filter((name) => !/^(napi_register_module_v1|node_api_module_get_api_version_v1)$/.test(name));
  if (leaked.length > 0) problems.push(`exports ${leaked.length} symbols that should be hidden: ${leaked.slice(0, 5).join(', ')}`);
  if (facts.bytes > sizeLimit) problems.push(`is ${(facts.bytes / 1e6).toFixed(1)} MB, expected at most ${sizeLimit / 1e6} MB`);
  if (facts.kernels !== kernels) problems.push(`holds ${facts.kernels} kernels, expected ${kernels} (some object file was not linked)`);
  return problems;
}
