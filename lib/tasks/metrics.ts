/** Part of the predictions that are the target. */
export function accuracy(predicted: readonly number[], targets: readonly number[]): number {
  return targets.filter((target, index) => target === predicted[index]).length / targets.length;
}

/** F1 of a class from what was found right, found at all, and there to be found; 0 where there is neither. */
const f1Of = (right: number, found: number, there: number): number => (found + there === 0 ? 0 : (2 * right) / (found + there));

/** The mean of the F1 of every class that is a target or a prediction of some row. */
export function macroF1(predicted: readonly number[], targets: readonly number[]): number {
  const scores = [...new Set([...predicted, ...targets])].map((label) => {
    const right = targets.filter((target, index) => target === label && predicted[index] === label).length;
    return f1Of(right, count(predicted, label), count(targets, label));
  });
  return scores.reduce((sum, score) => sum + score, 0) / scores.length;
}

const count = (values: readonly number[], label: number): number => values.filter((value) => value === label).length;

/**
 * Matthews correlation coefficient for any number of classes ("Comparing two K-category assignments by a K-category correlation coefficient"); 0 where all
 * predictions or all targets are one class.
 */
export function matthews(predicted: readonly number[], targets: readonly number[]): number {
  const labels = [...new Set([...predicted, ...targets])];
  const rows = targets.length;
  const right = targets.filter((target, index) => target === predicted[index]).length;
  const pairs = labels.map((label) => [count(predicted, label), count(targets, label)] as const);
  const sum = (term: (found: number, there: number) => number): number => pairs.reduce((total, [a, b]) => total + term(a, b), 0);
  const spread = Math.sqrt((rows * rows - sum((found) => found * found)) * (rows * rows - sum((_, there) => there * there)));
  return spread === 0 ? 0 : (right * rows - sum((found, there) => found * there)) / spread;
}

/** Pearson's correlation; 0 where one side is constant. */
export function pearson(a: readonly number[], b: readonly number[]): number {
  const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
  const [meanA, meanB] = [mean(a), mean(b)];
  let [both, ownA, ownB] = [0, 0, 0];
  for (const [index, value] of a.entries()) {
    const [da, db] = [value - meanA, (b[index] ?? 0) - meanB];
    both += da * db;
    ownA += da * da;
    ownB += db * db;
  }
  return ownA === 0 || ownB === 0 ? 0 : both / Math.sqrt(ownA * ownB);
}

/** Spearman's correlation: Pearson's of the ranks, equal values sharing the mean of theirs. */
export const spearman = (a: readonly number[], b: readonly number[]): number => pearson(ranks(a), ranks(b));

function ranks(values: readonly number[]): number[] {
  const order = [...values.keys()].sort((a, b) => (values[a] ?? 0) - (values[b] ?? 0));
  const found = new Array<number>(values.length);
  for (let start = 0; start < order.length; ) {
    let end = start + 1;
    while (end < order.length && values[order[end] ?? 0] === values[order[start] ?? 0]) end++;
    for (const place of order.slice(start, end)) found[place] = (start + end - 1) / 2;
    start = end;
  }
  return found;
}

/** Whether tags mark entities: `O`, `B-PER`, `I-PER`. */
export const marksEntities = (labels: readonly string[]): boolean =>
  labels.some((label) => label.startsWith('B-')) && labels.every((label) => label === 'O' || /^[BI]-./.test(label));

/** Precision, recall and F1 over the entities of all rows: one is right when its place and its kind are. */
export function entityScores(
  predicted: readonly (readonly string[])[],
  targets: readonly (readonly string[])[],
): { readonly precision: number; readonly recall: number; readonly f1: number } {
  let [right, found, there] = [0, 0, 0];
  for (const [row, tags] of targets.entries()) {
    const wanted = new Set(entitiesOf(tags));
    const got = entitiesOf(predicted[row] ?? []);
    there += wanted.size;
    found += got.length;
    right += got.filter((entity) => wanted.has(entity)).length;
  }
  return { precision: found === 0 ? 0 : right / found, recall: there === 0 ? 0 : right / there, f1: f1Of(right, found, there) };
}

/** The entities of a row as `kind start end`. An `I-` that goes on nothing begins one, as in the evaluation of the CoNLL-2003 shared task. */
function entitiesOf(tags: readonly string[]): string[] {
  const found: string[] = [];
  let open: { readonly kind: string; readonly start: number } | undefined;
  for (const [t, tag] of [...tags, 'O'].entries()) {
    const kind = tag.slice(2);
    if (open !== undefined && tag.startsWith('I-') && kind === open.kind) continue;
    if (open !== undefined) found.push(`${open.kind} ${open.start} ${t}`);
    open = tag === 'O' ? undefined : { kind, start: t };
  }
  return found;
}
