import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { test } from "node:test";
import { LatchkeyError } from "latchkey";
import { FakeLatchkey, Problem, respond, token } from "./fake.js";
import { heard, live, message, settle, start, stopTime, until, WebSocket } from "./setup.js";

/** A WebSocket class that notes what it is asked for. */
function noted() {
  const asked: { url: string; protocols: string[] }[] = [];
  class Noted extends WebSocket {
    constructor(url: string, protocols: string[]) {
      super(url, protocols);
      asked.push({ url, protocols });
    }
  }
  return { asked, Noted };
}

test("the token goes into the protocols, and nowhere else", async (t) => {
  const { server, client } = await start(t);
  const { asked, Noted } = noted();
  const own = token("ada");
  const lk = client("ada", { WebSocket: Noted, token: () => own });
  await lk.key();
  await until(() => server.sockets === 1);
  assert.deepEqual(asked, [{ url: `${server.url.replace("http", "ws")}/api/users/me/events`, protocols: ["bearer", own] }]);
});

test("after 4401 it comes back with a new token", async (t) => {
  const time = stopTime(t);
  const { server, client } = await start(t);
  const { asked, Noted } = noted();
  const lk = client("ada", { WebSocket: Noted, token: () => token("ada") });
  await lk.key();
  await message(server, lk, "ada");
  server.closeSockets(4401, "expired_token");
  await until(() => server.sockets === 0);
  await settle();
  time.pass(2);
  await until(() => server.upgrades === 2);
  await message(server, lk, "ada");
  assert.notEqual(asked[1]!.protocols[1], asked[0]!.protocols[1]);
  assert.equal(server.reads, 1);
});

test("after a deployment, or without a word, it comes back, later each time, and within a minute", async (t) => {
  const time = stopTime(t);
  const { server, client } = await start(t);
  const lk = client("ada");
  lk.onChange(() => {});
  for (const [i, wait] of [2, 4, 8, 16, 32, 60, 60].entries()) {
    await until(() => server.upgrades === i + 1 && server.sockets === 1);
    server.closeSockets(i % 2 ? 1006 : 1012);
    await until(() => server.sockets === 0);
    await settle();
    time.pass(wait - 0.001);
    await settle();
    assert.equal(server.upgrades, i + 1);
    time.pass(0.001);
  }
  await until(() => server.sockets === 1);
  await message(server, lk, "ada");
  time.pass(30); // the first ping: this one lasts
  await message(server, lk, "ada");
  server.closeSockets(1012);
  await until(() => server.sockets === 0);
  await settle();
  time.pass(2);
  await until(() => server.sockets === 1);
});

test("what changed meanwhile is known as soon as it is back", async (t) => {
  const { time, server, lk } = await live(t);
  server.closeSockets(1012);
  await until(() => server.sockets === 0);
  await settle();
  const rotated = server.rotate("ada");
  const heard = new Promise((done) => lk.onChange((_, event) => done(event)));
  time.pass(2);
  assert.equal(await heard, "key");
  assert.equal(await lk.key(), rotated);
  assert.equal(server.reads, 1);
});

test("a token that never comes holds up the socket for 45 s, and opens none when it is late", async (t) => {
  const time = stopTime(t);
  const { server, client } = await start(t);
  const waiting: ((token: string) => void)[] = [];
  let hangs = false;
  const lk = client("ada", { token: () => (hangs ? new Promise((done) => waiting.push(done)) : token("ada", 10)) });
  lk.onChange(() => {});
  await message(server, lk, "ada");
  hangs = true;
  server.closeSockets(1012);
  await until(() => server.sockets === 0);
  await settle();
  time.pass(2);
  await until(() => waiting.length > 0);
  hangs = false;
  time.pass(44);
  await settle();
  assert.equal(server.upgrades, 1);
  time.pass(61);
  await message(server, lk, "ada");
  for (const done of waiting) done(token("ada"));
  await settle();
  assert.equal(server.upgrades, 2);
});

test("4403 ends the key; a user who is resumed has one again", async (t) => {
  const { time, server, lk, events } = await heard(t);
  server.suspend("ada");
  await until(() => events.length === 1 && server.sockets === 0);
  await assert.rejects(lk.key(), (error) => error instanceof LatchkeyError && error.code === "suspended" && error.status === 403);
  server.user("ada").suspended = false;
  const rotated = server.rotate("ada");
  await settle();
  time.pass(62);
  await until(() => events.length === 2);
  assert.equal(await lk.key(), rotated);
  assert.deepEqual(events, ["suspended", "key"]);
});

test("4403 alone, without a message before it, ends the key too", async (t) => {
  const { server, lk, events } = await heard(t);
  server.user("ada").suspended = true;
  server.closeSockets(4403, "suspended");
  await until(() => events.length === 1);
  assert.deepEqual(events, ["suspended"]);
  await assert.rejects(lk.key(), { code: "suspended" });
});

