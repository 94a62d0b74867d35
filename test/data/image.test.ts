import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { CancelledError, ConfigError, FormatError, InvalidArgumentError } from 'lorikeet';
import sharp from 'sharp';
import { imageFrontEnd, readImage, readImageOptions } from '#dist/data/image.js';
import { temporaryFolder } from '../helpers/command-line.js';
import { goldenEncoder } from '../helpers/encoders.js';
import { readJson } from '../helpers/folders.js';
import { near } from '../helpers/numbers.js';

interface Recorded {
  cases: { settings: { size: { height: number; width: number } }; values: number[] }[];
}

const picture = join(goldenEncoder('images'), 'picture.png');

// Pillow adds fixed-point weights, so that a byte may be one off: 1 / 255 / 0.5 at most.
test('pixels are those of transformers', async (t) => {
  for (const { settings, values: expected } of readJson<Recorded>(goldenEncoder('images'), 'reference.json').cases) {
    const { values, shape } = await imageFrontEnd(settings, {}).read(picture);
    t.deepEqual(shape, [3, settings.size.height, settings.size.width]);
    near(t, values, expected, 8e-3, JSON.stringify(settings));
  }
});

test('the shorter side, the crop and the published size', async (t) => {
  const shapeOf = async (settings: object | undefined, config: object): Promise<readonly number[]> =>
    (await imageFrontEnd(settings as undefined, config as never).read(picture)).shape;
  t.deepEqual(await shapeOf({ size: { shortest_edge: 20 } }, {}), [3, 20, 28]);
  t.deepEqual(await shapeOf({ size: { shortest_edge: 20 }, do_center_crop: true, crop_size: 16 }, {}), [3, 16, 16]);
  t.deepEqual(await shapeOf(undefined, { image_size: 12 }), [3, 12, 12]);
  t.deepEqual(await shapeOf(undefined, { image_size: [8, 12], num_channels: 1 }), [1, 8, 12]);
  const timm = {
    pretrained_cfg: { input_size: [3, 28, 28], crop_pct: 0.875, interpolation: 'bicubic', mean: [0.1, 0.2, 0.3], std: [1, 1, 1] },
  };
  t.deepEqual(await shapeOf(undefined, timm), [3, 28, 28]);
  t.like(readImageOptions(undefined, timm), {
    size: { shortest: 32 },
    filter: 'cubic',
    crop: { height: 28, width: 28 },
    mean: [0.1, 0.2, 0.3],
  });
  const padded = await imageFrontEnd({ do_resize: false, size: 4, do_center_crop: true, crop_size: 62, do_normalize: false }, {}).read(
    picture,
  );
  t.deepEqual(padded.shape, [3, 62, 62]);
  t.deepEqual([padded.values[0], (padded.values[10 * 62 + 1] ?? 0) > 0], [0, true]);
});

test("timm's defaults, and the size of the network where no config has one", (t) => {
  const options = (config: object, example: number[]): object => readImageOptions(undefined, config as never, example);
  const standard = { filter: 'cubic', halves: 'even', mean: [0.485, 0.456, 0.406], deviation: [0.229, 0.224, 0.225] };
  const architecture = 'vit_small_patch16_224';
  for (const config of [
    { architecture, model_args: { img_size: 28 } },
    { architecture, pretrained_cfg: { mean: null } },
  ])
    t.like(options(config, [3, 28, 28]), { ...standard, size: { shortest: 32 }, crop: { height: 28, width: 28 } });
  t.like(options({ architecture, input_size: [3, 20, 20], crop_pct: 1, std: [1, 1, 1] }, [3, 28, 28]), {
    ...standard,
    size: { shortest: 20 },
    deviation: [1, 1, 1],
  });
  t.like(options({ architecture }, [1, 28, 28]), { channels: 1, mean: [0.5] });
  t.like(options({}, [1, 12, 14]), { channels: 1, size: { height: 12, width: 14 }, halves: 'down' });
  t.throws(() => options({ architecture, pretrained_cfg: { crop_mode: 'squash' } }, [3, 28, 28]), {
    instanceOf: ConfigError,
    message: /"crop_mode" must be center; got "squash"/,
  });
});

