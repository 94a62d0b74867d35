import { Argument, type Command } from 'commander';
import { z } from 'zod';
import { command, runCommand } from '../command.js';
import { bashCompletion } from '../completion/bash.js';
import { describeCommands } from '../completion/description.js';
import { fishCompletion } from '../completion/fish.js';
import { zshCompletion } from '../completion/zsh.js';
import type { OutputOptions } from '../output.js';

const writers = { bash: bashCompletion, zsh: zshCompletion, fish: fishCompletion } as const;
type Shell = keyof typeof writers;

/** What `--json` prints. */
export const completionOutput = z.strictObject({ shell: z.enum(['bash', 'zsh', 'fish']), script: z.string() });

export function completionCommand(): Command {
  return command(
    'completion',
    'Print a script that completes commands, options and their values in a shell.',
    'source <(lorikeet completion bash)',
  )
    .addArgument(new Argument('<shell>', 'the shell').choices(Object.keys(writers)))
    .action((shell: Shell, options: OutputOptions, self: Command) =>
      runCommand(options, async (_, { output }) => {
        const program = self.parent as Command;
        const script = writers[shell](program.name(), describeCommands(program));
        output.result({ shell, script } satisfies z.output<typeof completionOutput>, script.trimEnd());
      }),
    );
}
