// Every method of the registry on each network that it is for, as a program for two processes: `every-method.js train FOLDER` trains each from a recipe with the
// command line and writes to FOLDER/train.json what the trained models answer; `every-method.js load FOLDER` loads the adapters that were saved, and writes
// FOLDER/load.json.
import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { argv } from 'node:process';
import { pathToFileURL } from 'node:url';
import { adapterNames, type EncoderModel, evaluate, type LanguageModel, type Model, noGrad, scope, type TaskModel, train } from 'lorikeet';
import { methodOf } from '#dist/adapters/registry.js';
import { completed } from '#dist/cli/complete-recipe.js';
import { loadOnto, openBase } from '#dist/cli/open-model.js';
import { openRecipe } from '#dist/cli/open-recipe.js';
import { Output } from '#dist/cli/output.js';
import { createProgram } from '#dist/cli/program.js';
import { isLanguageModel } from '#dist/model.js';
import { readRecipe } from '#dist/recipe.js';
import { sourcesOf } from '#dist/recipe-source.js';
import { goldenModel } from './folders.js';
import { opinions, putTokenizer, tinyEncoder } from './tiny-encoder.js';

export interface Case {
  readonly name: string;
  readonly type: (typeof adapterNames)[number];
  readonly network: 'language-model' | 'encoder';
}

/** Every method with every kind of network that it says it is for. */
export const cases: readonly Case[] = adapterNames.flatMap((type) =>
  (['language-model', 'encoder'] as const)
    .filter((network) => network === 'encoder' || methodOf(type).networks === undefined)
    .map((network) => ({ name: `${type} on ${network === 'encoder' ? 'an encoder' : 'a language model'}`, type, network })),
);

/** What a case answers: its logits or class probabilities, and its held-out loss. */
export interface Answers {
  readonly values: readonly number[];
  readonly evalLoss: number;
}

/** By the name of the case; an error stands for answers that did not come. */
export type Found = Record<string, Answers | { readonly error: string }>;

/** Options where the defaults do not fit networks of width 16 and 32, or their task, by method or by case. */
const options: Readonly<Record<string, object>> = {
  'block-adapter': { width: 4 },
  'mixture-of-adapters': { width: 4 },
  'shared-lora': { targets: { roles: ['attention.key', 'attention.value'] } },
  'mosa on a language model': { consistency: null },
};

/** The contexts are of 24 and 64 tokens. */
const few = (type: Case['type']): object => ('virtualTokens' in methodOf(type).defaults ? { virtualTokens: 4 } : {});

const ids = [3, 17, 42, 5, 8, 30];
const texts = ['good film a', 'bad play', 'bad film z'];

/** Writes models, rows and a recipe for each case. */
export function writeRecipes(folder: string): void {
  const language = join(folder, 'language');
  cpSync(goldenModel('llama-biases-untied'), language, { recursive: true });
  putTokenizer(language);
  const encoder = tinyEncoder('bert-base', folder);
  const rows = join(folder, 'rows.jsonl');
  writeFileSync(rows, opinions.map((row) => `${JSON.stringify(row)}\n`).join(''));
  for (const { name, type, network } of cases) {
    const source = network === 'encoder' ? { path: rows, label: 'label' } : { path: rows, field: 'text' };
    // JSON is YAML.
    const recipe = {
      model: network === 'encoder' ? encoder : language,
      ...(network === 'encoder' ? { task: { type: 'classification', labels: ['contra', 'pro'] } } : {}),
      dtype: 'f32',
      adapter: { type, ...few(type), ...options[type], ...options[name] },
      data: { train: source, eval: source },
      training: { steps: 2, batch: 4, sequence: 16, learningRate: 0.01, schedule: 'constant', saveEvery: 0 },
    };
    writeFileSync(recipeOf(folder, name), JSON.stringify(recipe));
  }
}

const recipeOf = (folder: string, name: string): string => join(folder, `${name}.yaml`);
const runOf = (folder: string, name: string): string => join(folder, name);
const context = { output: new Output({ quiet: true }), signal: new AbortController().signal };

async function valuesOf(model: LanguageModel | TaskModel): Promise<number[]> {
  if (isLanguageModel(model)) return scope(async () => Array.from((await noGrad(() => model.logits([ids])).data()) as Float32Array));
  const predictions = (await model.predict(texts)) as readonly { readonly probabilities: Record<string, number> }[];
  return predictions.flatMap(({ probabilities }) => Object.values(probabilities));
}

/** Runs a command in this process; throws what it says on standard error where it does not end well. */
async function commandLine(...args: string[]): Promise<void> {
  const { stderr } = process;
  const write = stderr.write;
  let said = '';
  stderr.write = (text: string | Uint8Array) => {
    said += text;
    return true;
  };
  try {
    await createProgram().parseAsync(['node', 'lorikeet', ...args]);
  } finally {
    stderr.write = write;
  }
  if (process.exitCode !== 0) throw new Error(`exit code ${process.exitCode}: ${said}`);
}

/** Trains by the command line, and once more within reach, since the command keeps its model to itself. */
async function trained(folder: string, name: string): Promise<Answers> {
  const [recipePath, out] = [recipeOf(folder, name), runOf(folder, name)];
  await commandLine('train', recipePath, '--out', out, '--quiet');
  const lines = readFileSync(join(out, 'metrics.jsonl'), 'utf8').trim().split('\n');
  const { evalLoss } = lines.map((line) => JSON.parse(line) as { evalLoss?: number }).findLast((line) => line.evalLoss !== undefined) ?? {};
  if (evalLoss === undefined) throw new Error('lorikeet train: no held-out loss');
  const recipe = completed(readRecipe(recipePath));
  const { tuned, dispose } = await openRecipe(recipe, context);
  try {
    await train(tuned, { data: { train: sourcesOf(recipe.data.train) }, training: recipe.training });
    return { values: await valuesOf(tuned), evalLoss };
  } finally {
    dispose();
  }
}

const bases = new Map<string, Model | EncoderModel>();

/** What the saved adapter answers on a base that other adapters were on before. */
async function loaded(folder: string, name: string): Promise<Answers> {
  const recipe = readRecipe(recipeOf(folder, name));
  const base = bases.get(recipe.model) ?? (await openBase({ ...recipe, seed: recipe.training.seed }, context));
  bases.set(recipe.model, base);
  const tuned = await loadOnto(base, join(runOf(folder, name), 'adapter'), {});
  try {
    const held = sourcesOf(recipe.data.eval ?? recipe.data.train);
    const limits = { maxLength: recipe.training.sequence ?? 0 };
    const evalLoss = isLanguageModel(tuned) ? (await evaluate(tuned, held, limits)).nll : (await evaluate(tuned, held, limits)).loss;
    return { values: await valuesOf(tuned), evalLoss };
  } finally {
    tuned.dispose();
  }
}

if (import.meta.url === pathToFileURL(argv[1] ?? '').href) {
  const [, , phase = '', folder = ''] = argv;
  // Each command listens for signals until the process ends.
  for (const emitter of [process, process.stdout, process.stderr]) emitter.setMaxListeners(0);
  const found: Found = {};
  for (const { name } of cases) {
    const answers = phase === 'train' ? trained(folder, name) : loaded(folder, name);
    found[name] = await answers.catch((error: Error) => ({ error: error.message }));
  }
  writeFileSync(join(folder, `${phase}.json`), JSON.stringify(found));
  process.exitCode = 0;
}
