import test from 'ava';
import { accuracy, entityScores, macroF1, marksEntities, matthews, pearson, spearman } from '#dist/tasks/metrics.js';

const close = (a: number, b: number): boolean => Math.abs(a - b) < 1e-12;

test('metrics of classes are those of scikit-learn, classes without a row or a prediction included', (t) => {
  const predicted = [0, 2, 1, 1, 3, 0, 2, 2, 1, 0];
  const targets = [0, 2, 2, 1, 1, 0, 2, 0, 1, 4];
  t.is(accuracy(predicted, targets), 0.6);
  t.true(close(macroF1(predicted, targets), 0.4));
  t.true(close(matthews(predicted, targets), 0.4583333333333333));
  t.is(matthews([1, 1, 1], [0, 1, 1]), 0);
});

test('correlations are those of scipy; ranks of equal values are shared, and a constant side correlates with nothing', (t) => {
  const a = [1.5, 2, 2, -3, 7, 0.25];
  const b = [1, 3, 2.5, 2.5, 9, -1];
  t.true(close(pearson(a, b), 0.7380435031094513));
  t.true(close(spearman(a, b), 0.7205882352941176));
  t.is(pearson(a, [2, 2, 2, 2, 2, 2]), 0);
});

test('entities are right when place and kind are; an I- after nothing of its kind begins one', (t) => {
  const targets = [
    ['B-PER', 'I-PER', 'O', 'B-LOC'],
    ['O', 'B-ORG', 'B-ORG'],
  ];
  t.deepEqual(entityScores(targets, targets), { precision: 1, recall: 1, f1: 1 });
  // One of another kind, one cut short, one found from I- alone.
  const predicted = [
    ['B-PER', 'O', 'O', 'B-PER'],
    ['O', 'I-ORG', 'B-ORG'],
  ];
  t.deepEqual(entityScores(predicted, targets), { precision: 2 / 4, recall: 2 / 4, f1: 0.5 });
  t.deepEqual(entityScores([['O']], [['O']]), { precision: 0, recall: 0, f1: 0 });
  t.true(marksEntities(['O', 'B-X', 'I-X']));
  t.false(marksEntities(['NOUN', 'VERB', 'O']));
});
