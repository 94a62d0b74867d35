// Accuracy of generated answers by a recipe: in a training with its run folder and report, and of `evaluate`.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { readRecipe } from '#dist/recipe.js';
import { type CommandResult, lastJson, lorikeet, temporaryFolder } from '../helpers/command-line.js';
import { shippedModel, shippedText } from '../helpers/shipped.js';
import { validOutput } from '../helpers/valid-output.js';

const folder = temporaryFolder();
const rows = join(folder, 'rows.jsonl');
const held = join(folder, 'held.jsonl');
const recipe = join(folder, 'recipe.yaml');
const written = (questions: readonly object[]): string => questions.map((question) => `${JSON.stringify(question)}\n`).join('');
const animals = ['cat', 'dog', 'bird', 'fish'];
writeFileSync(rows, written(animals.map((animal) => ({ q: `Is a ${animal} big?`, a: 'true' }))));
// The model learns to say "true" to everything, which is right for three of four.
writeFileSync(held, written(animals.map((animal, index) => ({ q: `Is a ${animal} big?`, a: index === 1 ? 'false' : 'true' }))));
writeFileSync(
  recipe,
  `model: ${shippedModel}
adapter: { type: lora, rank: 8, alpha: 16, targets: all-linear }
data:
  train: { path: ${rows}, prompt: "{q}\\nAnswer:", completion: " {a}" }
  eval: { path: ${held}, prompt: "{q}\\nAnswer:", completion: " {a}" }
training: { steps: 30, batch: 4, sequence: 64, learningRate: 1.0e-2, schedule: constant, evalEvery: 15, saveEvery: 0 }
evaluation: { answers: { kind: truth, field: a, maxNewTokens: 8 } }
`,
);
const out = join(folder, 'run');
const ofRun = ['--recipe', recipe, '--adapter', join(out, 'adapter')];

function valid(t: ExecutionContext, name: string, result: CommandResult): Record<string, unknown> {
  t.is(result.code, 0, result.stderr);
  return validOutput(t, name, result);
}

test.serial('a run measures answers at each evaluation, writes them down, and evaluate finds the same', async (t) => {
  const result = valid(t, 'train', await lorikeet(['train', recipe, '--out', out, '--json']));
  t.deepEqual(result.evalMetrics, { answerAccuracy: 0.75 });
  t.like(readRecipe(join(out, 'recipe.yaml')).evaluation?.answers, { kind: 'truth', field: 'a', maxNewTokens: 8, batch: 16 });
  t.regex(readFileSync(join(out, 'report.html'), 'utf8'), /held-out answerAccuracy, last.*0\.750000/s);
  t.like(lastJson(await lorikeet(['inspect', out, '--json'])).run as object, { evalMetrics: { answerAccuracy: 0.75 } });

  const evaluated = valid(t, 'evaluate', await lorikeet(['evaluate', ...ofRun, '--json']));
  t.is(evaluated.answerAccuracy, 0.75);
  const untrained = await lorikeet(['evaluate', '--recipe', recipe]);
  t.regex(untrained.stdout, /^nll \d+\.\d+ {2}perplexity .* {2}answer accuracy 0\.0000\n$/);
  // Other rows with the fields of the recipe; what the command line says wins.
  const onRows = await lorikeet([
    'evaluate',
    ...ofRun,
    '--data',
    rows,
    '--answers',
    'truth',
    '--max-new-tokens',
    '4',
    '--beams',
    '2',
    '--json',
  ]);
  t.is(valid(t, 'evaluate', onRows).answerAccuracy, 1);
  const numbers = await lorikeet(['evaluate', ...ofRun, '--answers', 'number', '--json']);
  t.regex((lastJson(numbers).error as { message: string }).message, /held\.jsonl:1: field "a" is no number; got "true"/);
});

test('what cannot be asked or scored is wrong use, before a model is loaded', async (t) => {
  const refused = async (message: RegExp, ...args: string[]): Promise<void> => {
    const result = await lorikeet([...args, '--json']);
    t.is(result.code, 2, result.stderr);
    t.regex((lastJson(result).error as { message: string }).message, message);
  };
  const texts = `data.eval={ path: ${shippedText('dev')} }`;
  await Promise.all([
    refused(/--max-new-tokens and --beams go with --answers/, 'evaluate', '--model', shippedModel, '--data', rows, '--max-new-tokens', '3'),
    refused(/data\.eval: answers: rows of ".*" ask nothing/, 'train', recipe, '--set', texts),
    refused(/rows of ".*" ask nothing/, 'evaluate', '--model', shippedModel, '--data', shippedText('dev'), '--answers', 'truth'),
  ]);
});
