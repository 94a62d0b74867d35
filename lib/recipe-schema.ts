import { z } from 'zod';
import { isBlockSize } from './models/weight-storage.js';

export const kDtypes = ['f32', 'bf16', 'f16', 'stored', 'nf4', 'int8'] as const;
export const kSchedules = ['constant', 'linear', 'cosine', 'wsd', 'one-cycle'] as const;
export const kOptimizers = ['adamw', 'sgd'] as const;

/** NF4 with options. */
export const nf4Schema = z.strictObject({
  type: z.literal('nf4'),
  /** Values that share a scale. */
  blockSize: z.int().refine(isBlockSize, 'expected a power of two from 32 to 4096').default(64),
  /** Keep the scales themselves in 8 bits. */
  doubleQuantization: z.boolean().default(false),
});

const positiveInt = z.int().positive();
const fraction = z.number().min(0).lt(1);

/** Which rows: a file and the fields that make an example (see `ExampleFields`). */
export const sourceSchema = z.strictObject({
  path: z.string().min(1),
  field: z.string().min(1).optional(),
  messages: z.string().min(1).optional(),
  prompt: z.string().min(1).optional(),
  completion: z.string().min(1).optional(),
  labels: z.array(z.string()).min(1).optional(),
  separator: z.string().optional(),
});

/** How a run trains; the same keys as `training` of `train()`. */
export const trainingSchema = z.strictObject({
  /** Optimizer steps of the whole run. */
  steps: positiveInt.default(100),
  /** Rows of one forward pass. */
  batch: positiveInt.default(8),
  /** Forward passes of one optimizer step: a step trains on batch x accumulate rows. */
  accumulate: positiveInt.default(1),
  /** Rows are cut to this many tokens. Default: 512, or the model's context where that is shorter. */
  sequence: z.int().min(2).optional(),
  packing: z.boolean().default(false),
  shuffle: z.boolean().default(true),
  optimizer: z.enum(kOptimizers).default('adamw'),
  learningRate: z.number().positive().default(2e-4),
  /** LoRA+: the learning rate of B and of vectors is this multiple; 16 is customary. Default: one rate for all. */
  loraPlusRatio: z.number().min(1).optional(),
  schedule: z.enum(kSchedules).default('cosine'),
  /** Steps over which the learning rate rises from 0; `one-cycle` rises by itself. */
  warmup: z.int().min(0).default(0),
  weightDecay: z.number().min(0).default(0),
  betas: z.tuple([fraction, fraction]).default([0.9, 0.999]),
  /** Largest global gradient norm; 0 turns clipping off. */
  clip: z.number().min(0).default(1),
  seed: z.int().min(0).default(1),
  /** Evaluate every so many steps and at the end (with `data.eval`); 0: only at the end. */
  evalEvery: z.int().min(0).default(100),
  /** Save a checkpoint every so many steps and at the end (with an output folder); 0: only at the end. */
  saveEvery: z.int().min(0).default(100),
  /** Checkpoints kept: the newest so many. */
  keep: positiveInt.default(2),
  /** Compute each block again in backward instead of keeping what it saved: less memory, a third more time. */
  checkpointing: z.boolean().default(false),
  /** What to do with a row that holds nothing to learn. */
  emptyRows: z.enum(['error', 'skip']).default('error'),
});

/** What the report of a run shows beside its curves. */
export const reportSchema = z.strictObject({
  /** Prompts that the model continues before and after training. */
  samples: z.array(z.string().min(1)).default([]),
  /** Tokens of each continuation. */
  maxNewTokens: positiveInt.default(64),
  temperature: z.number().min(0).default(0),
  /** Prompts are what a user says, written out with the model's chat template. */
  chat: z.boolean().default(false),
});

export const recipeSchema = z
  .strictObject({
    model: z.string().min(1),
    /** What weights are kept in; `stored`, `nf4` and `int8` are for frozen weights. */
    dtype: z.union([z.enum(kDtypes), nf4Schema]).optional(),
    /** With `stored`, `nf4` and `int8`: dtype of activations, embedding and norms. */
    compute: z.enum(['f32', 'bf16']).optional(),
    device: z.enum(['cpu', 'cuda']).optional(),
    /** An adapter config (`type` and the method's own options), or the folder of an adapter to go on training. */
    adapter: z.union([z.string().min(1), z.looseObject({ type: z.string() })]).default({ type: 'lora' }),
    data: z.strictObject({ train: sourceSchema, eval: sourceSchema.optional() }),
    training: trainingSchema.prefault({}),
    report: reportSchema.optional(),
    out: z.string().min(1).optional(),
  })
  .refine(
    ({ dtype, compute }) => compute === undefined || dtype === 'stored' || dtype === 'nf4' || dtype === 'int8' || typeof dtype === 'object',
    {
      path: ['compute'],
      message: 'expected dtype stored, nf4 or int8 beside it',
    },
  );
