/** The networks that BERT makes with its heads, named as transformers names their parts: what comes before a head has the prefix `bert`, but for embeddings. */

import { InvalidArgumentError } from '../errors.js';
import type { ForwardContext } from '../nn/context.js';
import { Dropout } from '../nn/dropout.js';
import { Linear } from '../nn/linear.js';
import { type Layer, Module } from '../nn/module.js';
import { withFront } from '../nn/virtual-tokens.js';
import { add } from '../ops/elementwise.js';
import { crossEntropy, logitsCrossEntropy, type Reduction } from '../ops/loss.js';
import type { Tensor } from '../tensor.js';
import { type BertConfig, BertModel, normOf, readBertConfig, shapeOf, splitWeights } from './bert.js';
import { activationOf } from './config.js';
import {
  type EncoderArchitecture,
  type EncoderInput,
  EncoderNetwork,
  type EncoderShape,
  type EncoderTask,
  type HeadOptions,
} from './encoder.js';
import { headSizeOf } from './head-size.js';
import { modesOf, type Pooling, pool } from './pooling.js';

const prefixed = <T>(base: ReadonlyMap<string, T>): [string, T][] => [...base].map(([name, value]) => [`bert.${name}`, value]);
const withoutPooler = <T>(base: ReadonlyMap<string, T>): Map<string, T> =>
  new Map([...base].filter(([name]) => !name.startsWith('pooler.')));

abstract class BertNetwork extends EncoderNetwork {
  readonly modality = 'text';
  readonly shape: EncoderShape;
  override readonly initialDeviation: number;
  override readonly takesEmbeddings = true;

  constructor(config: BertConfig) {
    super();
    this.shape = shapeOf(config);
    this.initialDeviation = config.initializer_range;
  }

  /** The context of a pass with the virtual tokens that adapters put in front of the rows. Throws where those do not fit. */
  protected fronted(input: EncoderInput, context: ForwardContext): ForwardContext {
    if (!('ids' in input)) return context;
    const [batch = 0, time = 0] = input.ids.shape;
    const own = withFront(this, context, batch);
    const length = time + (own.front === undefined ? 0 : own.front.width + Math.max(...own.front.prefixes));
    if (own.front !== undefined && length > this.shape.contextLength)
      throw new InvalidArgumentError(
        `bert: rows and their virtual tokens are longer than the context; got ${length} tokens, expected at most ${this.shape.contextLength}`,
      );
    return own;
  }
}

/** Sentence embeddings [B, D], by pooling. */
export class BertForEmbedding extends BertNetwork {
  readonly task = 'embedding';
  override readonly startable = ['pooler'];
  override readonly idle = ['pooler'];
  readonly embeddings: BertModel['embeddings'];
  readonly encoder: BertModel['encoder'];
  readonly pooler: BertModel['pooler'];
  override readonly pooling: Pooling;
  readonly #model: BertModel;

  constructor(config: BertConfig, { pooling = {} }: HeadOptions) {
    super(config);
    modesOf(pooling);
    this.pooling = pooling;
    this.#model = new BertModel(config, { pooler: true });
    this.embeddings = this.#model.embeddings;
    this.encoder = this.#model.encoder;
    this.pooler = this.#model.pooler;
  }

  /** Hidden states [B, T, D] of the last block. */
  hidden(input: EncoderInput, context: ForwardContext): Tensor {
    return this.#model.forward(input, this.fronted(input, context), this);
  }

  forward(input: EncoderInput, context: ForwardContext): Tensor {
    return pool(this.hidden(input, context), context.keyLengths, this.pooling);
  }

  sanitize<T>(weights: ReadonlyMap<string, T>): Map<string, T> {
    const { base, unknown } = splitWeights(weights);
    return new Map([...base, ...unknown]);
  }
}

/** A head of one linear layer, over the pooled first token or over every token. */
class BertWithClassifier extends BertNetwork {
  readonly task: EncoderTask;
  override readonly startable: readonly string[];
  readonly bert: BertModel;
  classifier: Layer;
  readonly #dropout: Dropout;
  readonly #keepsHead: boolean;

  constructor(config: BertConfig, task: EncoderTask, head: HeadOptions) {
    super(config);
    this.task = task;
    const { labels, isPublished } = headSizeOf(config, head);
    const pooler = task !== 'token-classification';
    this.bert = new BertModel(config, { pooler });
    this.classifier = new Linear(config.hidden_size, labels, { role: 'head', init: 'none' });
    this.startable = pooler ? ['bert.pooler', 'classifier'] : ['classifier'];
    this.#dropout = new Dropout(config.classifier_dropout ?? config.hidden_dropout_prob);
    this.#keepsHead = isPublished;
  }

