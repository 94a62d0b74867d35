// Used by binding.gyp: prints the path of the static OpenBLAS (LORIKEET_OPENBLAS, or where Linux distributions put it), or fails with what to install.
const { existsSync, readdirSync, readFileSync } = require('node:fs');

const multiarch = readdirSync('/usr/lib')
  .filter((name) => name.endsWith('-linux-gnu'))
  .map((name) => `/usr/lib/${name}`);
const folders = [...multiarch, '/usr/lib64', '/usr/lib', '/usr/local/lib', '/opt/OpenBLAS/lib'];
const places = folders.flatMap((folder) => [`${folder}/openblas-serial/libopenblas.a`, `${folder}/libopenblas.a`]);
// One built with threads would bring a second pool, which spins against ours.
const isSerial = (path) => !readFileSync(path).includes('blas_thread_server');
const given = process.env.LORIKEET_OPENBLAS;
const present = (given ? [given] : places).filter((path) => existsSync(path));
const found = present.find(isSerial);
if (!found) {
  const why = present.length > 0 ? `; built with threads: ${present.join(', ')}` : given ? `; not there: ${given}` : '';
  console.error(
    `The static OpenBLAS without threads is missing${why}. On Debian or Ubuntu:\n  apt-get install -y libopenblas-serial-dev\n` +
      'elsewhere give its place with LORIKEET_OPENBLAS=/path/to/libopenblas.a',
  );
  process.exit(1);
}
console.log(found);
