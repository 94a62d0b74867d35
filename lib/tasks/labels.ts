import { describeValue } from '../data/row.js';
import type { DataSource } from '../data/source.js';
import { ConfigError, didYouMean, FormatError } from '../errors.js';

/** Labels that a message lists. */
const kListed = 12;

/**
 * A function from the value of a field to the number of its class: a name of the model's labels (`3` is the label "3" where there is one), or a number (also as text, as CSV gives it). Where the source has
 * `labels` of its own, numbers count those. Throws `ConfigError` for a label of the source that the model does not have; the function `FormatError` at `where`.
 */
export function labelReader(labels: readonly string[], source: DataSource): (value: unknown, name: string, where: string) => number {
  const numbers = new Map(labels.map((label, index) => [label, index]));
  const named = source.labels?.map((label) => {
    const index = numbers.get(label);
    if (index === undefined)
      throw new ConfigError(`data: label "${label}" is none of the model's${didYouMean(label, labels)}; expected ${listed(labels)}`);
    return index;
  });
  return (value, name, where) => {
    const known = isScalar(value) ? numbers.get(String(value)) : undefined;
    if (known !== undefined) return known;
    const number = typeof value === 'string' && /^\d+$/.test(value) ? Number(value) : typeof value === 'bigint' ? Number(value) : value;
    const count = named?.length ?? labels.length;
    if (typeof number === 'number' && Number.isInteger(number) && number >= 0 && number < count) return named?.[number] ?? number;
    throw new FormatError(
      `${where}: field "${name}" is no label; got ${describeValue(value)}, expected 0 to ${count - 1} or one of ${listed(labels)}`,
    );
  };
}

const isScalar = (value: unknown): boolean => typeof value === 'string' || typeof value === 'number' || typeof value === 'bigint';

const listed = (labels: readonly string[]): string =>
  labels.length > kListed ? `${labels.slice(0, kListed).join(', ')}, …` : labels.join(', ');
