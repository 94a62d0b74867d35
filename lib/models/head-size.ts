import { ConfigError } from '../errors.js';
import type { HeadOptions } from './encoder.js';

/** Labels of a config that names none: published configs leave the default of transformers out. */
const kDefaultLabels = 2;

/** The number of labels of a head, and whether the published head is of that size; another one starts anew. Throws `ConfigError` for a number that cannot be. */
export function headSizeOf(
  { id2label }: { readonly id2label?: Readonly<Record<string, string>> | null | undefined },
  { labels }: HeadOptions,
): { readonly labels: number; readonly isPublished: boolean } {
  if (labels !== undefined && !(Number.isSafeInteger(labels) && labels > 0))
    throw new ConfigError(`head: "labels" must be a positive integer; got ${labels}`);
  const published = id2label == null ? kDefaultLabels : Object.keys(id2label).length;
  return { labels: labels ?? published, isPublished: labels === undefined || labels === published };
}
