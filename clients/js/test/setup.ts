import type { TestContext } from "node:test";
import { WebSocket as PackageWebSocket } from "ws";
import { latchkey, type Latchkey, type Options, type WebSocketClass } from "latchkey";
import { FakeLatchkey, FakeOpenRouter, token } from "./fake.js";

/** Node's own from version 22 on. */
export const WebSocket = (globalThis.WebSocket ?? PackageWebSocket) as WebSocketClass;

/** Starts both fakes. They, and every client, are stopped with the test. */
export async function start(t: TestContext) {
  const server = await FakeLatchkey.start();
  const openrouter = await FakeOpenRouter.start();
  t.after(() => Promise.all([server.stop(), openrouter.stop()]));
  const client = (user: string, options: Partial<Options> = {}): Latchkey => {
    const lk = latchkey({ url: server.url, token: () => token(user), openRouterUrl: openrouter.url, WebSocket, ...options });
    t.after(() => lk.close());
    return lk;
  };
  return { server, openrouter, client };
}

/**
 * Time stands still from now on; `pass` moves it. Waits are as long as they can
 * be: chance always draws the longest. (Node 20's own mock timers lose some.)
 */
export function stopTime(t: TestContext) {
  let now = Date.now();
  let ahead = 0;
  const pending = new Map<object, { at: number; run: () => void }>();
  const real = { setTimeout: globalThis.setTimeout, clearTimeout: globalThis.clearTimeout };
  const fakeTimeout = (run: (...args: unknown[]) => void, ms = 0, ...args: unknown[]) => {
    const set = () => pending.set(timer, { at: now + ms, run: () => run(...args) });
    const timer = { ref: () => timer, unref: () => timer, refresh: () => (set(), timer) };
    set();
    return timer;
  };
  Object.assign(globalThis, {
    setTimeout: fakeTimeout,
    clearTimeout: (timer: any) => void (pending.delete(timer) || real.clearTimeout(timer)),
  });
  t.mock.method(Date, "now", () => now + ahead);
  t.mock.method(Math, "random", () => 1);
  t.after(() => void Object.assign(globalThis, real));
  return {
    /** Sets the clock, on or back; no time passes. */
    shift(seconds: number): void {
      ahead += seconds * 1000;
    },
    pass(seconds: number): void {
      const until = now + seconds * 1000;
      for (;;) {
        const [next] = [...pending].filter(([, { at }]) => at <= until).sort(([, a], [, b]) => a.at - b.at);
        if (!next) break;
        pending.delete(next[0]);
        now = Math.max(now, next[1].at);
        next[1].run();
      }
      now = until;
    },
  };
}

/** Lets what is on its way arrive until the condition holds. The test's own timeout ends it. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await turn();
}

/** Sends a message that the client is sure to have received when this returns; the user's version is higher by one. */
export async function message(server: FakeLatchkey, lk: Latchkey, user: string): Promise<void> {
  await until(() => server.sockets > 0);
  const arrived = new Promise<void>((done) => {
    const leave = lk.onChange(() => (leave(), done()));
  });
  server.charge(user, 0);
  await arrived;
}

/** Stops the time, and starts a client of Ada's whose socket is open and has brought a message. */
export async function live(t: TestContext) {
  const time = stopTime(t);
  const { server, client } = await start(t);
  const lk = client("ada");
  await lk.key();
  await message(server, lk, "ada");
  return { time, server, lk };
}

/** A live client, and the events that it tells of from then on. */
export async function heard(t: TestContext) {
  const { time, server, lk } = await live(t);
  const events: string[] = [];
  lk.onChange((_, event) => events.push(event));
  return { time, server, lk, events };
}

/** Lets everything happen that can happen without anything new: for what must not come. */
export async function settle(): Promise<void> {
  for (let i = 0; i < 50; i++) await turn();
}

const turn = () => new Promise((done) => setImmediate(done));
