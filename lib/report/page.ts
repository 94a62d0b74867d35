import { escapeHtml } from './html.js';
import { kScript } from './script.js';
import { kStyle } from './style.js';

export interface Page {
  readonly title: string;
  /** HTML of header and sections. */
  readonly body: string;
  /** Load the file again every so many seconds. */
  readonly refreshSeconds?: number;
}

/** A whole document that needs nothing beside itself; its policy forbids the browser to fetch anything. */
export function renderPage({ title, body, refreshSeconds }: Page): string {
  const refresh = refreshSeconds === undefined ? '' : `\n<meta http-equiv="refresh" content="${refreshSeconds}">`;
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">${refresh}
<title>${escapeHtml(title)}</title>
<style>${kStyle}</style>
</head>
<body>
<main>
${body}
</main>
<script>${kScript}</script>
</body>
</html>
`;
}
