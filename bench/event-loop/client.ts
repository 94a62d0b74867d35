// The client of the event-loop suite, a process of its own: sends requests at a steady rate over kept connections, whether or not the ones before are answered,
// and prints their latencies. node client.js URL COUNT INTERVAL
import { Agent, get } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';

const [url = '', count = '0', interval = '0'] = process.argv.slice(2);
/** Loopback takes some 0.1 ms; what is not answered by then never will be. */
const kPatience = 10_000;
const agent = new Agent({ keepAlive: true, maxSockets: 32 });

const request = (): Promise<number> =>
  new Promise((resolve, reject) => {
    const start = performance.now();
    get(url, { agent, timeout: kPatience }, (response) => {
      response.resume().on('end', () => {
        if (response.statusCode === 200) resolve(performance.now() - start);
        else reject(new Error(`client: got status ${response.statusCode}, expected 200`));
      });
    })
      .on('timeout', () => reject(new Error(`client: no answer within ${kPatience} ms`)))
      .on('error', reject);
  });

const begin = performance.now();
const latencies: Promise<number>[] = [];
for (let sent = 0; sent < Number(count); sent++) {
  const wait = begin + sent * Number(interval) - performance.now();
  if (wait > 0) await sleep(wait);
  latencies.push(request());
}
process.stdout.write(JSON.stringify(await Promise.all(latencies)));
agent.destroy();