test('the middle of an uneven rest is where torchvision has it for timm, and where transformers has it', async (t) => {
  const folder = temporaryFolder();
  const columnsOf = async (halves: 'down' | 'even', width: number, crop: number): Promise<number[]> => {
    const file = join(folder, `${width}.png`);
    await sharp(Buffer.from(Array.from({ length: width }, (_, x) => x + 1)), { raw: { width, height: 1, channels: 1 } }).toFile(file);
    const plain = readImageOptions({ do_resize: false, size: 1, do_rescale: false, do_normalize: false }, { num_channels: 1 });
    const { values } = await readImage(file, { ...plain, crop: { height: 1, width: crop }, halves });
    return [...values];
  };
  // Half a pixel, 1.5 and 2.5: round() of Python gives 0, 2 and 2.
  t.deepEqual(await columnsOf('even', 3, 2), [1, 2]);
  t.deepEqual(await columnsOf('even', 5, 2), [3, 4]);
  t.deepEqual(await columnsOf('even', 7, 2), [3, 4]);
  t.deepEqual(await columnsOf('down', 5, 2), [2, 3]);
  t.deepEqual(await columnsOf('even', 2, 5), [0, 1, 2, 0, 0]);
  t.deepEqual(await columnsOf('down', 2, 5), [0, 0, 1, 2, 0]);
});

test('orientation, transparency, grey and deep images', async (t) => {
  const folder = temporaryFolder();
  const left = Buffer.from([255, 0, 0, 0, 0, 255]);
  const base = sharp(left, { raw: { width: 2, height: 1, channels: 3 } });
  const read = async (name: string, channels: 1 | 3 = 3): Promise<{ shape: readonly number[]; values: number[] }> => {
    const front = imageFrontEnd({ do_resize: false, size: 1, do_normalize: false }, { num_channels: channels });
    const { shape, values } = await front.read(join(folder, name));
    return { shape, values: Array.from(values, (value) => Math.round(value * 255)) };
  };
  await base.clone().withMetadata({ orientation: 6 }).png().toFile(join(folder, 'turned.png'));
  t.deepEqual(await read('turned.png'), { shape: [3, 2, 1], values: [255, 0, 0, 0, 0, 255] });
  await base.clone().ensureAlpha(0.5).png().toFile(join(folder, 'clear.png'));
  t.deepEqual(await read('clear.png'), { shape: [3, 1, 2], values: [255, 0, 0, 0, 0, 255] });
  t.deepEqual(await read('clear.png', 1), { shape: [1, 1, 2], values: [76, 29] });
  await sharp(Buffer.from([10, 200]), { raw: { width: 2, height: 1, channels: 1 } })
    .toColourspace('b-w')
    .png()
    .toFile(join(folder, 'grey.png'));
  t.deepEqual(await read('grey.png'), { shape: [3, 1, 2], values: [10, 200, 10, 200, 10, 200] });
  await base.clone().toColourspace('rgb16').png().toFile(join(folder, 'deep.png'));
  t.deepEqual(await read('deep.png'), { shape: [3, 1, 2], values: [255, 0, 0, 0, 0, 255] });
});

test('what does not fit is refused', async (t) => {
  const folder = temporaryFolder();
  const front = imageFrontEnd({ size: 8 }, {});
  await t.throwsAsync(front.read(join(folder, 'none.png')), { instanceOf: InvalidArgumentError, message: /cannot read/ });
  await writeFile(join(folder, 'text.png'), 'no picture');
  await t.throwsAsync(front.read(join(folder, 'text.png')), { instanceOf: FormatError, message: /text\.png: no image/ });
  await t.throwsAsync(front.read(picture, AbortSignal.abort()), { instanceOf: CancelledError });
  const refused = (settings: object, message: RegExp, config: object = {}): void => {
    t.throws(() => readImageOptions(settings as never, config as never), { instanceOf: ConfigError, message });
  };
  refused({}, /"size" is missing/);
  refused({ size: 8, resample: 4 }, /"resample" 4 is not supported/);
  refused({ size: 8, image_mean: [0.5, 0.5] }, /number for each channel; got 2, expected 3/);
  refused({ size: 8 }, /1 or 3 channels; got 4/, { num_channels: 4 });
  refused({ size: { shortest_edge: 8 }, do_center_crop: true }, /"crop_size" must have/);
});
