import { fieldOf } from '../data/row.js';
import { FormatError } from '../errors.js';
import { ignoredTarget } from '../models/language-loss.js';
import { firstTokens, indexOfLargest } from '../predict.js';
import type { TaskModel } from '../task-model.js';
import {
  countTokens,
  type EncoderRow,
  gather,
  listOf,
  measured,
  negativeLogLikelihood,
  openEncoderRows,
  outputsOf,
  routedInputs,
  trialBatch,
} from './encoder-rows.js';
import { labelReader } from './labels.js';
import { accuracy, entityScores, marksEntities } from './metrics.js';
import type { Task } from './task.js';

type Tags = readonly number[];

const isLearnt = (target: number): boolean => target !== ignoredTarget;

/**
 * A tag for every word, learnt at its first token: cross-entropy; accuracy, and for tags that mark entities (`B-PER`, `I-PER`, `O`) precision, recall and F1 over them,
 * of which F1 decides, else accuracy.
 */
export function tokenClassification(model: TaskModel): Task<EncoderRow<Tags>> {
  const { labels } = model;
  const entities = marksEntities(labels);
  return {
    name: 'token-classification',
    decides: { name: entities ? 'f1' : 'accuracy', higher: true },
    open: (sources, options) =>
      openEncoderRows(model, sources, options, (source) => {
        const { tokens = 'tokens', tags = 'tags' } = source;
        const read = labelReader(labels, source);
        return (row, input) => {
          const given = listOf(fieldOf(row, tags), tags, row.where);
          const words = listOf(fieldOf(row, tokens), tokens, row.where).length;
          if (given.length !== words)
            throw new FormatError(`${row.where}: field "${tags}" must have a tag for every word; got ${given.length}, expected ${words}`);
          const target = tagsAt(
            input as { words: readonly number[] },
            given.map((tag) => read(tag, tags, row.where)),
          );
          return target.some(isLearnt) ? { target } : { target, empty: 'got no words' };
        };
      }),
    batch: (rows) => ({
      targets: rows.reduce((sum, { target }) => sum + target.filter(isLearnt).length, 0),
      tokens: countTokens(model, rows),
      loss: (pass) => model.loss({ ...routedInputs(model, rows), targets: rows.map(({ target }) => target), reduction: 'sum', ...pass }),
      outputs: outputsOf(
        model,
        rows,
        rows.map(({ target }) => target),
      ),
    }),
    async measure(set, options = {}) {
      const answers = await gather(model, set, options, ({ target }, answer) => {
        const learnt = [...target.keys()].filter((t) => isLearnt(target[t] as number));
        const logits = learnt.map((t) => answer.subarray(t * labels.length, (t + 1) * labels.length));
        return {
          losses: logits.map((own, index) => negativeLogLikelihood(own, target[learnt[index] as number] as number)),
          predicted: logits.map(indexOfLargest),
          targets: learnt.map((t) => target[t] as number),
        };
      });
      const losses = answers.flatMap((answer) => answer.losses);
      return measured(set, losses, answers.length, () => {
        const right = accuracy(
          answers.flatMap(({ predicted }) => predicted),
          answers.flatMap(({ targets }) => targets),
        );
        if (!entities) return { accuracy: right };
        const named = (part: 'predicted' | 'targets') => answers.map((answer) => answer[part].map((tag) => labels[tag] as string));
        return { accuracy: right, ...entityScores(named('predicted'), named('targets')) };
      });
    },
    trial: (shape) =>
      trialBatch(
        model,
        shape,
        Array.from({ length: shape.rows }, () => new Array<number>(shape.length).fill(0)),
      ),
  };
}

/** The tag of each word at its first token, nothing elsewhere; words that were cut off have none. */
function tagsAt(input: { readonly words: readonly number[] }, tags: Tags): number[] {
  const target = input.words.map(() => ignoredTarget);
  for (const t of firstTokens({ ids: [], words: input.words })) target[t] = tags[input.words[t] as number] ?? ignoredTarget;
  return target;
}