test("4403 is told by the code that latchkey gives", async (t) => {
  const { server, lk, events } = await heard(t);
  server.instead.push(respond(new Problem(403, "key_disabled")));
  server.closeSockets(4403, "key_disabled");
  await until(() => events.length === 1);
  assert.deepEqual(events, ["key_disabled"]);
  await assert.rejects(lk.key(), { code: "key_disabled", status: 403 });
});

test("a message that has no key is read after, and listeners are told once why", async (t) => {
  const { server, lk, events } = await heard(t);
  server.disable("ada");
  await until(() => events.length === 2);
  await assert.rejects(lk.key(), { code: "key_disabled", status: 403 });
  server.closeSockets(4403, "key_disabled");
  await until(() => server.sockets === 0);
  await settle();
  assert.deepEqual([events, server.reads], [["quota", "key_disabled"], 3]);
});

test("listeners are told of another reason, and of the same one after a key", async (t) => {
  const { server, lk, events } = await heard(t);
  const refuse = async (code: string) => {
    server.instead.push(respond(new Problem(403, code)));
    await assert.rejects(lk.key(), { code });
  };
  server.send("ada", { event: "suspended", ...server.body("ada"), version: 3 });
  await until(() => events.length === 1);
  await refuse("suspended");
  await refuse("key_disabled");
  await refuse("key_disabled");
  server.user("ada").version = 4;
  await lk.key();
  server.send("ada", { event: "suspended", ...server.body("ada"), version: 5 });
  await until(() => events.length === 4);
  assert.deepEqual(events, ["suspended", "key_disabled", "key", "suspended"]);
});

for (const [code, reason] of [[4402, "quota_exhausted"], [4403, "suspended"], [4429, "rate_limited"]] as const) {
  test(`after ${code} ${reason} it comes back, but not within a minute`, async (t) => {
    const { time, server, lk } = await live(t);
    lk.onChange(() => {});
    server.closeSockets(code, reason);
    await until(() => server.sockets === 0);
    await settle();
    time.pass(59);
    await settle();
    assert.equal(server.upgrades, 1);
    time.pass(3);
    await until(() => server.upgrades === 2);
    await message(server, lk, "ada");
  });
}

test("after 4429 too_many_sockets there is no socket any more, and listeners are told by reading", async (t) => {
  const { time, server, lk } = await live(t);
  const heard: number[] = [];
  lk.onChange((account) => heard.push(account.version));
  server.closeSockets(4429, "too_many_sockets");
  await until(() => server.sockets === 0);
  await settle();
  server.rotate("ada");
  time.pass(100);
  await until(() => heard.length === 1);
  time.pass(1000);
  await settle();
  assert.deepEqual([heard, server.upgrades], [[3], 1]);
});

test("an erased user is asked for no more: that would begin a new quota", async (t) => {
  const { time, server, lk } = await live(t);
  const heard: string[] = [];
  lk.onChange((account, event) => heard.push(`${event} ${account.id}`));
  server.erase("ada");
  server.closeSockets(4404, "erased");
  await until(() => heard.length === 1);
  const erased = { name: "LatchkeyError", code: "erased", status: 404 };
  await assert.rejects(lk.key(), erased);
  await assert.rejects(lk.account(), erased);
  assert.throws(() => lk.onChange(() => {}), erased);
  time.pass(1000);
  await settle();
  assert.deepEqual([heard, server.upgrades, server.reads], [["erased ada"], 1, 1]);
});

test("after 4404 unknown, which a deployment leaves, it comes back at once", async (t) => {
  const { time, server } = await live(t);
  server.closeSockets(4404, "unknown");
  await until(() => server.sockets === 0);
  await settle();
  time.pass(2);
  await until(() => server.upgrades === 2);
});

test("a socket that opens and says nothing is left, and the key is read meanwhile", async (t) => {
  const time = stopTime(t);
  const { server, client } = await start(t);
  server.silent = true;
  const lk = client("ada");
  await lk.key();
  await until(() => server.sockets === 1);
  await settle();
  server.user("ada").key = "sk-or-v1-fake-next"; // and nothing says so
  server.user("ada").version++;
  time.pass(30);
  await until(() => server.sockets === 0);
  time.pass(30);
  assert.equal(await lk.key(), "sk-or-v1-fake-next");
});

test("an upgrade that is never answered is left too", async (t) => {
  const time = stopTime(t);
  const { server, client } = await start(t);
  const made: { closed: boolean }[] = [];
  class Stuck {
    onmessage = null; onclose = null; onerror = null; readyState = 0; closed = false;
    constructor() { made.push(this); }
    send() { throw new Error("not open"); }
    close() { this.closed = true; }
  }
  const lk = client("ada", { WebSocket: Stuck });
  await lk.key();
  await settle();
  time.pass(30);
  assert.deepEqual(made.map((socket) => socket.closed), [true]);
  time.pass(2);
  await settle();
  assert.equal(made.length, 2);
  assert.equal(server.upgrades, 0);
});

