import { ConfigError } from '../errors.js';
import type { EncoderTask, Modality } from '../models/encoder.js';
import type { DataSource } from './source.js';

/** Which fields of a row make an example of an encoder's task, beside `field`. */
export interface TaskFields {
  /** Name of the field with the second text of a pair. */
  readonly field2?: string;
  /** Name of the field with the path of an image: relative to the file that names it. */
  readonly image?: string;
  /** Name of the field with the path of a recording: relative to the file that names it. */
  readonly audio?: string;
  /** Name of the field with the class, by name or number, or with the value of a regression. Default `label`. */
  readonly label?: string;
  /** Name of the field with the words: a list, or a text that is split at white space. Default `tokens`. */
  readonly tokens?: string;
  /** Name of the field with the tag of each word, by name or number. Default `tags`. */
  readonly tags?: string;
  /** Name of the field with the text that others belong to. Default `anchor`. */
  readonly anchor?: string;
  /** Name of the field with the text that belongs to the anchor. Default `positive`. */
  readonly positive?: string;
  /** Name of the field with a text that does not belong to the anchor, or a list of such texts. Default: none, and `negative` where the loss needs one. */
  readonly negative?: string;
  /** Name of the field that says how similar the two texts are. Default `score` where the loss learns from scores. */
  readonly score?: string;
}

const kPairFields = ['anchor', 'positive', 'negative', 'score'] as const satisfies readonly (keyof TaskFields)[];
/** Fields that only encoders read. */
export const kTaskFields = [
  'field2',
  'image',
  'audio',
  'label',
  'tokens',
  'tags',
  ...kPairFields,
] as const satisfies readonly (keyof TaskFields)[];
/** Keys that only language models read. */
const kLanguageFields = ['messages', 'tools', 'learn', 'prompt', 'completion'] as const satisfies readonly (keyof DataSource)[];

/** Throws `ConfigError` for a source of a language model that names fields of a task. */
export function refuseTaskFields(source: TaskFields): void {
  const found = kTaskFields.find((name) => source[name] !== undefined);
  if (found === undefined) return;
  throw new ConfigError(
    `data: "${found}" is for encoders with a task (task: classification, …); a language model learns from field, messages, or prompt and completion`,
  );
}

const kInputs = { text: ['field', 'field2'], image: ['image'], audio: ['audio'] } as const;
const kTargets: { readonly [T in EncoderTask]: readonly (keyof DataSource)[] } = {
  classification: ['label', 'labels'],
  regression: ['label'],
  'token-classification': ['tags', 'labels'],
  'masked-lm': [],
  embedding: kPairFields,
};

/** The fields that a task reads of the rows of a model. */
function fieldsOf(task: EncoderTask, modality: Modality): readonly string[] {
  if (task === 'embedding') return kPairFields;
  return [...(task === 'token-classification' ? ['tokens'] : kInputs[modality]), ...kTargets[task]];
}

/** Throws `ConfigError` for a source with fields that the task does not read. */
export function requireTaskFields(task: EncoderTask, modality: Modality, source: DataSource): void {
  const known = fieldsOf(task, modality);
  const found = [...kTaskFields, ...kLanguageFields, 'field' as const, 'labels' as const].find(
    (name) => source[name] !== undefined && !known.includes(name),
  );
  if (found !== undefined)
    throw new ConfigError(`data: "${found}" is not read for task "${task}" of a model of ${modality}; expected ${known.join(', ')}`);
}
