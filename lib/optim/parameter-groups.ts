import { InvalidArgumentError } from '../errors.js';
import { Tensor } from '../tensor.js';

/** Parameters that share settings; what a group leaves out comes from the optimizer's options. */
export type ParameterGroup<Settings> = {
  readonly parameters: Iterable<Tensor>;
  /** For people: shows up in error messages and saved states. */
  readonly name?: string;
} & { readonly [Key in keyof Settings]?: Settings[Key] | undefined };

/** One group as the optimizer holds it. `settings` may be changed between steps. */
export interface Group<Settings> {
  readonly name: string;
  readonly parameters: readonly Tensor[];
  readonly settings: Settings;
}

function isGroup<Settings>(value: Tensor | ParameterGroup<Settings>): value is ParameterGroup<Settings> {
  return !(value instanceof Tensor);
}

/** Reads a list of tensors (one group) or of groups, fills in defaults and checks that no parameter comes twice. */
export function readGroups<Settings extends object>(
  op: string,
  given: Iterable<Tensor> | Iterable<ParameterGroup<Settings>>,
  defaults: Settings,
  check: (settings: Settings, name: string) => void,
): Group<Settings>[] {
  const list = [...(given as Iterable<Tensor | ParameterGroup<Settings>>)];
  const tensors = list.filter((item) => item instanceof Tensor);
  if (tensors.length > 0 && tensors.length < list.length) {
    throw new InvalidArgumentError(`${op}: parameters are tensors or groups, not both; got ${tensors.length} tensors among ${list.length}`);
  }
  const raw: ParameterGroup<Settings>[] =
    tensors.length > 0 ? [{ parameters: tensors } as unknown as ParameterGroup<Settings>] : list.filter(isGroup);
  const seen = new Set<Tensor>();
  const groups = raw.map(({ parameters, name, ...rest }, i): Group<Settings> => {
    const label = name ?? `${i}`;
    const own = Object.fromEntries(Object.entries(rest).filter(([, value]) => value !== undefined));
    const settings = { ...defaults, ...own } as Settings;
    for (const key of Object.keys(settings)) {
      if (!(key in defaults))
        throw new InvalidArgumentError(
          `${op}: group ${label} has an unknown setting "${key}"; expected ${Object.keys(defaults).join(', ')}`,
        );
    }
    check(settings, label);
    const members = [...parameters];
    for (const x of members) {
      if (seen.has(x))
        throw new InvalidArgumentError(`${op}: a parameter of shape [${x.shape.join(', ')}] is in the list twice (group ${label})`);
      seen.add(x);
    }
    return { name: label, parameters: members, settings };
  });
  if (seen.size === 0) throw new InvalidArgumentError(`${op}: there is no parameter to train; got empty groups`);
  return groups;
}

/** Throws unless `value` lies in [low, high) (high may be infinite). */
export function checkRange(op: string, group: string, name: string, value: number, low: number, high: number): void {
  if (!(value >= low && value < high)) {
    throw new InvalidArgumentError(
      `${op}: ${name} of group ${group} is out of range; got ${value}, expected ${low} or more${high === Number.POSITIVE_INFINITY ? '' : ` and below ${high}`}`,
    );
  }
}