test("ping and its pong keep a socket on which nothing happens", async (t) => {
  const time = stopTime(t);
  const { server, client } = await start(t);
  let pongs = 0;
  class Counted extends (globalThis.WebSocket ?? (await import("ws")).WebSocket as any) {
    set onmessage(listener: any) {
      super.onmessage = (event: any) => { if (event.data === "pong") pongs++; listener(event); };
    }
  }
  const lk = client("ada", { WebSocket: Counted as any });
  lk.onChange(() => {});
  await lk.key();
  await message(server, lk, "ada");
  for (let i = 1; i <= 20; i++) {
    time.pass(30);
    await until(() => pongs === i);
  }
  assert.deepEqual([server.upgrades, server.sockets, server.reads], [1, 1, 1]);
});

test("messages that make no sense are passed over", async (t) => {
  const { server, client } = await start(t);
  const lk = client("ada");
  const heard: number[] = [];
  await lk.key();
  await message(server, lk, "ada");
  lk.onChange((account) => heard.push(account.version));
  const body = server.body("ada");
  const senseless: (string | Buffer | object)[] = [
    "", "{", "null", "7", "[]", "{}", Buffer.from(JSON.stringify({ ...body, version: 50 })),
    { event: "key", ...body, version: 60, id: "bob", openrouter_api_key: "sk-or-v1-fake-bob" },
    { event: "key", ...body, version: "70" }, { event: "key", ...body, version: 80, openrouter_api_key: "a\nb" },
    { event: "key", ...body, version: 90, user_name: "x".repeat(70_000) },
  ];
  for (const what of senseless) server.send("ada", what);
  server.charge("ada", 1);
  await until(() => heard.length > 0);
  assert.deepEqual(heard, [3]);
  assert.equal(await lk.key(), "sk-or-v1-fake-ada-1");
});

test("without WebSockets listeners are told by reading, and a key that nobody listens to is not read", async (t) => {
  const time = stopTime(t);
  const { server, client } = await start(t);
  const lk = client("ada", { WebSocket: null });
  await lk.key();
  time.pass(200);
  await settle();
  assert.equal(server.reads, 1);
  const heard: number[] = [];
  lk.onChange((account) => heard.push(account.version));
  await until(() => server.reads === 2);
  await settle();
  server.rotate("ada");
  time.pass(130);
  await until(() => heard.length === 1);
  assert.deepEqual(heard, [2]);
});

test("a listener is told once latchkey is back", async (t) => {
  const time = stopTime(t);
  const { server, client } = await start(t);
  const lk = client("ada");
  server.instead.push((request) => request.socket.destroy());
  const heard = new Promise((done) => lk.onChange((account) => done(account.id)));
  await until(() => server.reads === 1);
  for (let i = 0; i < 20; i++) await settle();
  time.pass(2);
  assert.equal(await heard, "ada");
});

test("a client that nobody uses for five minutes closes its socket, and opens it at the next use", async (t) => {
  const { time, server, lk } = await live(t);
  for (let i = 0; i < 10; i++) {
    time.pass(30);
    if (i < 9) await message(server, lk, "ada");
  }
  await until(() => server.sockets === 0);
  time.pass(600);
  await settle();
  assert.equal(server.upgrades, 1);
  await lk.key();
  await until(() => server.upgrades === 2);
});

test("a clock that was ahead and is set right keeps no socket open", async (t) => {
  const time = stopTime(t);
  const { server, client } = await start(t);
  const made = token("ada", 1e6);
  const lk = client("ada", { token: () => made });
  time.shift(86_400);
  await lk.key();
  await message(server, lk, "ada");
  time.shift(-86_400);
  for (let i = 0; i < 10 && server.sockets > 0; i++) {
    time.pass(30);
    await settle();
  }
  await until(() => server.sockets === 0);
});

test("Node ends after close(), and without a socket it needs none", async (t) => {
  const server = await FakeLatchkey.start();
  t.after(() => server.stop());
  for (const [socket, close] of [["undefined", "lk.close()"], ["null", ""]]) {
    const program = `
      import { latchkey } from "latchkey";
      const lk = latchkey({ url: "${server.url}", token: () => "${token("ada")}", WebSocket: ${socket} });
      console.log(await lk.key());
      ${close}`;
    const child = spawn(process.execPath, ["--input-type=module", "-e", program], { stdio: ["ignore", "pipe", "inherit"] });
    t.after(() => child.kill());
    let printed = "";
    child.stdout.on("data", (text) => (printed += text));
    const [status] = await once(child, "close");
    assert.deepEqual([status, printed], [0, "sk-or-v1-fake-ada-1\n"]);
  }
});
