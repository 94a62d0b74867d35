// Run: npx tsc -p tsconfig.test.json && node out/examples/server-express.js [model folder]
// The smaller brother of server-fastify.ts: one fine-tune a request, its progress as server-sent events; a client that leaves aborts it. Expected: "listening on
// http://127.0.0.1:3000".   curl -N -X POST localhost:3000/runs -H 'content-type: application/json' -d '{"texts":["To be, or not to be."],"steps":20}'
import { mkdtempSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import express from 'express';
import { generate, LorikeetError } from 'lorikeet';
import { BackgroundRuns, type RunRequest } from './background-runs.js';

const runs = await BackgroundRuns.open(process.argv[2] ?? 'examples/stories260k', mkdtempSync(join(tmpdir(), 'lorikeet-server-')));
const app = express().use(express.json());

app.post('/runs', async (request, response) => {
  const run = await runs.start(request.body as RunRequest);
  response.on('close', () => run.abort());
  response.writeHead(200, { 'content-type': 'text/event-stream', 'x-run': run.id });
  await pipeline(Readable.from(run.events()), response).catch(() => undefined);
});

app.post('/generate', async (request, response) => {
  const { run, prompt } = request.body as { run?: string; prompt: string };
  if (run !== undefined && runs.get(run)?.state !== 'done') response.status(409).json({ error: 'that run has no finished adapter' });
  else
    response.json({ text: await generate(runs.model, prompt, { maxNewTokens: 40, ...(run !== undefined && { adapters: [run] }) }).text() });
});

app.use((error: Error, _request: express.Request, response: express.Response, _next: express.NextFunction) => {
  response.status(error instanceof LorikeetError ? 400 : 500).json({ error: error.message });
});

const server = app.listen(Number(process.env.PORT ?? 3000), '127.0.0.1', () =>
  console.log(`listening on http://127.0.0.1:${(server.address() as AddressInfo).port}`),
);
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => server.close(() => void runs.close()));
