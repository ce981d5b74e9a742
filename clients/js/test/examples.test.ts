// The examples with the real packages. Against a Worker that runs, with a user whose key
// works at OPENROUTER_URL, as `make clients` does:
//
//   LATCHKEY_URL=... LATCHKEY_TOKEN=... USER_ID=... OPENROUTER_URL=... node --test build/test/examples.test.js

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { test, type TestContext } from "node:test";
import { fileURLToPath } from "node:url";
import { token } from "./fake.js";
import { start, until } from "./setup.js";

const { LATCHKEY_URL, LATCHKEY_TOKEN = "", USER_ID = "", OPENROUTER_URL = "https://openrouter.ai" } = process.env;

/** Runs an example to its end; every line goes to `line` as it comes. */
async function run(t: TestContext, name: string, env: object, line: (line: string) => unknown = () => {}): Promise<string> {
  const path = fileURLToPath(new URL(`../examples/${name}.js`, import.meta.url));
  const child = spawn(process.execPath, [path], { env: { ...process.env, ...env }, stdio: ["ignore", "pipe", "inherit"] });
  t.after(() => child.kill());
  let printed = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    printed += text;
    text.split("\n").forEach(line);
  });
  const [status] = await once(child, "close");
  assert.equal(status, 0);
  return printed;
}

/** Has the Worker replace the user's key. */
async function replaceKey(): Promise<void> {
  const headers = { Authorization: `Bearer ${LATCHKEY_TOKEN}` };
  const { status } = await fetch(`${LATCHKEY_URL}/api/users/me/openrouter-api-key/refresh`, { method: "POST", headers });
  assert.equal(status, 200);
}

for (const name of ["openai", "openrouter-sdk", "ai-sdk"]) {
  test(`${name}: the key is replaced under the second call, and nobody notices`, async (t) => {
    if (LATCHKEY_URL) {
      let replaced: Promise<void> | undefined;
      const printed = await run(t, name, { LATCHKEY_URL, LATCHKEY_TOKEN, OPENROUTER_URL }, () => (replaced ??= replaceKey()));
      await replaced;
      assert.match(printed, /\S.*\n.*\S/s); // what two questions were answered
      return;
    }
    const { server, openrouter } = await start(t);
    const first = server.user("ada").key;
    openrouter.before = () => {
      if (openrouter.requests.length !== 2) return;
      openrouter.ended.set(first, 401);
      server.rotate("ada");
    };
    const env = { LATCHKEY_URL: server.url, LATCHKEY_TOKEN: token("ada"), OPENROUTER_URL: openrouter.url };
    assert.equal(await run(t, name, env), "Hello from OpenRouter\nHello from OpenRouter\n");
    assert.deepEqual(openrouter.requests.map(({ key }) => key), [first, first, server.user("ada").key]);
  });
}

test("react-query: prefetched, hydrated, told of changes, cleared; and no key in the page", { skip: !globalThis.WebSocket && "this Node has no WebSocket" }, async (t) => {
  const fake = LATCHKEY_URL ? undefined : (await start(t)).server;
  const env = fake ? { LATCHKEY_URL: fake.url, LATCHKEY_TOKEN: token("ada"), USER_ID: "ada" } : { LATCHKEY_URL, LATCHKEY_TOKEN, USER_ID };
  const charge = async () => {
    await until(() => fake?.sockets === 1);
    fake?.charge("ada", 2.5);
  };
  let ended = false;
  // Again and again: a key may be replaced before the page has read the one of before.
  const replaceKeys = async () => {
    while (!ended) await replaceKey();
  };
  let change: Promise<void> | undefined;
  const printed = await run(t, "react-query", env, (line) => {
    if (line.startsWith("page:")) change = fake ? charge() : replaceKeys();
  }).finally(() => (ended = true));
  await change;
  const left = "<p>[\\d.]+ of [\\d.]+ credits are left</p>\n";
  assert.match(printed, new RegExp(`^server: ${left}page: ${left}page, after a change: ${left}queries after sign-out: 0\n$`));
  if (!fake) return;
  assert.equal(
    printed,
    `server: <p>10 of 10 credits are left</p>
page: <p>10 of 10 credits are left</p>
page, after a change: <p>7.5 of 10 credits are left</p>
queries after sign-out: 0
`,
  );
});
