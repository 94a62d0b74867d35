import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { ConfigError, FormatError, InvalidArgumentError, throwIfAborted } from '../errors.js';
import type { Filter } from '../filters.js';
import { isJsonObject, type JsonObject } from '../io/json.js';
import { readConfig } from '../models/config.js';
import type { FrontEnd, Values } from './front-end.js';
import { type Pixels, resizeImage } from './resize-image.js';

const side = z.int().positive();
/** Height and width, given by one number or two, or the length of the shorter side. */
const extent = z.union([side, z.object({ height: side, width: side }), z.object({ shortest_edge: side })]);
const channels = z.union([z.number(), z.array(z.number()).min(1)]);

/** Keys of `preprocessor_config.json`, as the image processors of transformers spell them. */
const keys = z.object({
  do_resize: z.boolean().default(true),
  size: extent,
  resample: z.int().min(0).max(5).default(2),
  do_center_crop: z.boolean().default(false),
  crop_size: extent.nullish(),
  do_rescale: z.boolean().default(true),
  rescale_factor: z
    .number()
    .positive()
    .default(1 / 255),
  do_normalize: z.boolean().default(true),
  image_mean: channels.default(0.5),
  image_std: channels.default(0.5),
});

/** How an image becomes what a network reads. */
export interface ImageOptions {
  readonly channels: 1 | 3;
  /** What the image is resized to: both sides, or the shorter one; undefined: it stays as it is. */
  readonly size: Size | { readonly shortest: number } | undefined;
  readonly filter: Filter;
  /** What is cut out of the middle; undefined: all. What lies outside the image is black. */
  readonly crop: Size | undefined;
  /** How half a pixel before it is rounded: down, or to the even number as torchvision does. */
  readonly halves: 'down' | 'even';
  /** What the values from 0 to 255 are multiplied by. */
  readonly factor: number;
  /** Then taken off, and divided by, for each channel. */
  readonly mean: readonly number[];
  readonly deviation: readonly number[];
}

interface Size {
  readonly height: number;
  readonly width: number;
}

/** Filters by the numbers of Pillow. */
const filters: Readonly<Record<number, Filter>> = { 0: 'nearest', 1: 'lanczos', 2: 'linear', 3: 'cubic' };
const timmFilters: Readonly<Record<string, number>> = { nearest: 0, lanczos: 1, bilinear: 2, bicubic: 3 };

/** Means and deviations of ImageNet, which timm takes where a config has none. */
const imageNet = { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };

/**
 * The settings of an image front end: those of `preprocessor_config.json`, of timm's `pretrained_cfg`, or the published size of the config, else that of `example`,
 * what the network reads [C, H, W]. Throws `ConfigError`.
 */
export function readImageOptions(settings: JsonObject | undefined, config: JsonObject, example?: readonly number[]): ImageOptions {
  const timm = settings === undefined ? fromTimm(config, example) : undefined;
  const read = readConfig(keys, settings ?? timm ?? { size: publishedSize(config, example) });
  const filter = filters[read.resample];
  if (filter === undefined) throw new ConfigError(`model config: "resample" ${read.resample} is not supported; expected 0, 1, 2 or 3`);
  const count = config.num_channels ?? config.in_chans ?? example?.[0] ?? 3;
  if (count !== 1 && count !== 3) throw new ConfigError(`model config: images have 1 or 3 channels; got ${JSON.stringify(count)}`);
  const perChannel = (key: string, values: number | readonly number[]): readonly number[] => {
    const list = typeof values === 'number' ? new Array<number>(count).fill(values) : values;
    if (list.length !== count)
      throw new ConfigError(`model config: "${key}" must have a number for each channel; got ${list.length}, expected ${count}`);
    return list;
  };
  const crop = read.do_center_crop ? sizeOf(read.crop_size ?? read.size) : undefined;
  if (crop !== undefined && 'shortest' in crop) throw new ConfigError('model config: "crop_size" must have a height and a width');
  return {
    channels: count,
    size: read.do_resize ? sizeOf(read.size) : undefined,
    filter,
    crop,
    halves: timm === undefined ? 'down' : 'even',
    factor: read.do_rescale ? read.rescale_factor : 1,
    mean: read.do_normalize ? perChannel('image_mean', read.image_mean) : perChannel('image_mean', 0),
    deviation: read.do_normalize ? perChannel('image_std', read.image_std) : perChannel('image_std', 1),
  };
}

function sizeOf(value: z.infer<typeof extent>): Size | { readonly shortest: number } {
  if (typeof value === 'number') return { height: value, width: value };
  return 'shortest_edge' in value ? { shortest: value.shortest_edge } : value;
}

function publishedSize({ image_size, img_size }: JsonObject, example?: readonly number[]): unknown {
  const size = image_size ?? img_size ?? example?.slice(1);
  return Array.isArray(size) ? { height: size[0], width: size[1] } : size;
}

