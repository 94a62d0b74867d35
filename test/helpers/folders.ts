import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { ExecutionContext } from 'ava';

/** Recorded references; tests run from the root of the package. */
export const goldenFolder = resolve('test/golden');

export const goldenModels = (): string[] => readdirSync(join(goldenFolder, 'models')).sort();
export const goldenModel = (name: string): string => join(goldenFolder, 'models', name);

/** A folder of published models and data, or undefined after a log line that says why the test does nothing. Fails where CI is set. */
export function dataFolder(t: ExecutionContext, name: string): string | undefined {
  const folder = join(resolve(process.env.LORIKEET_DATA ?? '../shared/data'), name);
  if (existsSync(folder)) return folder;
  const reason = `no folder ${name} in LORIKEET_DATA`;
  if (process.env.CI) t.fail(reason);
  else t.log(`skipped: ${reason}`);
  t.pass();
  return undefined;
}

export function readJson<T>(...path: string[]): T {
  return JSON.parse(readFileSync(join(...path), 'utf8')) as T;
}