  forward(input: EncoderInput, context: ForwardContext): Tensor {
    const own = this.fronted(input, context);
    const { pooler } = this.bert;
    // As in PEFT, where there are virtual tokens the first of them is pooled.
    const features = pooler?.forward(this.bert.whole(input, own, this), own) ?? this.bert.forward(input, own, this);
    return this.classifier.forward(this.#dropout.forward(features, context), context);
  }

  sanitize<T>(weights: ReadonlyMap<string, T>): Map<string, T> {
    const { base, heads, unknown } = splitWeights(weights);
    const kept = [...heads].filter(([name]) => this.#keepsHead && name.startsWith('classifier.'));
    return new Map([...prefixed(this.bert.pooler === undefined ? withoutPooler(base) : base), ...kept, ...unknown]);
  }
}

class BertTransform extends Module {
  dense: Layer;
  LayerNorm: Layer;
  readonly #activation: (x: Tensor) => Tensor;

  constructor(config: BertConfig) {
    super();
    this.dense = new Linear(config.hidden_size, config.hidden_size, { init: 'none' });
    this.LayerNorm = normOf(config);
    this.#activation = activationOf(config.hidden_act);
  }

  forward(hidden: Tensor, context: ForwardContext): Tensor {
    return this.LayerNorm.forward(this.#activation(this.dense.forward(hidden, context)), context);
  }
}

class BertPredictions extends Module {
  readonly transform: BertTransform;
  decoder: Layer;
  /** Of a decoder that is tied to the embedding; another one has its own. */
  bias?: Tensor;
  readonly #biasShape: readonly number[] | undefined;

  constructor(config: BertConfig, { embeddings }: BertModel) {
    super();
    const { vocab_size: size, hidden_size: width, tie_word_embeddings: isTied } = config;
    this.transform = new BertTransform(config);
    this.decoder = isTied ? Linear.tied(embeddings.words(), { role: 'head' }) : new Linear(width, size, { role: 'head', init: 'none' });
    this.#biasShape = isTied ? [size] : undefined;
  }

  override parameterShapes(): Record<string, readonly number[]> {
    return this.#biasShape === undefined ? {} : { bias: this.#biasShape };
  }
}

class BertHeads extends Module {
  readonly predictions: BertPredictions;

  constructor(config: BertConfig, model: BertModel) {
    super();
    this.predictions = new BertPredictions(config, model);
  }
}

const kDecoderBias = 'cls.predictions.decoder.bias';

/** Logits of every token [B, T, V], of which masked ones are learnt. */
export class BertForMaskedLm extends BertNetwork {
  readonly task = 'masked-lm';
  override readonly startable = ['cls'];
  readonly bert: BertModel;
  readonly cls: BertHeads;
  readonly #isTied: boolean;

  constructor(config: BertConfig) {
    super(config);
    this.bert = new BertModel(config, { pooler: false });
    this.cls = new BertHeads(config, this.bert);
    this.#isTied = config.tie_word_embeddings;
  }

  forward(input: EncoderInput, context: ForwardContext): Tensor {
    return this.#logits(this.#features(input, context), context);
  }

  override maskedLoss(input: EncoderInput, targets: Tensor, context: ForwardContext, reduction: Reduction = 'mean'): Tensor {
    const features = this.#features(input, context);
    const { decoder, bias: own } = this.cls.predictions;
    const head = decoder.effective(context);
    if (!(head instanceof Linear)) return logitsCrossEntropy(this.#logits(features, context), targets, { reduction });
    const bias = own ?? head.bias;
    return crossEntropy(features, head.weight, targets, { reduction, ...(bias && { bias }) });
  }

  #features(input: EncoderInput, context: ForwardContext): Tensor {
    return this.cls.predictions.transform.forward(this.bert.forward(input, this.fronted(input, context), this), context);
  }

  #logits(features: Tensor, context: ForwardContext): Tensor {
    const { decoder, bias } = this.cls.predictions;
    const logits = decoder.forward(features, context);
    return bias === undefined ? logits : add(logits, bias);
  }

  sanitize<T>(weights: ReadonlyMap<string, T>): Map<string, T> {
    const { base, heads, unknown } = splitWeights(weights);
    const found = new Map<string, T>([...prefixed(withoutPooler(base)), ...unknown]);
    for (const [name, value] of heads) if (name.startsWith('cls.predictions.transform.')) found.set(name, value);
    // A tied decoder may be in the file as a second copy.
    const [own, second] = this.#isTied ? ['cls.predictions.bias', kDecoderBias] : [kDecoderBias, 'cls.predictions.bias'];
    const bias = heads.get(own) ?? heads.get(second);
    if (bias !== undefined) found.set(own, bias);
    const decoder = heads.get('cls.predictions.decoder.weight');
    if (decoder !== undefined && !this.#isTied) found.set('cls.predictions.decoder.weight', decoder);
    return found;
  }
}

const classifier = (task: EncoderTask) => (config: unknown, head: HeadOptions) =>
  new BertWithClassifier(readBertConfig(config), task, head);

export const bert: EncoderArchitecture = {
  modality: 'text',
  tasks: {
    classification: classifier('classification'),
    regression: classifier('regression'),
    'token-classification': classifier('token-classification'),
    'masked-lm': (config) => new BertForMaskedLm(readBertConfig(config)),
    embedding: (config, head) => new BertForEmbedding(readBertConfig(config), head),
  },
};
