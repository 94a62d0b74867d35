import { z } from 'zod';
import { kAnswerKinds } from './data/answers.js';
import { type EncoderTask, kPositions } from './models/encoder.js';
import { kPoolingModes } from './models/pooling.js';
import { isBlockSize, kComputes } from './models/weight-storage.js';
import { kWeightLayouts } from './ops/linalg.js';
import { adafactorDefaults } from './optim/adafactor.js';
import { checkTraining } from './recipe-rules.js';
import { embeddingLossSchema } from './tasks/embedding/config.js';

export const kDtypes = ['f32', 'bf16', 'f16', 'stored', 'nf4', 'int8'] as const;
export const kSchedules = ['constant', 'linear', 'cosine', 'wsd', 'one-cycle'] as const;
export const kOptimizers = ['adamw', 'adamw-8bit', 'adafactor', 'lion', 'sgd'] as const;

/** NF4 with options. */
export const nf4Schema = z.strictObject({
  type: z.literal('nf4'),
  /** Values that share a scale. */
  blockSize: z.int().refine(isBlockSize, 'expected a power of two from 32 to 4096').default(64),
  /** Keep the scales themselves in 8 bits. */
  doubleQuantization: z.boolean().default(false),
});

const positiveInt = z.int().positive();

/** What an encoder learns; `published`: what its checkpoint was published for. */
export const kTasks = [
  'classification',
  'regression',
  'token-classification',
  'masked-lm',
  'embedding',
  'published',
] as const satisfies readonly (EncoderTask | 'published')[];

const poolingMode = z.enum(kPoolingModes);

/** A task with what it needs to know. */
export const taskSchema = z.strictObject({
  type: z.enum(kTasks),
  /** Names of the classes, or how many classes (of `regression`: values) there are. Default: those of the model's config. */
  labels: z.union([z.array(z.string().min(1)).min(1), positiveInt]).optional(),
  /** How hidden states become an embedding; of images and audio also what a classifier reads. Default: as the files of the model say. */
  pooling: z
    .strictObject({ mode: z.union([poolingMode, z.array(poolingMode).min(1)]).optional(), normalize: z.boolean().optional() })
    .optional(),
  /** Of AST: what position embeddings are for spectrograms of another length than published. Default: resized. */
  positions: z.enum(kPositions).optional(),
  /** Seed of a head that the checkpoint lacks. Default: `training.seed`. */
  seed: z.int().min(0).optional(),
});

const fraction = z.number().min(0).lt(1);
/** The number of a task, for adapters that are routed by task. */
const taskId = z.int().min(0);

/** Which rows: a file and the fields that make an example (see `ExampleFields`, and `TaskFields` of encoders). */
export const sourceSchema = z.strictObject({
  path: z.string().min(1),
  field: z.string().min(1).optional(),
  field2: z.string().min(1).optional(),
  image: z.string().min(1).optional(),
  audio: z.string().min(1).optional(),
  label: z.string().min(1).optional(),
  tokens: z.string().min(1).optional(),
  tags: z.string().min(1).optional(),
  anchor: z.string().min(1).optional(),
  positive: z.string().min(1).optional(),
  negative: z.string().min(1).optional(),
  score: z.string().min(1).optional(),
  messages: z.string().min(1).optional(),
  tools: z.string().min(1).optional(),
  learn: z.enum(['all', 'last']).optional(),
  prompt: z.string().min(1).optional(),
  completion: z.string().min(1).optional(),
  labels: z.array(z.string()).min(1).optional(),
  /** The task of all rows, or the field that holds its number. */
  task: z.union([taskId, z.string().min(1)]).optional(),
  separator: z.string().optional(),
  weight: z.number().positive().optional(),
  streaming: z.boolean().optional(),
});

/** One source, or a list whose rows are mixed. */
export const sourcesSchema = z.union([sourceSchema, z.array(sourceSchema).min(1)], {
  error: 'expected a map such as { path: notes.jsonl }, or a list of such maps',
});

/** When a run ends before its last step because held-out loss no longer falls. */
const earlyStoppingSchema = z.strictObject({
  /** Evaluations in a row without a lower held-out loss, or a higher metric where the task is decided by one, after which the run ends. */
  patience: positiveInt,
  /** A held-out loss counts as lower (a metric as higher) when it is so by more than this. */
  minDelta: z.number().min(0).default(0),
});

