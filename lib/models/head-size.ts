import { ConfigError } from '../errors.js';
import type { HeadOptions } from './encoder.js';

/** Labels of a config that names none: published configs leave the default of transformers out. */
const kDefaultLabels = 2;

/** The number of labels of a head, and whether it is the published head: one of another size starts anew, as one that is asked to. Throws `ConfigError` for a number that cannot be. */
export function headSizeOf(
  { id2label }: { readonly id2label?: Readonly<Record<string, string>> | null | undefined },
  { labels, startsAnew = false }: HeadOptions,
): { readonly labels: number; readonly isPublished: boolean } {
  if (labels !== undefined && !(Number.isSafeInteger(labels) && labels > 0))
    throw new ConfigError(`head: "labels" must be a positive integer; got ${labels}`);
  const published = id2label == null ? kDefaultLabels : Object.keys(id2label).length;
  return { labels: labels ?? published, isPublished: !startsAnew && (labels === undefined || labels === published) };
}
