import { AdapterError, ConfigError, didYouMean } from '../errors.js';
import { readPeftFolder } from '../io/peft.js';
import { cast, clone } from '../ops/elementwise.js';
import { disposeTensors, noGrad, scope, unscoped } from '../scope.js';
import type { DType, Tensor } from '../tensor.js';
import type { Target } from './adapter.js';
import type { PolyConfig } from './poly-config.js';

const kEnds = ['poly_lora_A', 'poly_lora_B'] as const;

/** The skills of a saved Poly adapter, to begin with in another training. Owns its tensors. */
export class Inventory {
  /** What was asked for, with the sizes of the file. */
  readonly config: PolyConfig;
  readonly #tensors: ReadonlyMap<string, Tensor>;

  private constructor(config: PolyConfig, tensors: ReadonlyMap<string, Tensor>) {
    this.config = config;
    this.#tensors = tensors;
  }

  /**
   * Reads the folder that the config names. Throws `AdapterError` for an adapter of another method, `ConfigError` where its layers are not
   * the targets.
   */
  static async read(config: PolyConfig, targets: readonly Target[]): Promise<Inventory> {
    const folder = config.inventory as string;
    const { config: file, tensors } = await readPeftFolder(folder);
    try {
      if (file.method.name !== 'poly')
        throw new AdapterError(`poly: inventory "${folder}" holds another kind of adapter; got "${file.method.name}", expected "poly"`);
      checkLayers(folder, targets, tensors);
      const { rank, alpha, skills, splits } = file.config as PolyConfig;
      return new Inventory({ ...config, rank, alpha, skills, splits }, tensors);
    } catch (error) {
      disposeTensors(tensors.values());
      throw error;
    }
  }

  /** Copies of the factors of a layer; trained unless the router alone is. */
  factors({ path }: Target, dtype: DType): { a: Tensor; b: Tensor } {
    const trained = this.config.finetune !== 'z';
    const copy = (end: string): Tensor => {
      const value = this.#tensors.get(`${path}.${end}`) as Tensor;
      return unscoped(() => scope(() => noGrad(() => (value.dtype === dtype ? clone(value) : cast(value, dtype))))).setRequiresGrad(
        trained,
      );
    };
    return { a: copy(kEnds[0]), b: copy(kEnds[1]) };
  }

  dispose(): void {
    disposeTensors(this.#tensors.values());
  }
}

/** Every target must be in the inventory, and all of the inventory among the targets: skills that are left out would be lost unnoticed. */
function checkLayers(folder: string, targets: readonly Target[], tensors: ReadonlyMap<string, Tensor>): void {
  const wanted = new Set(targets.map(({ path }) => path));
  const absent = targets.find(({ path }) => kEnds.some((end) => !tensors.has(`${path}.${end}`)));
  const held = [...tensors.keys()].filter((name) => name.endsWith(`.${kEnds[0]}`)).map((name) => name.slice(0, -kEnds[0].length - 1));
  if (absent !== undefined)
    throw new ConfigError(
      `poly: inventory "${folder}" has no skills for "${absent.path}"${didYouMean(absent.path, held)}; expected the targets that it was trained with`,
    );
  const left = held.find((path) => !wanted.has(path));
  if (left !== undefined)
    throw new ConfigError(
      `poly: inventory "${folder}" has skills for "${left}", which is no target; expected the targets that it was trained with`,
    );
}
