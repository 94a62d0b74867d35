import type { EncoderModel } from '../encoder-model.js';
import { AdapterError, ConfigError, didYouMean } from '../errors.js';
import { type PeftFolder, readPeftFolder } from '../io/peft.js';
import type { Model } from '../model.js';
import type { EncoderTask } from '../models/encoder.js';
import { kResidual, residualOf } from '../models/residual.js';
import { cast } from '../ops/elementwise.js';
import { copyInto } from '../ops/shape.js';
import { noGrad, scope } from '../scope.js';
import type { Tensor } from '../tensor.js';
import type { TakenKind } from './adapter.js';
import type { Attached, AttachOptions } from './adapter-set.js';
import { namedTensorsOf } from './adapter-table.js';
import { differingBases } from './base-weights.js';
import { candidatesOf } from './inject.js';
import { withPublishedNames } from './newer-names.js';
import { resolveOptions, targetOptions } from './resolve-config.js';
import { unmatchedEntries } from './targets.js';
import type { AdaptedModel, Tuned } from './tuned.js';
import type { TunedEncoder } from './tuned-encoder.js';
import type { TunedModel } from './tuned-model.js';
import { tunedOf } from './tuned-of.js';

/** What an adapter folder and the model did not agree on. All lists empty: a perfect fit. */
export interface LoadReport {
  /** Tensors the adapter needs and the file does not have: they keep their starting values. */
  readonly missing: readonly string[];
  /** Tensors of the file that belong nowhere: they are left out. */
  readonly unexpected: readonly string[];
  /** Tensors of another shape: they are left out. */
  readonly mismatched: readonly { readonly key: string; readonly got: readonly number[]; readonly expected: readonly number[] }[];
  /** Copies of base weights in the file that differ from this model's: the adapter was made for another base. */
  readonly otherBase: readonly string[];
  /** Keys of the config that are not known; kept for saving. */
  readonly unknownKeys: readonly string[];
  /** Target entries of the config that match no module of this model. */
  readonly unmatchedTargets: readonly string[];
}

/** An adapter folder does not fit the model; `report` holds the whole list. */
export class AdapterMismatchError extends AdapterError {
  readonly report: LoadReport;

  constructor(message: string, report: LoadReport) {
    super(message);
    this.report = report;
  }
}

export interface LoadAdapterOptions extends Pick<AttachOptions, 'name' | 'seed' | 'activate' | 'signal' | 'onProgress'> {
  /**
   * Of an adapter whose file says that its weights were split first (`init_lora_weights` such as `pissa`): folder of the initial adapter that was saved before
   * training. Without it the split is computed again, where that has the same result every time.
   */
  readonly initial?: string | undefined;
  /** Compute the split again although a random or data-driven one is not the one that was trained on, so that the model is only nearly that. Default false. */
  readonly approximate?: boolean;
  /** False: load what fits and return a report. Default true: anything that does not fit is an error. */
  readonly strict?: boolean;
  /** Called for what is odd but harmless (unknown config keys, targets without a module). Default: a process warning. */
  readonly onWarning?: (message: string) => void;
}

/**
 * Puts a published adapter (a PEFT folder) onto a model. Every tensor of the file must belong somewhere and every tensor of the adapter must be in the file, with
 * the right shape, else an `AdapterMismatchError` lists all that is wrong and the model has the bits from before. With `strict: false` what fits is loaded, and a
 * report says what did not.
 *
 * ```ts
 * const tuned = await loadAdapter(model, './my-adapter', { name: 'notes' });
 * ```
 *
 * Throws `FormatError` for broken files, `ConfigError` for a config whose meaning is not supported, and `AdapterError` where the model holds weights that were
 * split already.
 */
export function loadAdapter(
  model: Model | TunedModel,
  folder: string,
  options?: LoadAdapterOptions & { readonly strict?: true },
): Promise<TunedModel>;
export function loadAdapter(
  model: Model | TunedModel,
  folder: string,
  options: LoadAdapterOptions & { readonly strict: false },
): Promise<{ readonly tuned: TunedModel; readonly report: LoadReport }>;
export function loadAdapter<T extends EncoderTask>(
  model: EncoderModel<T> | TunedEncoder<T>,
  folder: string,
  options?: LoadAdapterOptions & { readonly strict?: true },
): Promise<TunedEncoder<T>>;
export function loadAdapter<T extends EncoderTask>(
  model: EncoderModel<T> | TunedEncoder<T>,
  folder: string,
  options: LoadAdapterOptions & { readonly strict: false },
): Promise<{ readonly tuned: TunedEncoder<T>; readonly report: LoadReport }>;
export async function loadAdapter(
  model: AdaptedModel | TunedModel | TunedEncoder,
  folder: string,
  options: LoadAdapterOptions = {},
): Promise<unknown> {
  const {
    strict = true,
    approximate = false,
    onWarning = (message: string) => process.emitWarning(message, 'LorikeetWarning'),
    ...rest
  } = options;
  const tuned = tunedOf(model);
  const source = withPublishedNames(await readPeftFolder(folder), tuned.model.network);
  try {
    const { method, config, file } = source.config;
    const taken = method.takes?.(config);
    checkSplit(folder, taken, tuned, options);
    // An adapter that splits the weights itself is not the one that a split model lacks.
    const { [kResidual]: _, ...unmarked } = file;
    let found: LoadReport | undefined;
    const resolved = resolveOptions(method, { ...config, allowUnmatched: true });
    await tuned.adapters.add(resolved, rest, taken === undefined ? file : unmarked, async (attached) => {
      found = await fill(tuned.model, attached, source);
      if (strict) requireFit(folder, found, attached, source);
    });
    const report = found as LoadReport;
    if (report.unknownKeys.length > 0)
      onWarning(`${folder}: unknown keys in adapter_config.json are kept but not understood: ${report.unknownKeys.join(', ')}`);
    if (report.unmatchedTargets.length > 0)
      onWarning(`${folder}: targets without a module in this model: ${report.unmatchedTargets.join(', ')}`);
    return strict ? tuned : { tuned, report };
  } finally {
    for (const tensor of source.tensors.values()) tensor.dispose();
  }
}

