import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { errorFromCode, NativeError } from './errors.js';
import type { DType, NativeOps } from './native-ops.js';
import type { MemoryUse, TensorHandle } from './native-types.js';

/** What the addon exports. */
interface Addon {
  readonly abiVersion: number;
  readonly ops: NativeOps;
  readonly signatures: Readonly<Record<string, string>>;
  readonly unions: Readonly<Record<string, readonly string[]>>;
  fromTypedArray(array: ArrayBufferView, dtype: DType, shape: readonly number[]): TensorHandle;
  recordCustom(
    name: string,
    inputs: readonly TensorHandle[],
    outputs: readonly TensorHandle[],
    backward: (gradients: TensorHandle[], wanted: boolean[]) => readonly (TensorHandle | undefined)[],
  ): void;
  synchronize(): Promise<void>;
  memory(): MemoryUse;
  setErrorFactory(factory: (code: string, message: string) => Error): void;
}

const abiVersion = 1;

function load(): Addon {
  const require = createRequire(import.meta.url);
  const root = join(dirname(fileURLToPath(import.meta.url)), '..');
  const override = process.env.LORIKEET_NATIVE_PATH;
  let addon: Addon;
  try {
    addon = (override ? require(override) : require('node-gyp-build')(root)) as Addon;
  } catch (cause) {
    throw new NativeError(describeLoadFailure(cause as NodeJS.ErrnoException, override), { cause });
  }
  if (addon.abiVersion !== abiVersion) {
    throw new NativeError(
      `native addon: version mismatch; got ${addon.abiVersion}, expected ${abiVersion}; rebuild with \`npm run build:native\` or reinstall`,
    );
  }
  addon.setErrorFactory(errorFromCode);
  return addon;
}

/** One message that names the platform, what was tried, and the one thing to do about it. */
function describeLoadFailure(cause: NodeJS.ErrnoException, override: string | undefined): string {
  const report = process.report?.getReport() as { header?: { glibcVersionRuntime?: string } } | undefined;
  const libc = process.platform === 'linux' ? (report?.header?.glibcVersionRuntime ? 'glibc' : 'musl') : '';
  const here = `${process.platform}-${process.arch}${libc && `-${libc}`}, Node ${process.version}`;
  const tried = override ? `LORIKEET_NATIVE_PATH=${override}` : 'build/Release, build/Debug and prebuilds/';
  const text = cause.message ?? String(cause);
  let advice = 'build it with `npm run build:native` (needs CMake and a C++20 compiler)';
  if (/GLIBC_|GLIBCXX_|CXXABI_/.test(text))
    advice = 'this system is older than the prebuilt binary (needs glibc 2.34); build it with `npm run build:native`';
  else if (/invalid ELF header|wrong ELF class|not a valid Win32|mach-o/i.test(text))
    advice = 'the binary is for another platform; reinstall on this machine';
  return `native addon: it cannot be loaded on ${here}; tried ${tried}; ${text.split('\n')[0]}; ${advice}`;
}

const addon = load();

/** @internal The addon's functions that are not ops. */
export const native: Omit<Addon, 'ops'> = addon;

/** @internal One native op by name, typed by its C++ signature. */
export function op<Name extends keyof NativeOps>(name: Name): NativeOps[Name] {
  claimed.add(name);
  return addon.ops[name];
}

const claimed = new Set<string>();

/** @internal Names of the ops that TypeScript claimed; a test compares them with what the addon exports. */
export function claimedOps(): ReadonlySet<string> {
  return claimed;
}
