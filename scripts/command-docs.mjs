// Writes what the pages in docs/commands say about options, JSON fields and exit codes, and the JSON Schemas beside them, from the built program.
// With --check it only compares and fails when a file is stale.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { outputs } from '../dist/cli/outputs.js';
import { createProgram } from '../dist/cli/program.js';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const folder = join(root, 'docs', 'commands');
const check = process.argv.includes('--check');
const stale = [];

/** The text of a file, empty where there is none. */
function current(path) {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

function put(path, text) {
  if (current(path) === text) return;
  if (check) stale.push(path);
  else writeFileSync(path, text);
}

const cell = (text) => text.replaceAll('|', '\\|');

function optionRow({ flags, description, argChoices, defaultValue, mandatory }) {
  const notes = [
    ...(argChoices ? [argChoices.map((choice) => `\`${choice}\``).join(', ')] : []),
    ...(mandatory ? ['required'] : []),
    ...(defaultValue === undefined || (Array.isArray(defaultValue) && defaultValue.length === 0) ? [] : [`default \`${defaultValue}\``]),
  ];
  return `| \`${cell(flags)}\` | ${cell([description, ...notes].join('; '))} |`;
}

function typeOf(schema) {
  if (schema.enum) return schema.enum.map((value) => `\`${value}\``).join(', ');
  if (schema.anyOf) return schema.anyOf.map(typeOf).join(' or ');
  if (schema.type === 'array') return schema.items?.type ? `array of ${typeOf(schema.items)}` : 'array';
  return schema.type ?? 'any';
}

/** Rows of the fields of an object, those of objects inside under their path. */
function fieldRows({ properties = {}, required = [], anyOf }, prefix = '') {
  // Of one kind of result or another: whatever is not in both may be absent.
  if (anyOf) return anyOf.flatMap((result) => fieldRows({ ...result, required: [] }, prefix));
  return Object.entries(properties).flatMap(([name, schema]) => {
    const path = `${prefix}${name}`;
    const absent = required.includes(name) ? '' : ' or absent';
    const row = `| \`${path}\` | ${typeOf(schema)}${absent} | ${cell(schema.description ?? '')} |`;
    const inner = schema.type === 'array' ? schema.items : schema;
    return inner?.properties ? [row, ...fieldRows(inner, `${path}${schema.type === 'array' ? '[]' : ''}.`)] : [row];
  });
}

function reference(command, schema) {
  const name = command.name();
  const help = command.createHelp();
  const synopsis = `lorikeet ${name} ${command.usage()}`;
  const rows = help.visibleOptions(command).map(optionRow);
  const args = command.registeredArguments.map(
    (argument) =>
      `| \`${argument.name()}\` | ${cell(argument.description)}${argument.argChoices ? `; ${argument.argChoices.map((choice) => `\`${choice}\``).join(', ')}` : ''} |`,
  );
  return `<!-- reference: written by scripts/command-docs.mjs -->
## Reference

\`\`\`
${synopsis}
\`\`\`

| option | is |
| --- | --- |
${[...args, ...rows].join('\n')}

With \`--json\` the last line of standard output is one object ([schema](schemas/${name}.json)):

| field | type | is |
| --- | --- | --- |
${fieldRows(schema).join('\n')}

On failure it is \`{ "error": { "code", "message" } }\` ([schema](schemas/error.json)). Exit codes: 0 done, 1 failed while running, 2 wrong usage or recipe, 130 cancelled.
<!-- /reference -->`;
}

mkdirSync(join(folder, 'schemas'), { recursive: true });
const schemas = Object.fromEntries(
  Object.entries(outputs).map(([name, schema]) => [name, { title: `lorikeet ${name} --json`, ...z.toJSONSchema(schema) }]),
);
for (const [name, schema] of Object.entries(schemas))
  put(join(folder, 'schemas', `${name}.json`), `${JSON.stringify(schema, undefined, 2)}\n`);
for (const command of createProgram().commands) {
  const path = join(folder, `${command.name()}.md`);
  const page = current(path);
  const marked = /<!-- reference[\s\S]*<!-- \/reference -->/;
  if (!marked.test(page)) {
    console.error(`${path}: there is no page with a <!-- reference --> part`);
    process.exit(1);
  }
  put(
    path,
    page.replace(marked, () => reference(command, schemas[command.name()])),
  );
}
if (stale.length > 0) {
  console.error(`stale: ${stale.join(', ')}; run node scripts/command-docs.mjs`);
  process.exit(1);
}
