// Loaded into a process before its program (node --import): counts what it does to the file system, and at number LORIKEET_KILL_AT does half of it, or none,
// and kills the process without warning. LORIKEET_COUNT_TO names a file that gets the count when the process ends by itself.

import fs from 'node:fs';
import promises from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';

type Call = (...args: never[]) => unknown;

const killAt = Number(process.env.LORIKEET_KILL_AT ?? Number.POSITIVE_INFINITY);
let count = 0;

/** The call with a count before it; `half` does a part of its work first. */
function counted(call: Call, half?: (args: never[]) => void): Call {
  return function (this: unknown, ...args: never[]) {
    count++;
    if (count === killAt) {
      half?.(args);
      process.kill(process.pid, 'SIGKILL');
      // Nothing more of this process may run.
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
    }
    return call.apply(this, args);
  };
}

const { writeSync, closeSync, openSync } = fs;
const target = { fs: fs as unknown as Record<string, Call>, promises: promises as unknown as Record<string, Call> };

for (const name of ['renameSync', 'rmSync', 'mkdirSync', 'writeSync']) target.fs[name] = counted(target.fs[name] as Call);
target.fs.appendFileSync = counted(target.fs.appendFileSync as Call, ([path, data]) => {
  const file = openSync(path as unknown as string, 'a');
  const bytes = Buffer.from(data as unknown as Uint8Array);
  writeSync(file, bytes, 0, bytes.length >> 1);
  closeSync(file);
});
for (const name of ['rename', 'rm', 'mkdir']) target.promises[name] = counted(target.promises[name] as Call);

const open = promises.open;
target.promises.open = counted((async (...args: Parameters<typeof open>) => {
  const file = await open(...args);
  const handle = file as unknown as Record<string, Call>;
  handle.write = counted(handle.write as Call, ([bytes, offset, length]) => {
    const [whole, from, size] = [bytes, offset, length] as unknown as [Uint8Array, number, number];
    writeSync(file.fd, whole, from, size >> 1);
  });
  handle.sync = counted(handle.sync as Call);
  return file;
}) as unknown as Call);
syncBuiltinESMExports();

const { LORIKEET_COUNT_TO: countTo } = process.env;
process.on('exit', () => {
  if (countTo !== undefined) fs.writeFileSync(countTo, String(count));
});
