import { cpSync, existsSync, mkdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { completed } from '#dist/cli/complete-recipe.js';
import { checkRecipe } from '#dist/cli/preflight.js';
import { readRecipe } from '#dist/recipe.js';
import { temporaryFolder } from '../helpers/command-line.js';
import { goldenFolder } from '../helpers/folders.js';
import { shippedModel, shippedText } from '../helpers/shipped.js';

// Each recipe is refused before a model is loaded, by a message that says what, where, and what would be right.

const folder = temporaryFolder();
const rows = shippedText('train');
const base = `model: ${shippedModel}\ndata: { train: { path: ${rows} } }\n`;
const withModel = (model: string): string => `model: ${model}\ndata: { train: { path: ${rows} } }\n`;
const withData = (source: string): string => `model: ${shippedModel}\ndata: { train: { ${source} } }\n`;
const training = (text: string): string => `${base}training: { ${text} }\n`;
const adapter = (text: string): string => `${base}adapter: ${text}\n`;

/** The shipped model with something broken. */
function broken(name: string, damage: (path: string) => void): string {
  const path = join(folder, name);
  cpSync(shippedModel, path, { recursive: true });
  damage(path);
  return path;
}
mkdirSync(join(folder, 'folder.jsonl'));
mkdirSync(join(folder, 'nothing'));
writeFileSync(join(folder, 'notes.docx'), '');

type Case = readonly [recipe: string | Uint8Array, message: RegExp, code?: string];
const cases: Readonly<Record<string, Case>> = {
  'an unknown key': [`${base}trainng: {}`, /unknown key "trainng"; did you mean "training"\?/],
  'an unknown key of training': [training('learning_rate: 1'), /unknown key "learning_rate" in "training"; did you mean "learningRate"\?/],
  'an unknown part of data': [`model: x\ndata: { trian: { path: x } }`, /unknown key "trian" in "data"; did you mean "train"\?/],
  'an unknown key of a source': [withData('path: x, filed: y'), /unknown key "filed" in "data\.train"; did you mean "field"\?/],
  'an unknown key of the report': [`${base}report: { sampels: [a] }`, /unknown key "sampels" in "report"; did you mean "samples"\?/],
  'an unknown option of the adapter': [adapter('{ type: lora, rnak: 3 }'), /unknown key "rnak" for "lora"; did you mean "rank"\?/],
  'an unknown initialisation': [adapter('{ type: lora, init: pisa }'), /unknown init; got "pisa", expected .*did you mean "pissa"\?/],
  'an unknown option of an initialisation': [
    adapter('{ type: lora, init: { type: pissa, nitre: 4 } }'),
    /init "pissa" has no option "nitre"; did you mean "niter"\?/,
  ],
  'a wrong option of an initialisation': [adapter('{ type: lora, init: { type: pissa, niter: -1 } }'), /pissa: niter must be/],
  'calibration that nothing reads': [
    `model: ${shippedModel}\ndata: { train: { path: ${rows} }, calibration: { path: ${rows} } }`,
    /data\.calibration: the adapter looks at no data before it starts; expected an "init" that does/,
  ],
  'calibration without a file': [
    `model: ${shippedModel}\ndata: { train: { path: ${rows} }, calibration: { path: none.jsonl } }`,
    /recipe: data\.calibration: no file "none\.jsonl"/,
  ],
  'a key that is a number': [`${base}1: 2`, /unknown key "1"; expected one of model, /],
  'no model': [`data: { train: { path: ${rows} } }`, /"model" is missing; expected a string/],
  'an empty model': [`model:\ndata: { train: { path: ${rows} } }`, /"model" is wrong; got null, expected a string/],
  'no data': [`model: ${shippedModel}`, /"data" is missing; expected a map/],
  'data as a text': [`model: x\ndata: x.jsonl`, /"data" is wrong; got "x\.jsonl", expected a map/],
  'a source as a text': [
    `model: x\ndata: { train: x.jsonl }`,
    /"data\.train" is wrong; got "x\.jsonl", expected a map such as \{ path: notes\.jsonl \}/,
  ],
  'words for a number': [training('steps: ten'), /"training\.steps" is wrong; got "ten", expected a number/],
  'no steps': [training('steps: 0'), /"training\.steps" is wrong; got 0, expected more than 0/],
  'an empty batch': [training('batch: 0'), /"training\.batch" is wrong; got 0, expected more than 0/],
  'half a pass': [training('accumulate: 2.5'), /"training\.accumulate" is wrong; got 2\.5, expected a whole number/],
  'a negative learning rate': [training('learningRate: -1'), /"training\.learningRate" is wrong; got -1, expected more than 0/],
  'a learning rate with a slip': [training('learningRate: 2e-4x'), /got "2e-4x", expected a number/],
  'a learning rate that is no number': [training('learningRate: .nan'), /"training\.learningRate" is wrong; got NaN, expected a number/],
  'an infinite learning rate': [training('learningRate: .inf'), /got Infinity, expected a number/],
  'one beta': [training('betas: [0.9]'), /"training\.betas" is wrong; got \[0\.9\], expected a list of at least 2/],
  'three betas': [training('betas: [0.9, 0.9, 0.9]'), /expected a list of at most 2/],
  'a beta of 1': [training('betas: [0.9, 1]'), /"training\.betas\.1" is wrong; got 1, expected less than 1/],
  'an unknown schedule': [training('schedule: cosin'), /got "cosin", expected one of constant, linear, cosine.*did you mean "cosine"\?/],
  'an unknown optimizer': [training('optimizer: adam'), /got "adam", expected one of .*did you mean "adamw"\?/],
  'an unknown word for memory': [
    training('memory: eror'),
    /"training\.memory" is wrong; got "eror", expected one of error, warn, ignore; did you mean "error"\?/,
  ],
  'a negative seed': [training('seed: -1'), /"training\.seed" is wrong; got -1, expected at least 0/],
  'a negative clip': [training('clip: -1'), /"training\.clip" is wrong; got -1, expected at least 0/],
  'no checkpoint kept': [training('keep: 0'), /"training\.keep" is wrong; got 0, expected more than 0/],
  'a rate of LoRA+ below 1': [training('loraPlusRatio: 0.5'), /expected at least 1/],
  'yes for true': [training('shuffle: "yes"'), /"training\.shuffle" is wrong; got "yes", expected true or false/],
  'a sequence of one token': [training('sequence: 1'), /"training\.sequence" is wrong; got 1, expected at least 2/],
  'a sequence over the context': [
    training('sequence: 4096'),
    /training\.sequence: longer than the model's context; got 4096, expected at most 512/,
  ],
  'a negative temperature': [`${base}report: { temperature: -1 }`, /"report\.temperature" is wrong; got -1, expected at least 0/],
  'an unknown dtype': [`${base}dtype: fp16`, /"dtype" is wrong; got "fp16", expected one of .*did you mean "f16"\?/],
  'an unknown device': [`${base}device: gpu`, /"device" is wrong; got "gpu", expected one of cpu, cuda/],
  'a number for out': [`${base}out: 5`, /"out" is wrong; got 5, expected a string/],
  'an unknown method': [adapter('{ type: lroa }'), /unknown type; got "lroa", expected one of .*did you mean "lora"\?/],
  'an adapter without a type': [adapter('{ rank: 4 }'), /"adapter\.type" is missing; expected a string/],
  'an adapter as a list': [adapter('[1]'), /"adapter" is wrong; got \[1\], expected a map with "type", or the folder of an adapter/],
  'an adapter folder that is not there': [
    adapter('/nowhere/adapter'),
    /no adapter_config\.json in "\/nowhere\/adapter"; expected the folder of an adapter/,
  ],
  'rank 0': [adapter('{ type: lora, rank: 0 }'), /lora: rank must be a positive integer; got 0/],
  'targets that match nothing': [adapter('{ type: lora, targets: [q_prj] }'), /no module matches "q_prj"; did you mean "q_proj"\?/],
  'targets of a wrong kind': [adapter('{ type: lora, targets: 3 }'), /targets is of the wrong kind; got 3, expected "all-linear"/],
  'layers that are not there': [
    adapter('{ type: lora, targets: [q_proj], layersToTransform: [99] }'),
    /match no module in the chosen layers; got layersToTransform \[99\]/,
  ],
  'a file that is not there': [withData('path: none.jsonl'), /recipe: data\.train: no file "none\.jsonl"/],
  'held-out rows that are not there': [
    `model: ${shippedModel}\ndata: { train: { path: ${rows} }, eval: { path: none.jsonl } }`,
    /recipe: data\.eval: no file "none\.jsonl"/,
  ],
  'a file of an unknown kind': [
    withData(`path: ${join(folder, 'notes.docx')}`),
    /unknown extension; got "\.docx", expected one of \.jsonl/,
  ],
  'a folder for a file': [withData(`path: ${join(folder, 'folder.jsonl')}`), /is not a file/],
  'fields that exclude each other': [
    withData(`path: ${rows}, field: a, messages: b`),
    /"field" and "messages" exclude each other; got both, expected one/,
  ],
  'a prompt alone': [withData(`path: ${rows}, prompt: a`), /"prompt" and "completion" belong together; got only "prompt"/],
  'labels alone': [withData(`path: ${rows}, labels: [a]`), /"labels" needs "prompt" and "completion"/],
  'a separator for lines': [withData(`path: ${rows}, separator: "--"`), /"separator" is for \.txt files only/],
  'a template with a stray brace': [withData(`path: ${rows}, prompt: "{text", completion: "{b}"`), /template "\{text" has a stray "\{"/],
  'a model that is not there': [
    withModel('./no/such/model'),
    /model: no such file or folder; got "\.\/no\/such\/model"/,
    'invalid-argument',
  ],
  'a model without a tokenizer': [
    withModel(broken('a', (path) => rmSync(join(path, 'tokenizer.json')))),
    /has no tokenizer; expected tokenizer\.json/,
  ],
  'a model without a config': [withModel(broken('b', (path) => rmSync(join(path, 'config.json')))), /has no config\.json/, 'format'],
  'a model without weights': [
    withModel(broken('c', (path) => rmSync(join(path, 'model.safetensors')))),
    /has no model\.safetensors/,
    'format',
  ],
  'weights that are cut off': [
    withModel(broken('d', (path) => truncateSync(join(path, 'model.safetensors'), 5000))),
    /the file is cut off; got 5000 bytes, expected \d+/,
    'format',
  ],
  'a config that is no JSON': [
    withModel(broken('e', (path) => writeFileSync(join(path, 'config.json'), '{'))),
    /config\.json: is not valid JSON/,
    'format',
  ],
  'an unknown architecture': [
    withModel(broken('f', (path) => writeFileSync(join(path, 'config.json'), '{"model_type":"lama"}'))),
    /unknown "model_type" "lama".*did you mean "llama"\?/,
  ],
  'an empty model folder': [
    withModel(join(folder, 'nothing')),
    /has no config\.json, no adapter_config\.json and no \.gguf file/,
    'format',
  ],
  'an adapter for a model': [
    withModel(join(goldenFolder, 'adapters/plain')),
    /is an adapter; expected the model it was made for/,
    'format',
  ],
  'a bracket that is never closed': [`${base}training: { steps: 5`, /bad\.yaml:3:21: Flow map .* end with a \}$/],
  'a line that is indented wrongly': [`${base}training:\n steps: 5\n   batch: 2`, /bad\.yaml:4:\d+: /],
  'a key twice': [`${base}model: b`, /bad\.yaml:3:1: Map keys must be unique$/],
  'a tab': [`${base}training:\n\tsteps: 5`, /bad\.yaml:4:1: Tabs are not allowed as indentation$/],
  'two documents': [`${base}---\n${base}`, /bad\.yaml:3:1: a second document begins here; expected one recipe in a file$/],
  'a tag that would run code': [`${base}out: !!js/function x`, /bad\.yaml:3:6: Unresolved tag/],
  'a list': ['- 1', /must be a map of keys \(model, adapter, data, training, out\)/],
  'an empty file': ['', /must be a map of keys/],
  'bytes that are no UTF-8': [
    Buffer.concat([Buffer.from(`${base}out: `), Buffer.from([0xff, 0xfe])]),
    /cannot read ".*bad\.yaml"; it is not UTF-8/,
  ],
};

