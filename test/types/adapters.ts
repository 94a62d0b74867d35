// Compiled with the tests and never run: each marked line must not compile.

import { expectTypeOf } from 'expect-type';
import { type AdapterConfig, type AdapterSet, attach, type LoadReport, loadAdapter, type Model, type TunedModel } from 'lorikeet';
import type { Module } from 'lorikeet/nn';

declare const model: Model;
declare const network: Module;

export async function good(): Promise<void> {
  const tuned = await attach(model, { type: 'lora', rank: 16, alpha: 32, targets: 'all-linear', dora: true });
  expectTypeOf(tuned).toEqualTypeOf<TunedModel>();
  expectTypeOf(await attach(network, { type: 'lora', targets: { roles: ['attention'] } })).toEqualTypeOf<AdapterSet>();
  expectTypeOf(await attach(tuned, { type: 'lora' }, { name: 'b', signal: new AbortController().signal })).toEqualTypeOf<TunedModel>();
  expectTypeOf(await loadAdapter(model, 'folder')).toEqualTypeOf<TunedModel>();
  expectTypeOf(await loadAdapter(model, 'folder', { strict: false })).toEqualTypeOf<{
    readonly tuned: TunedModel;
    readonly report: LoadReport;
  }>();
  const config = { type: 'lora', rankPattern: { q_proj: 4 }, bias: 'lora_only' } as const satisfies AdapterConfig;
  await attach(model, config);
  await attach(model, { type: 'bottleneck', scaling: 'learned', parallel: true });
  await attach(model, { type: 'prefix', virtualTokens: 10, order: 'keys-first' });
  await attach(model, { type: 'prompt', init: 'text', initText: 'Answer:' });
  await attach(model, { type: 'p-tuning', encoder: 'lstm' });
}

export async function bad(): Promise<void> {
  // @ts-expect-error misspelt option
  await attach(model, { type: 'lora', aplha: 32 });
  // @ts-expect-error unknown method
  await attach(model, { type: 'lroa' });
  // @ts-expect-error no method
  await attach(model, { rank: 8 });
  // @ts-expect-error rank is a number
  await attach(model, { type: 'lora', rank: '8' });
  // @ts-expect-error unknown bias mode
  await attach(model, { type: 'lora', bias: 'some' });
  // @ts-expect-error unknown init
  await attach(model, { type: 'lora', init: 'pisa' });
  // @ts-expect-error targets are names
  await attach(model, { type: 'lora', targets: [1, 2] });
  // @ts-expect-error PEFT's spelling
  await attach(model, { type: 'lora', lora_alpha: 8 });
  // @ts-expect-error a number or 'learned'
  await attach(model, { type: 'bottleneck', scaling: 'trained' });
  // @ts-expect-error an option of another method
  await attach(model, { type: 'prompt', encoder: 'lstm' });
  // @ts-expect-error unknown encoder
  await attach(model, { type: 'p-tuning', encoder: 'gru' });
  // @ts-expect-error misspelt attach option
  await attach(model, { type: 'lora' }, { nmae: 'b' });
  // @ts-expect-error strict is a boolean
  await loadAdapter(model, 'folder', { strict: 'no' });
}
