import * as ops from 'lorikeet/ops';
import type { Dense, OpCase } from '../helpers/battery.js';

const owned = [0, 3, 4, 11, 17, 30, 31, 34];
const places = (index: number): number => owned[index] as number;

/** The places of a bitmask. */
const placesOf = ({ data }: Dense, size: number): number[] =>
  Array.from({ length: size }, (_, i) => i).filter((i) => ((data[i >> 3] as number) >> (i & 7)) & 1);
const bytes = [0b10011001, 0b01110000, 0b00000001, 0b11000010, 0b101];
const byte = (index: number): number => bytes[index] as number;
const ownedByBytes = placesOf({ shape: [5], data: bytes }, 35).length;

/** The elements of the blocks that a mask over the grid owns, block by block. */
function blocksOf(grid: Dense, [, columns = 0]: readonly number[], block: number): number[] {
  const across = columns / block;
  return placesOf(grid, 12).flatMap((entry) =>
    Array.from({ length: block * block }, (_, i) => {
      const row = Math.floor(entry / across) * block + Math.floor(i / block);
      return row * columns + (entry % across) * block + (i % block);
    }),
  );
}
const gridBytes = [0b01000110, 0b1001];
const gridByte = (index: number): number => gridBytes[index] as number;

const replaced = (x: Dense, at: readonly number[], values: Dense): number[] =>
  x.data.map((value, i) => (at.includes(i) ? (values.data[at.indexOf(i)] as number) : value));

const added = (x: Dense, at: readonly number[], values: Dense): number[] =>
  x.data.map((value, i) => (at.includes(i) ? value + (values.data[at.indexOf(i)] as number) : value));

const notBatched = 'a mask is over all rows together';

export const cases: OpCase[] = [
  {
    name: 'maskedGather by indices',
    covers: ['maskedGather'],
    inputs: [{ shape: [5, 7] }, { shape: [8], dtype: 'i32', values: places }],
    run: (x, mask) => ops.maskedGather(x, mask, 8),
    reference: (x, mask) => mask.data.map((at) => x.data[at] as number),
    notBatched,
  },
  {
    name: 'maskedGather by a bitmask',
    covers: ['maskedGather'],
    inputs: [{ shape: [5, 7] }, { shape: [5], dtype: 'u8', values: byte }],
    run: (x, mask) => ops.maskedGather(x, mask, ownedByBytes),
    reference: (x, mask) => placesOf(mask, 35).map((at) => x.data[at] as number),
    notBatched,
  },
  {
    name: 'maskedGather of blocks',
    covers: ['maskedGather'],
    inputs: [{ shape: [6, 8] }, { shape: [2], dtype: 'u8', values: gridByte }],
    run: (x, mask) => ops.maskedGather(x, mask, 5, { block: 2 }),
    reference: (x, mask) => blocksOf(mask, x.shape, 2).map((at) => x.data[at] as number),
    notBatched,
  },
  {
    name: 'maskedUpdate by indices',
    covers: ['maskedUpdate'],
    inputs: [{ shape: [5, 7] }, { shape: [8], dtype: 'i32', values: places }, { shape: [8] }],
    run: (x, mask, values) => ops.maskedUpdate(x, mask, values),
    reference: (x, mask, values) => replaced(x, mask.data, values),
    notBatched,
  },
  {
    name: 'maskedUpdate by a bitmask',
    covers: ['maskedUpdate'],
    inputs: [{ shape: [5, 7] }, { shape: [5], dtype: 'u8', values: byte }, { shape: [ownedByBytes] }],
    run: (x, mask, values) => ops.maskedUpdate(x, mask, values),
    reference: (x, mask, values) => replaced(x, placesOf(mask, 35), values),
    notBatched,
  },
  {
    name: 'maskedUpdate of blocks',
    covers: ['maskedUpdate'],
    inputs: [{ shape: [6, 8] }, { shape: [2], dtype: 'u8', values: gridByte }, { shape: [5, 2, 2] }],
    run: (x, mask, values) => ops.maskedUpdate(x, mask, values, { block: 2 }),
    reference: (x, mask, values) => replaced(x, blocksOf(mask, x.shape, 2), values),
    notBatched,
  },
  {
    name: 'maskedUpdate adds by indices',
    covers: ['maskedUpdate'],
    inputs: [{ shape: [5, 7] }, { shape: [8], dtype: 'i32', values: places }, { shape: [8] }],
    run: (x, mask, values) => ops.maskedUpdate(x, mask, values, { mode: 'add' }),
    reference: (x, mask, values) => added(x, mask.data, values),
    notBatched,
  },
  {
    name: 'maskedUpdate adds to blocks by a bitmask',
    covers: ['maskedUpdate'],
    inputs: [{ shape: [6, 8] }, { shape: [2], dtype: 'u8', values: gridByte }, { shape: [5, 2, 2] }],
    run: (x, mask, values) => ops.maskedUpdate(x, mask, values, { mode: 'add', block: 2 }),
    reference: (x, mask, values) => added(x, blocksOf(mask, x.shape, 2), values),
    notBatched,
  },
];
