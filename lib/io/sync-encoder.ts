import { MessageChannel, type MessagePort, receiveMessageOnPort, Worker } from 'node:worker_threads';
import { NativeError } from '../errors.js';

// The tokenizers library encodes on a thread pool and answers through the event loop only. Where ids are needed at once, a worker thread owns a copy of the
// tokenizer, and the caller sleeps until it has answered (some 20 microseconds more than the encoding itself).

/** @internal */
export interface EncoderSetup {
  readonly signal: Int32Array;
}

/** @internal */
export type EncoderRequest = { readonly port: MessagePort } & (
  | { readonly kind: 'start' }
  | { readonly kind: 'load'; readonly tokenizer: number; readonly json: string }
  | { readonly kind: 'encode'; readonly tokenizer: number; readonly text: string; readonly addSpecialTokens: boolean }
);

/** @internal */
export type EncoderReply = { readonly ids: Uint32Array } | { readonly error: string };

type Ask<Request> = Request extends unknown ? Omit<Request, 'port'> : never;

const patience = 600_000;

/** The worker of this thread; made when first needed, and never a reason for the process to stay. */
class EncoderWorker {
  readonly #signal = new Int32Array(new SharedArrayBuffer(4));
  readonly #worker: Worker;
  #failed = false;

  constructor() {
    const workerData: EncoderSetup = { signal: this.#signal };
    // No flags of this process: some, such as --input-type, would keep the worker from starting.
    this.#worker = new Worker(new URL('./sync-encoder-worker.js', import.meta.url), { workerData, execArgv: [] });
    this.#worker.unref();
    this.#worker.on('error', () => {
      this.#failed = true;
    });
    this.ask({ kind: 'start' }, 60_000);
  }

  get failed(): boolean {
    return this.#failed;
  }

  ask(request: Ask<EncoderRequest>, milliseconds = patience): Uint32Array {
    const { port1, port2 } = new MessageChannel();
    const before = Atomics.load(this.#signal, 0);
    this.#worker.postMessage({ ...request, port: port2 }, [port2]);
    this.#await(before, milliseconds);
    const reply = receiveMessageOnPort(port1)?.message as EncoderReply | undefined;
    port1.close();
    if (reply === undefined) {
      this.#failed = true;
      throw new NativeError(`tokenizer: the encoding thread gave no answer within ${milliseconds / 1000} s`);
    }
    if ('error' in reply) throw new NativeError(`tokenizer: cannot encode; ${reply.error}`);
    return reply.ids;
  }

  /** Sleeps until the signal has changed, at most so long: the call that wakes it up may be a late one of the request before. */
  #await(before: number, milliseconds: number): void {
    const end = performance.now() + milliseconds;
    while (Atomics.load(this.#signal, 0) === before) {
      const left = end - performance.now();
      if (left <= 0 || Atomics.wait(this.#signal, 0, before, left) === 'timed-out') return;
    }
  }

  release(tokenizer: number): void {
    this.#worker.postMessage({ kind: 'release', tokenizer });
  }
}

let worker: EncoderWorker | undefined;
let tokenizers = 0;
const collected = new FinalizationRegistry<{ readonly owner: EncoderWorker; readonly id: number }>(({ owner, id }) => owner.release(id));

/** Encodes with one tokenizer, waiting for the result. */
export class SyncEncoder {
  readonly #json: string;
  #owner: EncoderWorker | undefined;
  #id = 0;

  constructor(json: string) {
    this.#json = json;
  }

  /** Throws `NativeError` when the tokenizer cannot encode the text. */
  encode(text: string, addSpecialTokens: boolean): number[] {
    const owner = this.#load();
    return Array.from(owner.ask({ kind: 'encode', tokenizer: this.#id, text, addSpecialTokens }));
  }

  #load(): EncoderWorker {
    if (this.#owner !== undefined && !this.#owner.failed) return this.#owner;
    if (worker === undefined || worker.failed) worker = new EncoderWorker();
    this.#id = ++tokenizers;
    worker.ask({ kind: 'load', tokenizer: this.#id, json: this.#json });
    this.#owner = worker;
    collected.register(this, { owner: worker, id: this.#id });
    return worker;
  }
}