/** Throws where the weights that the adapter was trained on cannot be had from those of the model. */
function checkSplit(folder: string, taken: TakenKind | undefined, { model }: Tuned<AdaptedModel>, options: LoadAdapterOptions): void {
  const { initial, approximate = false } = options;
  if (taken === undefined) {
    if (initial === undefined && !approximate) return;
    throw new ConfigError(`loadAdapter: ${folder} is for the weights as they are; expected no "initial" and no "approximate"`);
  }
  const residual = residualOf(model);
  if (residual !== undefined)
    throw new AdapterError(
      `loadAdapter: ${folder} is marked "${taken.name}" and would split the weights, but this model holds what "${residual}" left of them; expected an adapter ` +
        'with init_lora_weights true, or the published model',
    );
  if (initial !== undefined || taken.repeatable || (approximate && !taken.usesData)) return;
  throw new ConfigError(
    `loadAdapter: ${folder} is for weights that "${taken.name}" has changed, and its result cannot be computed again; expected its initial adapter ` +
      '(initial: FOLDER), or the adapter converted to plain LoRA in PEFT (save_pretrained with path_initial_model_for_weight_conversion)' +
      (taken.usesData ? '' : '; approximate: true takes a result that is nearly the same'),
  );
}

const same = (a: readonly number[], b: readonly number[]): boolean => a.length === b.length && a.every((size, i) => size === b[i]);

/** Every parameter of an adapter by the name it has in a file. */
function slotsOf(attached: Attached): Map<string, Tensor> {
  return new Map(attached.placements.flatMap(namedTensorsOf));
}

/** Copies the values of the file into the adapter, those that fit, and says what did not. */
async function fill({ network }: AdaptedModel, attached: Attached, source: PeftFolder): Promise<LoadReport> {
  const slots = slotsOf(attached);
  const missing = [...slots.keys()].filter((key) => !source.tensors.has(key));
  const unexpected: string[] = [];
  const mismatched: { key: string; got: readonly number[]; expected: readonly number[] }[] = [];
  const bases = new Map<string, Tensor>();
  // Beside a split weight the file has the rest of it, which nobody can compare bit for bit.
  const split = new Set(
    attached.placements.flatMap(({ path, module }) => (module.taken === undefined ? [] : [`${path}.base_layer.weight`])),
  );
  for (const [key, value] of source.tensors) {
    const slot = slots.get(key);
    if (slot === undefined) {
      if (!key.endsWith('.base_layer.weight')) unexpected.push(key);
      else if (!split.has(key)) bases.set(key, value);
    } else if (!same(slot.shape, value.shape)) {
      mismatched.push({ key, got: value.shape, expected: slot.shape });
    } else {
      scope(() => noGrad(() => copyInto(slot, cast(value, slot.dtype))));
    }
  }
  const compared = await differingBases(network, attached, bases);
  const targets = targetOptions(attached.method, attached.config);
  return {
    missing,
    unexpected: [...unexpected, ...compared.unexpected],
    mismatched,
    otherBase: compared.differing,
    unknownKeys: source.config.unknownKeys.filter((key) => key !== kResidual),
    unmatchedTargets: unmatchedEntries(targets.targets, candidatesOf(network, attached.method)),
  };
}

const kListed = 8;

function listed(title: string, entries: readonly string[]): string[] {
  if (entries.length === 0) return [];
  const more = entries.length > kListed ? [`  … and ${entries.length - kListed} more`] : [];
  return [`${title} (${entries.length}):`, ...entries.slice(0, kListed).map((entry) => `  ${entry}`), ...more];
}

function requireFit(folder: string, report: LoadReport, attached: Attached, source: PeftFolder): void {
  const { missing, unexpected, mismatched, otherBase } = report;
  if (missing.length + unexpected.length + mismatched.length + otherBase.length === 0) return;
  const expected = [...slotsOf(attached).keys()];
  const lines = [
    ...listed(
      'missing in the file',
      missing.map((key) => `${key}${didYouMean(key, source.tensors.keys())}`),
    ),
    ...listed(
      'unexpected in the file',
      unexpected.map((key) => `${key}${didYouMean(key, expected)}`),
    ),
    ...listed(
      'of another shape',
      mismatched.map(({ key, got, expected: wanted }) => `${key}: got [${got.join(', ')}], expected [${wanted.join(', ')}]`),
    ),
    ...listed('with another base weight than this model', otherBase),
  ];
  throw new AdapterMismatchError(
    `loadAdapter: ${folder} does not fit the model; strict: false loads what fits\n${lines.join('\n')}`,
    report,
  );
}
