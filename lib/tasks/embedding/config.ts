import { z } from 'zod';
import { ConfigError } from '../../errors.js';
import { kEmbeddingDistances } from './losses.js';

/** Losses of pairs that belong together, and of pairs with a score. */
export const kPairLosses = ['multiple-negatives', 'triplet'] as const;
export const kScoredLosses = ['cosine', 'cosent'] as const;
const kLosses = [...kPairLosses, ...kScoredLosses] as const;

/** The losses that have each option. */
const kBelongs = {
  scale: ['multiple-negatives', 'cosent'],
  symmetric: ['multiple-negatives'],
  distance: ['triplet'],
  margin: ['triplet'],
} as const;

/** What a sentence encoder is trained for. */
export const embeddingLossSchema = z
  .strictObject({
    type: z.enum(kLosses).default('multiple-negatives'),
    /** Factor of cosines. Default 20. */
    scale: z.number().positive().optional(),
    /** Positives look for their anchors too. Default false. */
    symmetric: z.boolean().optional(),
    /** Default euclidean. */
    distance: z.enum(kEmbeddingDistances).optional(),
    /** Default 5; of cosine distance 0.5. */
    margin: z.number().positive().optional(),
    /** Embeddings are to be good when they are cut to each of these widths as well (Matryoshka). */
    dimensions: z.array(z.int().positive()).min(1).optional(),
    /** Factor of the loss at each width. Default 1. */
    weights: z.array(z.number().positive()).min(1).optional(),
  })
  .superRefine((loss, context) => {
    const issue = (key: string, message: string): void => context.addIssue({ code: 'custom', path: [key], message });
    for (const [key, names] of Object.entries(kBelongs))
      if (loss[key as keyof typeof kBelongs] !== undefined && !(names as readonly string[]).includes(loss.type))
        issue(key, `expected it only with loss ${names.join(' or ')}; the loss is ${loss.type}`);
    if (loss.weights !== undefined && loss.weights.length !== loss.dimensions?.length)
      issue('weights', 'expected one for each of "dimensions"');
  });

/** A loss of sentence embeddings with its options, defaults filled in. */
export type EmbeddingLoss = z.output<typeof embeddingLossSchema>;

/** The same as a user writes it. */
export type EmbeddingLossOptions = z.input<typeof embeddingLossSchema>;

/** Whether a loss learns from scores. */
export const isScored = ({ type }: EmbeddingLoss): boolean => (kScoredLosses as readonly string[]).includes(type);

/** Throws `ConfigError` where a loss is given for a model of another task. */
export function requireEmbedding(what: string, task: string | undefined): void {
  if (task === 'embedding') return;
  throw new ConfigError(`${what}: "loss" is for task "embedding"; got ${task === undefined ? 'a language model' : `task "${task}"`}`);
}

/** Throws `ConfigError` for a loss of a model that has no choice, and for batches too small to compare rows. */
export function checkLoss(
  { loss, batch }: { readonly loss?: EmbeddingLoss | undefined; readonly batch: number },
  task: string | undefined,
): void {
  if (loss !== undefined) requireEmbedding('training', task);
  const { type = 'multiple-negatives' } = loss ?? {};
  if (task === 'embedding' && batch === 1 && (type === 'multiple-negatives' || type === 'cosent'))
    throw new ConfigError(`training.batch: the loss ${type} compares the rows of a batch; got 1, expected at least 2`);
}
