// Preloaded (node --import) to prove that a program opens no network: any attempt throws where it is made.
import dgram from 'node:dgram';
import dns from 'node:dns';
import net from 'node:net';

const refuse = (what) => () => {
  throw new Error(`network: this run must not use it; got ${what}`);
};
net.Socket.prototype.connect = refuse('a connection');
net.Server.prototype.listen = refuse('a listening socket');
dgram.Socket.prototype.bind = refuse('a datagram socket');
dgram.Socket.prototype.send = refuse('a datagram');
for (const name of ['lookup', 'resolve', 'resolve4', 'resolve6']) {
  dns[name] = refuse('a name lookup');
  dns.promises[name] = refuse('a name lookup');
}
globalThis.fetch = refuse('a fetch');
