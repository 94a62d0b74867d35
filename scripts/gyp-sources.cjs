// Used by binding.gyp: prints the C++ sources of the folders of native/ named as arguments, one a line.
const { readdirSync } = require('node:fs');
const { join } = require('node:path');

for (const folder of process.argv.slice(2)) {
  const files = readdirSync(join(__dirname, '..', 'native', folder)).filter((name) => name.endsWith('.cc'));
  for (const name of files.sort()) console.log(`native/${folder}/${name}`);
}
