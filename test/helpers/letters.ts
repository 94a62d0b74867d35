import type { TextTokenizer } from 'lorikeet/data';

/** Code points of a text. */
export const code = (text: string): number[] => Array.from(text, (c) => c.charCodeAt(0));

/** One token a character, `<s>` = 1 in front, end token 2. */
export const letters: TextTokenizer = {
  encodeBatch: async (texts, { addSpecialTokens = true } = {}) => texts.map((text) => [...(addSpecialTokens ? [1] : []), ...code(text)]),
  eosId: 2,
  applyChatTemplate: (messages, { addGenerationPrompt = false, tools } = {}) =>
    (tools === undefined ? '' : `{${tools.length} tools}`) +
    messages.map(({ role, content }) => `[${role[0]}]${content};`).join('') +
    (addGenerationPrompt ? '[a]' : ''),
};
