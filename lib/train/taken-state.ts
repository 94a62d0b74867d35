import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { AdapterMethod, AnyMethod, CommonConfig } from '../adapters/adapter.js';
import { ConfigError } from '../errors.js';
import { readPeftFolder } from '../io/peft.js';
import { cast, notEqual } from '../ops/elementwise.js';
import { max } from '../ops/reduce.js';
import { disposeTensors, noGrad, scope } from '../scope.js';
import type { Tensor } from '../tensor.js';
import type { AnyTrainable } from './trainable.js';

/** Folder of a checkpoint with the part that its adapter took out of the frozen weights. */
export const kInitial = 'initial';

type Model = Pick<AnyTrainable, 'active' | 'adapters' | 'save'>;

/** Writes the part that an active adapter took out of the weights, as an adapter, if one did. */
export async function saveTaken(folder: string, model: Model): Promise<void> {
  const owner = ownerOf(model);
  if (owner !== undefined) await model.save(join(folder, kInitial), { name: owner, form: 'initial' });
}

/** Throws `ConfigError` where what an active adapter took out of the weights is not what it had taken when the checkpoint was written. */
export async function requireSameTaken(folder: string, model: Model): Promise<void> {
  const owner = ownerOf(model);
  const initial = join(folder, kInitial);
  if (owner === undefined && !existsSync(initial)) return;
  if (owner !== undefined && existsSync(initial) && (await holdsTaken(initial, model, owner))) return;
  throw new ConfigError(
    `resume: the frozen weights of the model are not those of the run in "${folder}": its adapter began with another part of them; ` +
      (existsSync(initial) ? howToAttach(initial, model, owner) : 'expected an adapter that leaves them whole'),
  );
}

/** What gives the weights of the run, for an adapter as configured. */
function howToAttach(initial: string, { adapters }: Model, owner: string | undefined): string {
  const { method, config } = owner === undefined ? {} : adapters.get(owner);
  const followsFromFactors = (method as AnyMethod | undefined)?.takes?.(config)?.formedFromFactors ?? false;
  return followsFromFactors ? `attach it with initial: "${initial}"` : 'attach it with the same options and seed';
}

const ownerOf = ({ active, adapters }: Model): string | undefined =>
  active.find((name) => adapters.get(name).placements.some(({ module }) => module.taken !== undefined));

function holdsTaken(folder: string, { adapters }: Model, owner: string): Promise<boolean> {
  return scope(async () => {
    const { method, config, placements } = adapters.get(owner);
    const own = noGrad(() => (method as AdapterMethod<string, CommonConfig>).portable?.(config, placements, 'initial').tensors ?? []);
    const { tensors } = await readPeftFolder(folder);
    try {
      if (own.length !== tensors.size) return false;
      for (const [name, value] of own) if (!(await sameValues(value, tensors.get(name)))) return false;
      return true;
    } finally {
      disposeTensors(tensors.values());
    }
  });
}

async function sameValues(own: Tensor, stored: Tensor | undefined): Promise<boolean> {
  if (stored === undefined || stored.dtype !== own.dtype || String(stored.shape) !== String(own.shape)) return false;
  return scope(async () => (await noGrad(() => max(cast(notEqual(own, stored), 'f32'))).item()) === 0);
}
