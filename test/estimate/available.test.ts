import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import test from 'ava';
import { availableMemory } from '#dist/estimate/available.js';
import { temporaryFolder } from '../helpers/command-line.js';

/** A folder that looks like the root of a system with these files. */
function system(files: Readonly<Record<string, string>>): string {
  const root = temporaryFolder();
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  }
  return root;
}

const meminfo = 'MemTotal: 9000 kB\nMemAvailable:    8000 kB\n';

test('what the system calls available', (t) => {
  t.is(availableMemory(system({ 'proc/meminfo': meminfo })), 8000 * 1024);
  t.true(availableMemory() > 0);
});

test('a control group of version 2, or one above it, leaves less; its page cache can be taken', (t) => {
  const group = {
    'proc/meminfo': meminfo,
    'proc/self/cgroup': '0::/pod/job\n',
    'sys/fs/cgroup/pod/job/memory.max': 'max\n',
    'sys/fs/cgroup/pod/job/memory.current': '10\n',
    'sys/fs/cgroup/pod/memory.max': '5000\n',
    'sys/fs/cgroup/pod/memory.current': '2000\n',
    'sys/fs/cgroup/pod/memory.stat': 'anon 1000\ninactive_file 500\n',
  };
  t.is(availableMemory(system(group)), 3500);
});

test('a control group of version 1; one without a limit; use above the limit', (t) => {
  const group = {
    'proc/meminfo': meminfo,
    'proc/self/cgroup': '5:cpu:/x\n4:memory:/box\n',
    'sys/fs/cgroup/memory/box/memory.limit_in_bytes': '4000\n',
    'sys/fs/cgroup/memory/box/memory.usage_in_bytes': '1000\n',
  };
  t.is(availableMemory(system(group)), 3000);
  t.is(availableMemory(system({ ...group, 'sys/fs/cgroup/memory/box/memory.limit_in_bytes': '9223372036854771712\n' })), 8000 * 1024);
  t.is(availableMemory(system({ ...group, 'sys/fs/cgroup/memory/box/memory.usage_in_bytes': '5000\n' })), 0);
});