/** What to do about a step whose loss or gradient is not finite, or whose loss is far above the last ones. */
const policySchema = z.strictObject({
  /** `stop` ends the run with the state before the step; `skip` leaves the update out and goes on. */
  nonFinite: z.enum(['stop', 'skip']).default('stop'),
  lossSpike: z.enum(['ignore', 'warn', 'skip', 'stop']).default('ignore'),
  /** A loss is a spike when it is above this multiple of the median of the last `spikeWindow` losses. */
  spikeFactor: z.number().gt(1).default(3),
  /** Losses that the median is taken of; before there are so many, no loss is a spike. */
  spikeWindow: z.int().min(3).default(20),
});

/** Of Adafactor; see `AdafactorSettings`. */
const adafactorSchema = z.strictObject({
  /** Rates are multiplied by the root mean square of each parameter. Default false. */
  scaleParameter: z.boolean().default(adafactorDefaults.scaleParameter),
  /** The rate is min(0.01, 1 / sqrt(step)) times `learningRate`, which is to be 1. Default false. */
  relativeStep: z.boolean().default(adafactorDefaults.relativeStep),
  /** Relative steps begin at 1e-6 times their number. Default false. */
  warmupInit: z.boolean().default(adafactorDefaults.warmupInit),
  /** Largest root mean square of the update of a parameter. Default 1. */
  clipThreshold: z.number().positive().default(adafactorDefaults.clipThreshold),
  /** Power of the step in the decay of squared gradients. Default -0.8. */
  decayRate: z.number().negative().default(adafactorDefaults.decayRate),
  /** Decay of the running mean of updates. Default null: none. */
  beta1: fraction.nullable().default(adafactorDefaults.beta1),
  /** Added to squared gradients, and least scale of a parameter. Default [1e-30, 1e-3]. */
  eps: z.tuple([z.number().positive(), z.number().min(0)]).default([...adafactorDefaults.eps]),
});

const trainingKeys = z.strictObject({
  /** Optimizer steps of the whole run. */
  steps: positiveInt.default(100),
  /** Rows of one forward pass. */
  batch: positiveInt.default(8),
  /** Forward passes of one optimizer step: a step trains on batch x accumulate rows. */
  accumulate: positiveInt.default(1),
  /** Rows are cut to this many tokens. Default: 512, or the model's context where that is shorter. */
  sequence: z.int().min(2).optional(),
  /** Put several rows into one sequence; they do not see each other. */
  packing: z.boolean().default(false),
  /** Batches of rows of similar length. */
  lengthGrouped: z.boolean().default(false),
  shuffle: z.boolean().default(true),
  optimizer: z.enum(kOptimizers).default('adamw'),
  learningRate: z.number().positive().default(2e-4),
  /** LoRA+: the learning rate of B and of vectors is this multiple; 16 is customary. Default: one rate for all. */
  loraPlusRatio: z.number().min(1).optional(),
  schedule: z.enum(kSchedules).default('cosine'),
  /** Share of the learning rate that `linear`, `cosine` and `wsd` fall to. Default 0. */
  minimumRate: fraction.optional(),
  /** Share of the steps after the warm-up over which `wsd` falls. Default 0.2. */
  decayShare: z.number().positive().max(1).optional(),
  /** Steps over which the learning rate rises from 0; `one-cycle` rises by itself. */
  warmup: z.int().min(0).default(0),
  weightDecay: z.number().min(0).default(0),
  /** Of AdamW (default [0.9, 0.999]) and Lion (default [0.9, 0.99]). */
  betas: z.tuple([fraction, fraction]).optional(),
  /** Of AdamW. Default 1e-8. */
  eps: z.number().positive().optional(),
  /** Of SGD. Default 0.9. */
  momentum: fraction.optional(),
  adafactor: adafactorSchema.optional(),
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
  /** What to do with a row that holds nothing to learn; `data.badRows: skip` leaves it out as well. */
  emptyRows: z.enum(['error', 'skip']).default('error'),
  earlyStopping: earlyStoppingSchema.optional(),
  /** What sentence embeddings are trained for (task `embedding`). Default: multiple-negatives. */
  loss: embeddingLossSchema.optional(),
  policy: policySchema.prefault({}),
  /** What to do with a run that will not fit into the memory that is free. */
  memory: z.enum(['error', 'warn', 'ignore']).default('error'),
});

/** How a run trains; the same keys as `training` of `train()`. */
export const trainingSchema = trainingKeys.superRefine((training, context) => {
  for (const { key, message } of checkTraining(training)) context.addIssue({ code: 'custom', path: [key], message });
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
  /** Of adapters that are routed by task: the one whose samples are shown. */
  task: z.union([taskId, z.literal('mean')]).optional(),
});

