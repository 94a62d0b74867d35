import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import test from 'ava';

// Every relative link of the pages leads to a file, and to a heading where it names one; every page of docs can be reached from the README.

const docs = readdirSync('docs', { recursive: true, encoding: 'utf8' }).map((name) => `docs/${name}`);
const pages = ['README.md', 'CHANGELOG.md', 'bench/README.md', ...docs].filter((path) => path.endsWith('.md'));

const withoutCode = (text: string): string => text.replace(/^```[\s\S]*?^```$/gm, '').replace(/`[^`\n]*`/g, '');

/** Targets of the links of a page that are no addresses, as paths from the root of the repository. */
function linksOf(page: string): { readonly path: string; readonly anchor: string | undefined }[] {
  const found = [...withoutCode(readFileSync(page, 'utf8')).matchAll(/\]\(([^)\s]+)\)/g)].map(([, target = '']) => target);
  return found
    .filter((target) => !/^[a-z]+:/.test(target))
    .map((target) => {
      const [path = '', anchor] = target.split('#');
      return { path: path === '' ? page : normalize(join(dirname(page), path)), anchor };
    });
}

/** The anchors of a page's headings, as GitHub makes them. */
function anchorsOf(page: string): string[] {
  const text = readFileSync(page, 'utf8').replace(/^```[\s\S]*?^```$/gm, '');
  const headings = [...text.matchAll(/^#+ (.*)$/gm)].map(([, title = '']) => title);
  return headings.map((title) =>
    title
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\- _]/gu, '')
      .replaceAll(' ', '-'),
  );
}

for (const page of pages) {
  test(`the links of ${page} lead somewhere`, (t) => {
    for (const { path, anchor } of linksOf(page)) {
      t.true(existsSync(path), `no file ${path}`);
      if (anchor !== undefined) t.true(path.endsWith('.md') && anchorsOf(path).includes(anchor), `no heading #${anchor} in ${path}`);
    }
    t.pass();
  });
}

test('every page can be reached from the README', (t) => {
  const reached = new Set(['README.md']);
  for (const page of reached) for (const { path } of linksOf(page)) if (path.endsWith('.md')) reached.add(path);
  t.deepEqual(
    pages.filter((page) => !reached.has(page)),
    [],
  );
});
