import { parentPort, workerData } from 'node:worker_threads';
import { Tokenizer } from 'tokenizers';
import type { EncoderReply, EncoderRequest, EncoderSetup } from './sync-encoder.js';

// Holds a copy of each tokenizer and answers requests one by one; the asker sleeps until the signal changes.
const { signal } = workerData as EncoderSetup;
const tokenizers = new Map<number, Tokenizer>();

async function answer(request: EncoderRequest): Promise<EncoderReply> {
  switch (request.kind) {
    case 'start':
      return { ids: new Uint32Array(0) };
    case 'load':
      tokenizers.set(request.tokenizer, Tokenizer.fromString(request.json));
      return { ids: new Uint32Array(0) };
    case 'encode': {
      const tokenizer = tokenizers.get(request.tokenizer);
      if (tokenizer === undefined) throw new Error('unknown tokenizer');
      const encoding = await tokenizer.encode(request.text, null, { addSpecialTokens: request.addSpecialTokens });
      return { ids: Uint32Array.from(encoding.getIds()) };
    }
  }
}

parentPort?.on('message', async (message: EncoderRequest | { readonly kind: 'release'; readonly tokenizer: number }) => {
  if (message.kind === 'release') {
    tokenizers.delete(message.tokenizer);
    return;
  }
  let reply: EncoderReply;
  try {
    reply = await answer(message);
  } catch (error) {
    reply = { error: (error as Error).message };
  }
  message.port.postMessage(reply);
  Atomics.add(signal, 0, 1);
  Atomics.notify(signal, 0);
});
