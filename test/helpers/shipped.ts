import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { attach, loadModel, type Model, type TunedModel } from 'lorikeet';

/** The model and text that the repository ships; tests run from the root of the package. */
export const shippedModel = resolve('examples/stories260k');
export const shippedText = (name: 'train' | 'dev'): string => resolve(`examples/shakespeare/${name}.jsonl`);

/** The first texts of the shipped training file. */
export function shippedRows(count: number): string[] {
  const lines = readFileSync(shippedText('train'), 'utf8').split('\n').slice(0, count);
  return lines.map((line) => (JSON.parse(line) as { text: string }).text);
}

/** The shipped model with a small adapter, disposed when `use` ends. */
export async function withTuned<T>(use: (tuned: TunedModel, model: Model) => Promise<T>, options: { dropout?: number } = {}): Promise<T> {
  const model = await loadModel(shippedModel);
  try {
    const tuned = await attach(model, { type: 'lora', rank: 4, alpha: 8, targets: 'all-linear', ...options }, { seed: 5 });
    return await use(tuned, model).finally(() => tuned.dispose());
  } finally {
    model.dispose();
  }
}
