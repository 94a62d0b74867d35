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
 * What the head of a checkpoint answers, as its config tells: a task, or the end of its class where that is of no task here, such as `ForMultipleChoice`. Undefined
 * for a bare encoder, and where nothing tells.
 */
export function publishedHead(config: JsonObject): string | undefined {
  const [, end] = /(For[A-Z]\w*)$/.exec(classOf(config) ?? '') ?? [];
  if (end !== undefined) {
    const found = Object.entries(kEnds).find(([, ends]) => (ends as readonly string[]).includes(end))?.[0];
    return found === 'classification' && isRegression(config) ? 'regression' : (found ?? end);
  }
  // timm and KWT name no class, but how many classes their head has; none: there is no head.
  if (typeof config.num_classes !== 'number' || config.num_classes === 0) return undefined;
  return isRegression(config) ? 'regression' : 'classification';
}

const isTask = (head: string): head is EncoderTask => head in kEnds || head === 'regression';

/** The head of a checkpoint that is of another task than this one; undefined where there is none, or nothing tells. */
export function otherHead(task: EncoderTask, config: JsonObject): string | undefined {
  const head = publishedHead(config);
  return head === task ? undefined : head;
}

/**
 * The task that a checkpoint was published for: that of its head, or `embedding` where it is a bare encoder with a pooling of sentence-transformers beside it, or says
 * that it has no classes. Throws `ConfigError` where nothing tells.
 */
export function publishedTask(source: string, config: JsonObject, hasPooling: boolean, tasks: readonly string[]): EncoderTask {
  const head = publishedHead(config);
  if (head !== undefined && isTask(head)) return head;
  if (hasPooling || config.num_classes === 0) return 'embedding';
  throw new ConfigError(
    `loadModel: ${source} was published without a head (${classOf(config) ?? 'no architectures'}); say its task, one of ${tasks.join(', ')}`,
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
