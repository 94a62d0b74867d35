import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { z } from 'zod';
import { type CommandResult, lastJson } from './command-line.js';

/** The last line of a command's output, which has to be as the published schema of the command says. */
export function validOutput(t: ExecutionContext, name: string, result: CommandResult): Record<string, unknown> {
  const schema = z.fromJSONSchema(JSON.parse(readFileSync(join('docs', 'commands', 'schemas', `${name}.json`), 'utf8')));
  const output = lastJson(result);
  const { error } = schema.safeParse(output);
  t.is(error, undefined, `${name}: ${error === undefined ? '' : z.prettifyError(error)}\n${result.stdout}`);
  return output;
}
