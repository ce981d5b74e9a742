import { mock, type TestContext } from "node:test";
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
 * be: chance always draws the longest.
 */
export function stopTime(t: TestContext) {
  mock.timers.enable({ apis: ["setTimeout", "Date"], now: Date.now() });
  t.mock.method(Math, "random", () => 1);
  t.after(() => mock.timers.reset());
  return { pass: (seconds: number) => mock.timers.tick(seconds * 1000) };
}

/** Lets what is on its way arrive until the condition holds. The test's own timeout ends it. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await turn();
}

/** Lets everything happen that can happen without anything new: for what must not come. */
export async function settle(): Promise<void> {
  for (let i = 0; i < 50; i++) await turn();
}

const turn = () => new Promise((done) => setImmediate(done));
