import { Environment, Interpreter, parse, tokenize } from '@huggingface/jinja';
import { ConfigError, InvalidArgumentError } from '../errors.js';

/** One turn of a conversation; templates may read further keys (`tool_calls`, `name`, ...). */
export interface ChatMessage {
  readonly role: string;
  readonly content?: unknown;
  readonly [key: string]: unknown;
}

export interface ChatTemplateOptions {
  /** End with the words that open the assistant's reply. Default false. */
  readonly addGenerationPrompt?: boolean;
  /** Descriptions of tools as JSON schemas, for templates that know them. */
  readonly tools?: readonly unknown[];
  /** Name of a template where the model has several. Default: `tool_use` when tools are given and it exists, else `default`. */
  readonly template?: string;
  /** Further variables for the template. */
  readonly variables?: Readonly<Record<string, unknown>>;
}

class RaisedByTemplate extends Error {}

const days = ['Sunday', 'Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday'];
const months = ['January', 'February', 'March', 'April', 'May', 'June', 'July', 'August', 'September', 'October', 'November', 'December'];

/** The parts of C's strftime that name days and times, in English and local time. */
export function strftime(format: string, date: Date): string {
  const two = (value: number): string => String(value).padStart(2, '0');
  const parts: { readonly [letter: string]: () => string } = {
    Y: () => String(date.getFullYear()),
    y: () => two(date.getFullYear() % 100),
    m: () => two(date.getMonth() + 1),
    d: () => two(date.getDate()),
    e: () => String(date.getDate()).padStart(2, ' '),
    H: () => two(date.getHours()),
    I: () => two(date.getHours() % 12 || 12),
    M: () => two(date.getMinutes()),
    S: () => two(date.getSeconds()),
    p: () => (date.getHours() < 12 ? 'AM' : 'PM'),
    A: () => days[date.getDay()] ?? '',
    a: () => (days[date.getDay()] ?? '').slice(0, 3),
    B: () => months[date.getMonth()] ?? '',
    b: () => (months[date.getMonth()] ?? '').slice(0, 3),
    '%': () => '%',
  };
  return format.replace(/%(.)/gs, (whole, letter: string) => parts[letter]?.() ?? whole);
}

/** Longest list that a template may count through, so that a hostile one cannot fill the memory. */
const maxRange = 100_000;

function range(...bounds: readonly number[]): number[] {
  const [start, stop, step] = bounds.length < 2 ? [0, bounds[0] ?? 0, 1] : [bounds[0] ?? 0, bounds[1] ?? 0, bounds[2] ?? 1];
  if (step === 0) throw new RaisedByTemplate('range: the step must not be 0');
  const length = Math.max(0, Math.ceil((stop - start) / step));
  if (!(length <= maxRange)) throw new RaisedByTemplate(`range: too long; got ${length}, expected at most ${maxRange}`);
  return Array.from({ length }, (_, i) => start + i * step);
}

// What every template may use. The names of constants come in both spellings, as in Jinja.
const globals = {
  true: true,
  True: true,
  false: false,
  False: false,
  none: null,
  None: null,
  raise_exception: (message: unknown): never => {
    throw new RaisedByTemplate(String(message));
  },
  strftime_now: (format: string): string => strftime(format, new Date()),
  range,
};

type Program = ReturnType<typeof parse>;

function render(program: Program, variables: Readonly<Record<string, unknown>>): string {
  const environment = new Environment();
  for (const [name, value] of Object.entries({ ...variables, ...globals })) environment.set(name, value);
  return String(new Interpreter(environment).run(program).value);
}

/** The chat templates of one tokenizer; each is parsed when it is first used. */
export class ChatTemplates {
  readonly #source: string;
  readonly #texts: Readonly<Record<string, string>>;
  readonly #tokens: Readonly<Record<string, string>>;
  readonly #parsed = new Map<string, Program>();

  constructor(source: string, texts: Readonly<Record<string, string>>, tokens: Readonly<Record<string, string>>) {
    this.#source = source;
    this.#texts = texts;
    this.#tokens = tokens;
  }

  get names(): readonly string[] {
    return Object.keys(this.#texts);
  }

  /** Writes a conversation as the text that the model was trained on. */
  render(messages: readonly ChatMessage[], options: ChatTemplateOptions = {}): string {
    if (!Array.isArray(messages)) throw new InvalidArgumentError('applyChatTemplate: messages must be a list of { role, content }');
    const { name, template } = this.#choose(options);
    const tokens = Object.fromEntries(Object.entries(this.#tokens).map(([role, token]) => [`${role}_token`, token]));
    try {
      return render(template, {
        ...tokens,
        tools: options.tools ?? null,
        ...options.variables,
        messages,
        add_generation_prompt: options.addGenerationPrompt ?? false,
      });
    } catch (cause) {
      if (cause instanceof RaisedByTemplate)
        throw new InvalidArgumentError(`applyChatTemplate: the template refuses these messages: ${cause.message}`, { cause });
      throw new ConfigError(`applyChatTemplate: template "${name}" of ${this.#source} fails; ${(cause as Error).message}`, { cause });
    }
  }

  #choose({ template: wanted, tools }: ChatTemplateOptions): { name: string; template: Program } {
    const usual = tools !== undefined && Object.hasOwn(this.#texts, 'tool_use') ? 'tool_use' : 'default';
    const name = wanted ?? usual;
    const text = Object.hasOwn(this.#texts, name) ? this.#texts[name] : undefined;
    if (text === undefined) {
      const known = this.names.length === 0 ? 'it has none' : `expected one of ${this.names.join(', ')}`;
      throw new ConfigError(`applyChatTemplate: ${this.#source} has no chat template "${name}"; ${known}`);
    }
    let template = this.#parsed.get(name);
    if (template === undefined) {
      try {
        template = parse(tokenize(text, { lstrip_blocks: true, trim_blocks: true }));
      } catch (cause) {
        throw new ConfigError(`applyChatTemplate: template "${name}" of ${this.#source} cannot be parsed; ${(cause as Error).message}`, {
          cause,
        });
      }
      this.#parsed.set(name, template);
    }
    return { name, template };
  }
}