const path = join(folder, 'bad.yaml');
const check = async (recipe: string | Uint8Array, sets: readonly string[] = []): Promise<void> => {
  writeFileSync(path, recipe);
  await checkRecipe(completed(readRecipe(path, sets)), new AbortController().signal);
};

for (const [name, [recipe, message, code = 'config']] of Object.entries(cases)) {
  test.serial(`refused: ${name}`, async (t) => {
    const error = await t.throwsAsync(check(recipe), { code });
    t.regex(error?.message ?? '', message);
    t.notRegex(error?.message ?? '', /undefined|\[object|Invalid input/);
    t.false(existsSync('x') || existsSync('5'));
  });
}

for (const [set, message] of [
  ['training.steps', /--set: got "training\.steps", expected key\.path=value/],
  ['=3', /--set: got "=3", expected key\.path=value/],
  ['training..steps=3', /--set: got "training\.\.steps=3", expected key\.path=value/],
  ['__proto__.x=1', /expected key\.path=value/],
  ['model.x=1', /"model" is not a map/],
  ['training.steps={', /--set training\.steps=\{: the value is not YAML; Flow map must end with a \}$/],
  ['training.stps=1', /unknown key "stps" in "training"; did you mean "steps"\?/],
  ['data.train.path=', /"data\.train\.path" is wrong; got null, expected a string/],
  ['training=3', /"training" is wrong; got 3, expected a map/],
] as const) {
  test.serial(`refused: --set ${set}`, async (t) => {
    const error = await t.throwsAsync(check(base, [set]), { code: 'config' });
    t.regex(error?.message ?? '', message);
  });
}

test.serial('taken: a byte order mark, lines of Windows, merge keys', async (t) => {
  await t.notThrowsAsync(check(`\ufeff${base}`));
  await t.notThrowsAsync(check(base.replaceAll('\n', '\r\n')));
  await t.notThrowsAsync(check(`${base}training: { <<: { steps: 3 }, batch: 2 }`));
});
