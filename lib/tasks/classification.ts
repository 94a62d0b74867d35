import { fieldOf } from '../data/row.js';
import { indexOfLargest } from '../predict.js';
import type { TaskModel } from '../task-model.js';
import {
  countTokens,
  type EncoderRow,
  gather,
  measured,
  negativeLogLikelihood,
  openEncoderRows,
  outputsOf,
  routedInputs,
  trialBatch,
} from './encoder-rows.js';
import { labelReader } from './labels.js';
import { accuracy, macroF1, matthews } from './metrics.js';
import type { Task } from './task.js';

/** One class for every example: cross-entropy; accuracy, macro F1 and Matthews correlation, of which accuracy decides. */
export function classification(model: TaskModel): Task<EncoderRow<number>> {
  return {
    name: 'classification',
    decides: { name: 'accuracy', higher: true },
    open: (sources, options) =>
      openEncoderRows(model, sources, options, (source) => {
        const { label = 'label' } = source;
        const read = labelReader(model.labels, source);
        return (row) => ({ target: read(fieldOf(row, label), label, row.where) });
      }),
    batch: (rows) => ({
      targets: rows.length,
      tokens: countTokens(model, rows),
      loss: (pass) => model.loss({ ...routedInputs(model, rows), targets: rows.map(({ target }) => target), reduction: 'sum', ...pass }),
      outputs: outputsOf(
        model,
        rows,
        rows.map(({ target }) => target),
      ),
    }),
    async measure(set, options = {}) {
      const answers = await gather(model, set, options, ({ target }, logits) => ({
        loss: negativeLogLikelihood(logits, target),
        predicted: indexOfLargest(logits),
        target,
      }));
      const [predicted, targets] = [answers.map((answer) => answer.predicted), answers.map(({ target }) => target)];
      const losses = answers.map(({ loss }) => loss);
      return measured(set, losses, answers.length, () => ({
        accuracy: accuracy(predicted, targets),
        f1: macroF1(predicted, targets),
        mcc: matthews(predicted, targets),
      }));
    },
    trial: (shape) => trialBatch(model, shape, new Array<number>(shape.rows).fill(0)),
  };
}
