import { type Filter, type FilterRow, filterRows } from '../filters.js';

/** Bytes of an image, channels next to each other. */
export interface Pixels {
  readonly bytes: Uint8Array;
  readonly width: number;
  readonly height: number;
  readonly channels: number;
}

/** An image of another size, as Pillow makes it: first along the rows, then along the columns, rounded to bytes each time. */
export function resizeImage(image: Pixels, width: number, height: number, filter: Filter): Pixels {
  const wide = image.width === width ? image : acrossRows(image, width, filterRows(image.width, width, filter));
  return wide.height === height ? wide : downColumns(wide, height, filterRows(wide.height, height, filter));
}

function acrossRows({ bytes, width: from, height, channels }: Pixels, width: number, rows: readonly FilterRow[]): Pixels {
  const result = new Uint8ClampedArray(width * height * channels);
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) {
      const { first, weights } = rows[x] as FilterRow;
      for (let c = 0; c < channels; c++) {
        let sum = 0;
        let at = (y * from + first) * channels + c;
        for (let j = 0; j < weights.length; j++, at += channels) sum += (weights[j] as number) * (bytes[at] as number);
        result[(y * width + x) * channels + c] = sum;
      }
    }
  return { bytes: new Uint8Array(result.buffer), width, height, channels };
}

function downColumns({ bytes, width, channels }: Pixels, height: number, rows: readonly FilterRow[]): Pixels {
  const stride = width * channels;
  const result = new Uint8ClampedArray(height * stride);
  const sums = new Float64Array(stride);
  for (let y = 0; y < height; y++) {
    const { first, weights } = rows[y] as FilterRow;
    sums.fill(0);
    for (let j = 0; j < weights.length; j++) {
      const weight = weights[j] as number;
      const start = (first + j) * stride;
      for (let i = 0; i < stride; i++) sums[i] = (sums[i] as number) + weight * (bytes[start + i] as number);
    }
    result.set(sums, y * stride);
  }
  return { bytes: new Uint8Array(result.buffer), width, height, channels };
}
