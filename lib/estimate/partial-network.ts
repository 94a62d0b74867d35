import type { CausalLanguageModel } from '../models/causal-language-model.js';
import { type Layer, type Module, ModuleList } from '../nn/module.js';

/** Some of the blocks of a network, under the numbers that they have there. */
class ChosenBlocks extends ModuleList<Layer> {
  readonly #numbers: readonly number[];

  constructor(blocks: readonly Layer[], numbers: readonly number[]) {
    super(blocks);
    this.#numbers = numbers;
  }

  override *namedChildren(): Iterable<[string, Module]> {
    for (const [index, block] of [...this].entries()) yield [String(this.#numbers[index]), block];
  }

  override setChild(name: string, replacement: Module): void {
    super.setChild(String(this.#numbers.indexOf(Number(name))), replacement);
  }
}

/** Takes all blocks but these out of a network that has no weights yet; the others keep their names. */
export function keepBlocks(network: CausalLanguageModel, numbers: readonly number[]): void {
  const { layers } = network.model;
  network.model.setChild(
    'layers',
    new ChosenBlocks(
      numbers.map((number) => layers.at(number)),
      numbers,
    ),
  );
}

const kBlocks = 'model.layers.';

/** The number of the block that a module path lies in, undefined outside of the blocks. */
export function blockOf(path: string): number | undefined {
  if (!path.startsWith(kBlocks)) return undefined;
  return Number.parseInt(path.slice(kBlocks.length), 10);
}
