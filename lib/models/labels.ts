import { ConfigError } from '../errors.js';
import { isJsonObject, type JsonObject } from '../io/json.js';
import type { EncoderTask } from './encoder.js';
import { modelTypeOf } from './encoders.js';
import { otherHead } from './published-task.js';

/** The names of the classes in a published config, or its number of them; undefined where it says nothing. */
function publishedLabels(config: JsonObject): string[] | undefined {
  const { id2label, architectures } = config;
  if (typeof id2label === 'object' && id2label !== null) {
    const entries = Object.entries(id2label).sort(([a], [b]) => Number(a) - Number(b));
    if (entries.some(([id], index) => Number(id) !== index))
      throw new ConfigError(`model config: "id2label" must number the labels from 0; got ${entries.map(([id]) => id).join(', ')}`);
    return entries.map(([, name]) => String(name));
  }
  // timm and KWT.
  const names = config.label_names ?? config.labels;
  if (Array.isArray(names) && names.length > 0 && names.every((name) => typeof name === 'string')) return [...names];
  const count = config.num_labels ?? config.num_classes;
  if (typeof count === 'number') return count > 0 ? numbered(count) : undefined;
  // transformers leaves out what is its default.
  return /For(Sequence|Token|Image|Audio)Classification$/.test(String(architectures)) ? numbered(2) : undefined;
}

const numbered = (count: number): string[] => Array.from({ length: count }, (_, index) => `LABEL_${index}`);

/** The same where the published head is of this task, or nothing tells what it is. */
const labelsOfTask = (task: EncoderTask, config: JsonObject): string[] | undefined =>
  otherHead(task, config) === undefined ? publishedLabels(config) : undefined;

/**
 * The names of what a head answers: those given, or of the published config where its head is of this task. `regression` has as many as values, `masked-lm` and `embedding` none. Throws
 * `ConfigError` where nothing says how many classes there are.
 */
export function labelsFor(task: EncoderTask, config: JsonObject, given: readonly string[] | number | undefined): readonly string[] {
  if (task === 'masked-lm' || task === 'embedding') {
    if (given !== undefined) throw new ConfigError(`loadModel: task "${task}" has no labels; got ${JSON.stringify(given)}`);
    return [];
  }
  if (given === undefined) {
    const published = labelsOfTask(task, config);
    if (published !== undefined) return published;
    if (task === 'regression') return numbered(1);
    const other = publishedLabels(config) && otherHead(task, config);
    const found = other === undefined ? 'names none' : `names those of another head (${other})`;
    throw new ConfigError(
      `loadModel: task "${task}" needs labels, and the config of the model ${found}; expected names, or how many there are`,
    );
  }
  if (typeof given === 'number') {
    if (!Number.isSafeInteger(given) || given < 1)
      throw new ConfigError(`loadModel: labels must be names or a number of at least 1; got ${given}`);
    const published = labelsOfTask(task, config);
    return published?.length === given ? published : numbered(given);
  }
  const repeated = given.find((name, index) => given.indexOf(name) !== index);
  if (given.length === 0 || repeated !== undefined)
    throw new ConfigError(`loadModel: labels must be different names; got ${repeated === undefined ? 'none' : `"${repeated}" twice`}`);
  return [...given];
}

/**
 * Whether a head of these labels starts anew although a published one has as many: it is of another task, or its classes are others. Published names such as LABEL_0 say
 * nothing of the classes.
 * Throws `ConfigError` for the published names in another order, and for a published head that gives an example several labels at once.
 */
export function startsAnew(task: EncoderTask, config: JsonObject, labels: readonly string[]): boolean {
  if (otherHead(task, config) !== undefined) return true;
  if (task !== 'classification' && task !== 'token-classification') return false;
  const published = publishedLabels(config);
  if (published?.length !== labels.length) return false;
  const isGeneric = published.every((name) => /^LABEL_\d+$/.test(name));
  if (!isGeneric && published.some((name) => !labels.includes(name))) return true;
  if (!isGeneric && published.some((name, index) => name !== labels[index]))
    throw new ConfigError(
      `loadModel: labels are those of the published head in another order; got ${labels.join(', ')}, expected ${published.join(', ')}`,
    );
  if (task === 'classification' && config.problem_type === 'multi_label_classification')
    throw new ConfigError(
      'loadModel: the published head gives an example several labels at once (problem_type multi_label_classification), which no task does; ' +
        'expected labels of other names, for which a head of classes starts anew',
    );
  return false;
}

/** A published config with these labels and what tells of them, also as timm and KWT spell it. */
export function withLabels(config: JsonObject, task: EncoderTask, labels: readonly string[]): JsonObject {
  if (labels.length === 0) return { ...config, ...countedLabels(config, labels) };
  const { num_labels: _, problem_type: __, label_descriptions: ___, ...rest } = config;
  return {
    ...rest,
    ...countedLabels(config, labels),
    id2label: Object.fromEntries(labels.map((name, id) => [String(id), name])),
    label2id: Object.fromEntries(labels.map((name, id) => [name, id])),
    ...problemType(task, labels),
  };
}

/** What transformers tells by the number of labels, where that would be the wrong task: a single one means a regression to it. */
function problemType(task: EncoderTask, labels: readonly string[]): JsonObject {
  if (task === 'regression') return { problem_type: 'regression' };
  return task === 'classification' && labels.length === 1 ? { problem_type: 'single_label_classification' } : {};
}

const kCount = 'num_classes';

/** What the configs of timm and KWT say of their head, and of timm its parts too, for these labels. */
function countedLabels(config: JsonObject, labels: readonly string[]): JsonObject {
  if (!(kCount in config) && modelTypeOf(config) !== 'timm_vit') return {};
  const parts = Object.entries(config).flatMap(([key, value]) =>
    isJsonObject(value) && kCount in value ? [[key, { ...value, [kCount]: labels.length }]] : [],
  );
  const names = ['label_names', 'labels'].filter((key) => key in config).map((key) => [key, [...labels]]);
  return { [kCount]: labels.length, ...Object.fromEntries([...parts, ...names]) };
}
