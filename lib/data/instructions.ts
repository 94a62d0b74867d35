import { FormatError } from '../errors.js';

/** A task with its answer, as the collections of LLM-Adapters hold them. */
export interface Instruction {
  readonly instruction: string;
  /** What the instruction is about, where it stands apart from it; empty or absent: nothing. */
  readonly input?: string;
  /** The response to learn. */
  readonly output?: string;
  /** The answer that a response is scored against. */
  readonly answer?: string | number;
}

/**
 * `plain`: one template for training and evaluation. The others are the published ones of LLM-Adapters, byte for byte, which differ in white space: train with
 * `legacy-training` and evaluate with `legacy-evaluation` to compare with its numbers.
 */
export type PromptStyle = 'plain' | 'legacy-training' | 'legacy-evaluation';

const kAlone = 'Below is an instruction that describes a task. Write a response that appropriately completes the request.';
const kWithInput =
  'Below is an instruction that describes a task, paired with an input that provides further context. Write a response that appropriately completes the request.';
const kIndent = ' '.repeat(16);

/** White space after the preamble without and with an input, in front of every line, and alone on a line between sections. */
const layouts: Readonly<Record<PromptStyle, { alone: string; withInput: string; indent: string; between: string }>> = {
  plain: { alone: '', withInput: '', indent: '', between: '' },
  'legacy-training': { alone: '  ', withInput: ' ', indent: kIndent, between: kIndent },
  'legacy-evaluation': { alone: ' ', withInput: '', indent: kIndent, between: '' },
};

/** The text in front of the response. */
export function instructionPrompt({ instruction, input = '' }: Instruction, style: PromptStyle = 'plain'): string {
  const { alone, withInput, indent, between } = layouts[style];
  const section = (title: string, text: string): string => `${indent}### ${title}:\n${indent}${text}`;
  const preamble = input === '' ? kAlone + alone : kWithInput + withInput;
  const sections = [section('Instruction', instruction), ...(input === '' ? [] : [section('Input', input)]), section('Response', '')];
  return `${preamble}\n\n${sections.join(`\n${between}\n`)}`;
}

/** Rows of `prompt` and `completion` for `train`. Throws `FormatError` for one without an output. */
export function instructionRows(rows: Iterable<Instruction>, style: PromptStyle = 'plain'): { prompt: string; completion: string }[] {
  return Array.from(rows, (row, index) => {
    if (typeof row.output !== 'string') throw new FormatError(`instructions: row ${index} has no "output" to learn`);
    return { prompt: instructionPrompt(row, style), completion: row.output };
  });
}
