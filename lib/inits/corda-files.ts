import { stat } from 'node:fs/promises';
import { ConfigError } from '../errors.js';
import { loadSafetensors, saveSafetensors } from '../io/safetensors.js';
import { readSafetensorsHeader } from '../io/safetensors-files.js';
import type { Tensor } from '../tensor.js';
import { requireFinite } from './finite.js';
import type { StartLayer } from './init.js';

/** The components of W C' that are trained: S [R], U [N, R], and V [K, R], the right ones times the inverse of C'. */
export interface Eigens {
  readonly s: Tensor;
  readonly u: Tensor;
  readonly v: Tensor;
}

/** Whether there is a file with something in it. */
export const isThere = (file: string | null): Promise<boolean> =>
  file === null
    ? Promise.resolve(false)
    : stat(file).then(
        ({ size }) => size > 0,
        () => false,
      );

async function named(
  file: string,
  option: string,
  wanted: ReadonlyMap<string, { readonly shape: readonly number[]; readonly of: string }>,
): Promise<Map<string, Tensor>> {
  const stored = await loadSafetensors(file);
  try {
    for (const [name, { shape, of }] of wanted) {
      const found = stored.get(name);
      if (found === undefined) throw new ConfigError(`corda: ${option} "${file}" has no "${name}"; it was made for other targets`);
      if (String(found.shape) !== String(shape)) {
        throw new ConfigError(
          `corda: ${of} of ${option} "${file}" is of another shape; got [${found.shape.join(', ')}] for "${name}", expected [${shape.join(', ')}]`,
        );
      }
      await requireFinite([found], `corda: "${name}" of ${option} "${file}"`);
    }
    for (const [name, value] of stored) if (!wanted.has(name)) value.dispose();
    return stored;
  } catch (error) {
    for (const value of stored.values()) value.dispose();
    throw error;
  }
}

/** The covariances of layers by path, as `writeCovariances` wrote them; the caller owns them. Throws `ConfigError` for missing ones and other shapes. */
export function readCovariances(file: string, layers: readonly StartLayer[]): Promise<Map<string, Tensor>> {
  const wanted = layers.map(({ path, layer }) => [path, { shape: [layer.inFeatures, layer.inFeatures], of: 'the covariance' }] as const);
  return named(file, 'covarianceFile', new Map(wanted));
}

/** Writes the covariance of each layer under its path. */
export async function writeCovariances(file: string, covariances: ReadonlyMap<string, Tensor>): Promise<void> {
  await saveSafetensors(file, covariances, { format: 'lorikeet-corda-covariance' });
}

/** The components of layers by path, as `writeEigens` wrote them. Throws `ConfigError` for another method, missing layers, and other shapes. */
export async function readEigens(file: string, method: string, layers: readonly StartLayer[]): Promise<Map<string, Eigens>> {
  const { metadata } = readSafetensorsHeader(file);
  if (metadata.method !== undefined && metadata.method !== method)
    throw new ConfigError(`corda: cacheFile "${file}" was made with method "${metadata.method}"; got "${method}"`);
  const wanted = layers.flatMap(({ path, layer, rank }) => [
    [`${path}.eigens.S_WC`, { shape: [rank], of: 'S' }] as const,
    [`${path}.eigens.U_WC`, { shape: [layer.outFeatures, rank], of: 'U' }] as const,
    [`${path}.eigens.V_WC`, { shape: [layer.inFeatures, rank], of: 'V' }] as const,
  ]);
  const stored = await named(file, 'cacheFile', new Map<string, { readonly shape: readonly number[]; readonly of: string }>(wanted));
  const get = (path: string, name: string): Tensor => stored.get(`${path}.eigens.${name}`) as Tensor;
  return new Map(layers.map(({ path }) => [path, { s: get(path, 'S_WC'), u: get(path, 'U_WC'), v: get(path, 'V_WC') }]));
}

export async function writeEigens(file: string, method: string, eigens: ReadonlyMap<string, Eigens>): Promise<void> {
  const tensors = [...eigens].flatMap(([path, { s, u, v }]): [string, Tensor][] => [
    [`${path}.eigens.S_WC`, s],
    [`${path}.eigens.U_WC`, u],
    [`${path}.eigens.V_WC`, v],
  ]);
  await saveSafetensors(file, new Map(tensors), { format: 'lorikeet-corda', method });
}
