import { z } from 'zod';
import { readConfig } from './config.js';
import { type EncoderNetwork, type HeadOptions, kPositions } from './encoder.js';
import { kPoolingModes } from './pooling.js';

/** Key of a `config.json`: how the head of an encoder of images or audio reads it, for which published configs have no key. */
export const kHead = 'lorikeet_head';

const mode = z.enum(kPoolingModes);

const keys = z.object({
  [kHead]: z
    .strictObject({
      pooling: z.strictObject({ mode: z.union([mode, z.array(mode).min(1)]).optional(), normalize: z.boolean().optional() }).optional(),
      positions: z.enum(kPositions).optional(),
    })
    .default({}),
});

/** What the config of a saved model says of its head. Throws `ConfigError` for what it cannot say. */
export function savedHead(config: unknown): Pick<HeadOptions, 'pooling' | 'positions'> {
  const { pooling, positions } = readConfig(keys, config)[kHead];
  return { ...(pooling && { pooling }), ...(positions && { positions }) };
}

/** The same of a network, for its config; empty where it is as published, and for text, whose pooling has files of its own. */
export function headToSave({ modality, pooling, positions }: EncoderNetwork): { readonly [kHead]?: object } {
  if (modality === 'text') return {};
  const head = { ...(pooling && { pooling }), ...(positions === undefined || positions === 'resized' ? {} : { positions }) };
  return Object.keys(head).length === 0 ? {} : { [kHead]: head };
}