/** Answers that the model writes to prompts of held-out rows, scored by a field of each row. */
const answersSchema = z
  .strictObject({
    /** How the answer is found in what the model writes. */
    kind: z.enum(kAnswerKinds),
    /** Field of the right answer. */
    field: z.string().min(1).default('answer'),
    /** The first so many rows are asked. Default: all. */
    rows: positiveInt.optional(),
    /** Tokens of an answer. Default: 256 for numbers and letters, 32 for words. */
    maxNewTokens: positiveInt.optional(),
    /** Rows generated together; results do not depend on it. */
    batch: positiveInt.default(16),
    /** Texts that end an answer; not with `beams`. */
    stop: z.array(z.string().min(1)).default([]),
    /** Beam search with so many beams. Default 1: the likeliest token each time. */
    beams: positiveInt.default(1),
    /** With `beams`: more is for longer answers. Default 1. */
    lengthPenalty: z.number().optional(),
    /** With `beams`: when a search is over. Default false. */
    earlyStopping: z.union([z.boolean(), z.literal('never')], { error: 'expected true, false or never' }).optional(),
  })
  .superRefine(({ beams, lengthPenalty, earlyStopping, stop }, context) => {
    const unfit = (key: string, message: string) => context.addIssue({ code: 'custom', path: [key], message });
    if (beams === 1 && lengthPenalty !== undefined) unfit('lengthPenalty', 'expected it only with beams above 1');
    if (beams === 1 && earlyStopping !== undefined) unfit('earlyStopping', 'expected it only with beams above 1');
    if (beams > 1 && stop.length > 0) unfit('stop', 'expected none with beams above 1');
  });

/** What is measured on held-out rows beside their loss. */
export const evaluationSchema = z.strictObject({ answers: answersSchema.optional() });

export const recipeSchema = z
  .strictObject({
    model: z.string().min(1),
    /** What an encoder is to learn, alone or with `labels`. */
    task: z
      .union([z.enum(kTasks).transform((type): z.output<typeof taskSchema> => ({ type })), taskSchema], {
        error: `expected one of ${kTasks.join(', ')}, or a map with "type"`,
      })
      .optional(),
    /** What weights are kept in; `stored`, `nf4` and `int8` are for frozen weights. */
    dtype: z.union([z.enum(kDtypes), nf4Schema]).optional(),
    /** With `stored`, `nf4` and `int8`: dtype of activations, embedding and norms. `int8`: frozen linear layers multiply 8-bit integers, but a head that is not in blocks. */
    compute: z.enum(kComputes).optional(),
    /** How frozen float weights are packed: one copy, a second for backward, or none (rows of the mapped file). Results have the same bits. Default: retile. */
    layout: z.enum(kWeightLayouts).optional(),
    device: z.enum(['cpu', 'cuda']).optional(),
    /** An adapter config (`type` and the method's own options), or the folder of an adapter to go on training. */
    adapter: z
      .union([z.string().min(1), z.looseObject({ type: z.string() })], { error: 'expected a map with "type", or the folder of an adapter' })
      .default({ type: 'lora' }),
    data: z.strictObject({
      train: sourcesSchema,
      eval: sourcesSchema.optional(),
      /** What an initialisation of the adapter looks at, where it looks at data. Default: the first rows of `train`. */
      calibration: sourcesSchema.optional(),
      /** What to do with rows that cannot be parsed, lack fields or hold nothing to learn. */
      badRows: z.enum(['error', 'skip']).default('error'),
    }),
    training: trainingSchema.prefault({}),
    evaluation: evaluationSchema.optional(),
    report: reportSchema.optional(),
    out: z.string().min(1).optional(),
  })
  .superRefine(({ data, training, evaluation, task }, context) => {
    const missing = (path: string[], message: string) => context.addIssue({ code: 'custom', path, message });
    if (data.eval === undefined && training.earlyStopping !== undefined)
      missing(['training', 'earlyStopping'], 'expected "data.eval" beside it');
    if (evaluation?.answers === undefined) return;
    if (data.eval === undefined) missing(['evaluation', 'answers'], 'expected "data.eval" beside it');
    else if (task !== undefined) missing(['evaluation', 'answers'], 'expected a language model; an encoder with a task writes no text');
  })
  .refine(
    ({ dtype, compute }) =>
      compute === undefined || compute === 'int8' || dtype === 'stored' || dtype === 'nf4' || dtype === 'int8' || typeof dtype === 'object',
    {
      path: ['compute'],
      message: 'expected dtype stored, nf4 or int8 beside it',
    },
  );