/** timm resizes so that the crop is a share of the shorter side; early configs have its settings beside the architecture. */
function fromTimm(config: JsonObject, example?: readonly number[]): JsonObject | undefined {
  const { pretrained_cfg: own, architecture } = config;
  if (!isJsonObject(own) && typeof architecture !== 'string') return undefined;
  const found = isJsonObject(own) ? own : config;
  const { crop_pct, crop_mode, interpolation } = found;
  if (crop_mode != null && crop_mode !== 'center')
    throw new ConfigError(`model config: "crop_mode" must be center; got ${JSON.stringify(crop_mode)}`);
  const input = found.input_size ?? example;
  if (!Array.isArray(input)) return undefined;
  const [depth, height, width] = input.map(Number) as [number, number, number];
  const { mean, std } = {
    ...(depth === 3 && imageNet),
    ...(found.mean != null && { mean: found.mean }),
    ...(found.std != null && { std: found.std }),
  };
  return {
    size: { shortest_edge: Math.floor(Math.min(height, width) / Number(crop_pct ?? 0.875)) },
    resample: timmFilters[String(interpolation ?? 'bicubic')] ?? 5,
    do_center_crop: true,
    crop_size: { height, width },
    ...(mean !== undefined && { image_mean: mean }),
    ...(std !== undefined && { image_std: std }),
  };
}

/** The size of an image whose shorter side is to have this length. */
function scaledTo(shortest: number, { height, width }: Size): Size {
  const long = Math.trunc((shortest * Math.max(height, width)) / Math.min(height, width));
  return height <= width ? { height: shortest, width: long } : { height: long, width: shortest };
}

/** An image file as [C, H, W]. Throws `FormatError` for bytes that are no image. */
export async function readImage(file: string, options: ImageOptions, signal?: AbortSignal): Promise<Values> {
  throwIfAborted(signal, 'readImage');
  const bytes = await readFile(file, signal && { signal }).catch((error: NodeJS.ErrnoException) => {
    throwIfAborted(signal, 'readImage');
    throw new InvalidArgumentError(`readImage: cannot read "${file}"; ${error.message}`, { cause: error });
  });
  const { default: sharp } = await import('sharp');
  try {
    const upright = sharp(bytes).autoOrient().toColourspace('srgb').removeAlpha();
    const { data, info } = await upright.raw({ depth: 'uchar' }).toBuffer({ resolveWithObject: true });
    const whole: Pixels = { bytes: data, width: info.width, height: info.height, channels: info.channels };
    const target = options.size && ('shortest' in options.size ? scaledTo(options.size.shortest, whole) : options.size);
    return toValues(target === undefined ? whole : resizeImage(whole, target.width, target.height, options.filter), options);
  } catch (error) {
    throw new FormatError(`${file}: no image that can be read; ${error instanceof Error ? error.message : error}`, { cause: error });
  }
}

const halfDown = (rest: number): number => Math.floor(rest / 2);

/** Half of what is cut away, an uneven one to the even number; of what is added, towards zero. */
const halfToEven = (rest: number): number => (rest < 0 ? Math.ceil(rest / 2) : Math.floor(rest / 2) + (rest % 4 === 3 ? 1 : 0));

/** Interleaved bytes, cut and normalised, by channel. */
function toValues({ bytes, width, height, channels: depth }: Pixels, options: ImageOptions): Values {
  const { crop = { height, width }, factor, mean, deviation } = options;
  const before = options.halves === 'even' ? halfToEven : halfDown;
  const [top, left] = [before(height - crop.height), before(width - crop.width)];
  const values = new Float32Array(options.channels * crop.height * crop.width);
  for (let c = 0; c < options.channels; c++)
    for (let y = 0; y < crop.height; y++)
      for (let x = 0; x < crop.width; x++) {
        const [row, column] = [y + top, x + left];
        const inside = row >= 0 && row < height && column >= 0 && column < width;
        const value = inside ? valueAt(bytes, (row * width + column) * depth, depth, options.channels, c) : 0;
        values[(c * crop.height + y) * crop.width + x] = (value * factor - (mean[c] as number)) / (deviation[c] as number);
      }
  return { values, shape: [options.channels, crop.height, crop.width] };
}

/** One channel of a pixel: of grey images all are one, and a network of one channel reads the luma of colours. */
function valueAt(bytes: Uint8Array, at: number, depth: number, wanted: 1 | 3, channel: number): number {
  if (depth < 3) return bytes[at] as number;
  if (wanted === 3) return bytes[at + channel] as number;
  return Math.round(0.299 * (bytes[at] as number) + 0.587 * (bytes[at + 1] as number) + 0.114 * (bytes[at + 2] as number));
}

/** The front end of a model of images, for the files that sharp reads: PNG, JPEG, WebP, GIF, TIFF and AVIF. Throws `ConfigError` for settings that are wrong. */
export function imageFrontEnd(settings: JsonObject | undefined, config: JsonObject, example?: readonly number[]): FrontEnd {
  const options = readImageOptions(settings, config, example);
  return { name: 'image processor', read: (file, signal) => readImage(file, options, signal) };
}
