// Index arithmetic on plain arrays, for references.

import type { Dense } from './op-case.js';
import { sizeOf } from './values.js';

/** The index in each dimension of element `at`. */
export function placeOf(shape: readonly number[], at: number): number[] {
  return shape.map((size, i) => Math.floor(at / sizeOf(shape.slice(i + 1))) % size);
}

/** The element number of a place. */
export const offsetOf = (shape: readonly number[], place: readonly number[]): number =>
  place.reduce((at, index, i) => at * (shape[i] as number) + index, 0);

/** Builds an array of `shape` from the place of each element. */
export function build(shape: readonly number[], value: (place: number[]) => number): number[] {
  return Array.from({ length: sizeOf(shape) }, (_, at) => value(placeOf(shape, at)));
}

export const at = (x: Dense, place: readonly number[]): number => x.data[offsetOf(x.shape, place)] as number;

/** Groups of the elements that a reduction of `dims` brings together, one group for each element of the result. */
export function groups(x: Dense, dims: readonly number[]): number[][] {
  const kept = x.shape.map((size, i) => (dims.includes(i) ? 1 : size));
  const result = Array.from({ length: sizeOf(kept) }, (): number[] => []);
  x.data.forEach((value, i) => {
    const place = placeOf(x.shape, i).map((index, dim) => (dims.includes(dim) ? 0 : index));
    result[offsetOf(kept, place)]?.push(value);
  });
  return result;
}
