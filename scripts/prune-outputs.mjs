// Removes compiled files whose TypeScript source is gone, so that a deleted test or module cannot live on in out/ or dist/.
import { existsSync, readdirSync, rmSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));

function prune(outputs, sources) {
  if (!existsSync(outputs)) return;
  for (const name of readdirSync(outputs)) {
    const output = join(outputs, name);
    if (statSync(output).isDirectory()) {
      prune(output, join(sources, name));
      continue;
    }
    const source = name.replace(/\.(js|d\.ts)(\.map)?$/, '.ts');
    if (source !== name && !existsSync(join(sources, source))) rmSync(output);
  }
}

prune(join(root, 'dist'), join(root, 'lib'));
prune(join(root, 'out'), root);
