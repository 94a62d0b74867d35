import { readFileSync } from 'node:fs';
import test from 'ava';
import { recipeSchema, reportSchema, sourceSchema, trainingSchema } from '#dist/recipe-schema.js';

// The pages name every key that a recipe may have.

const training = readFileSync('docs/training.md', 'utf8');
const data = readFileSync('docs/data.md', 'utf8');
const report = readFileSync('docs/run-folder.md', 'utf8');

/** Keys without a table row that begins with them, alone or in a list. */
const withoutRow = (page: string, keys: readonly string[]): string[] => {
  const firstCells = [...page.matchAll(/^\| ([^|]*) \|/gm)].map(([, cell = '']) => cell);
  return keys.filter((key) => !firstCells.some((cell) => cell.includes(`\`${key}\``)));
};

test('docs/training.md has a row for every key of training', (t) => {
  t.deepEqual(withoutRow(training, Object.keys(trainingSchema.shape)), []);
});

test('docs/data.md has a row for every key of a source', (t) => {
  t.deepEqual(withoutRow(data, Object.keys(sourceSchema.shape)), []);
});

test('docs/training.md names every part of a recipe, docs/run-folder.md every key of report', (t) => {
  const named = (page: string, key: string): boolean => new RegExp(`(\`${key}\`|^ *${key}:)`, 'm').test(page);
  t.deepEqual(
    Object.keys(recipeSchema.shape).filter((key) => !named(training, key)),
    [],
  );
  t.deepEqual(
    Object.keys(reportSchema.shape).filter((key) => !named(report, key)),
    [],
  );
});
