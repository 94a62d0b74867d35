import type { Command, Option } from 'commander';

/** What a shell needs to know of an option. */
export interface OptionDescription {
  /** All its spellings: `-h`, `--help`. */
  readonly flags: readonly string[];
  readonly description: string;
  readonly takesValue: boolean;
  /** The only values it takes, where there are such. */
  readonly choices: readonly string[];
}

export interface CommandDescription {
  readonly name: string;
  readonly description: string;
  readonly options: readonly OptionDescription[];
  /** The only words its first argument may be; empty where it is a path. */
  readonly words: readonly string[];
}

/** Every command of a program with its options, as the program itself has them. */
export function describeCommands(program: Command): CommandDescription[] {
  return program.commands.map((command) => ({
    name: command.name(),
    description: command.description(),
    options: command.createHelp().visibleOptions(command).map(describeOption),
    words: command.registeredArguments[0]?.argChoices ?? [],
  }));
}

function describeOption({ short, long, description, argChoices, required, optional }: Option): OptionDescription {
  return {
    flags: [short, long].filter((flag) => flag !== undefined),
    description,
    takesValue: required || optional,
    choices: argChoices ?? [],
  };
}
