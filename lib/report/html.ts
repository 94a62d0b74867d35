/** Text for the inside of an element or a quoted attribute. */
export function escapeHtml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;').replaceAll("'", '&#39;');
}

/** A value as JSON that can stand in a `script` element. */
export function escapeJson(value: unknown): string {
  return JSON.stringify(value).replaceAll('<', '\\u003c').replaceAll('\u2028', '\\u2028').replaceAll('\u2029', '\\u2029');
}

export interface Column {
  readonly title: string;
  /** Numbers are aligned to the right. */
  readonly numeric?: boolean;
}

/** A table; cells are HTML, the first of each row is its header. */
export function table(columns: readonly Column[], rows: readonly (readonly string[])[], caption = ''): string {
  const kind = columns.map(({ numeric }) => (numeric ? ' class="number"' : ''));
  const head = columns.map(({ title }, index) => `<th scope="col"${kind[index]}>${escapeHtml(title)}</th>`).join('');
  const body = rows
    .map((cells) => {
      const [first = '', ...rest] = cells;
      return `<tr><th scope="row"${kind[0]}>${first}</th>${rest.map((cell, index) => `<td${kind[index + 1]}>${cell}</td>`).join('')}</tr>`;
    })
    .join('\n');
  const title = caption === '' ? '' : `<caption>${escapeHtml(caption)}</caption>`;
  return `<div class="scroll" tabindex="0"><table>${title}<thead><tr>${head}</tr></thead><tbody>\n${body}\n</tbody></table></div>`;
}

/** Names and values, two columns without a head; values are HTML. */
export function factTable(facts: readonly (readonly [string, string])[]): string {
  const rows = facts.map(([name, value]) => `<tr><th scope="row">${escapeHtml(name)}</th><td>${value}</td></tr>`).join('\n');
  return `<table class="facts"><tbody>\n${rows}\n</tbody></table>`;
}
