import { ConfigError } from '../errors.js';
import type { JsonObject } from '../io/json.js';
import type { EncoderTask, Modality } from './encoder.js';

/** How transformers ends the names of its classes, by task. */
const kEnds = {
  'token-classification': ['ForTokenClassification'],
  classification: ['ForSequenceClassification', 'ForImageClassification', 'ForAudioClassification'],
  'masked-lm': ['ForMaskedLM', 'ForPreTraining'],
} as const satisfies { readonly [Task in EncoderTask]?: readonly string[] };

const classOf = ({ architectures }: JsonObject): string | undefined =>
  Array.isArray(architectures) && typeof architectures[0] === 'string' ? architectures[0] : undefined;

/**
 * The task that a checkpoint was published for: that of its class in `architectures`, or `embedding` where it is a bare encoder with a pooling of sentence-transformers
 * beside it, or says that it has no classes. Throws `ConfigError` where nothing tells.
 */
export function publishedTask(source: string, config: JsonObject, hasPooling: boolean, tasks: readonly string[]): EncoderTask {
  const name = classOf(config);
  for (const [task, ends] of Object.entries(kEnds)) {
    if (name === undefined || !ends.some((end) => name.endsWith(end))) continue;
    return task === 'classification' && isRegression(config) ? 'regression' : (task as EncoderTask);
  }
  if (hasPooling) return 'embedding';
  // timm and KWT name no class, but how many classes their head has; none: there is no head.
  if (config.num_classes === 0) return 'embedding';
  if (typeof config.num_classes === 'number') return isRegression(config) ? 'regression' : 'classification';
  throw new ConfigError(
    `loadModel: ${source} was published without a head (${name ?? 'no architectures'}); say its task, one of ${tasks.join(', ')}`,
  );
}

/** As transformers decides: by what the config says, or by there being a single label. */
function isRegression({ problem_type: type, id2label }: JsonObject): boolean {
  if (typeof type === 'string') return type === 'regression';
  return typeof id2label === 'object' && id2label !== null && Object.keys(id2label).length === 1;
}

const kClassification = { text: 'ForSequenceClassification', image: 'ForImageClassification', audio: 'ForAudioClassification' } as const;

/** What transformers calls the class of an encoder with the head of a task; undefined where its name without a head is not known. */
export function publishedClass(config: JsonObject, task: EncoderTask, modality: Modality): string | undefined {
  const stem = classOf(config)?.replace(/(Model|For[A-Z]\w*)$/, '');
  if (stem === undefined || stem === '') return undefined;
  const ends: { readonly [Task in EncoderTask]: string } = {
    classification: kClassification[modality],
    regression: kClassification[modality],
    'token-classification': 'ForTokenClassification',
    'masked-lm': 'ForMaskedLM',
    embedding: 'Model',
  };
  return stem + ends[task];
}
