import assert from "node:assert/strict";
import { inspect } from "node:util";
import { test } from "node:test";
import { LatchkeyError, latchkey } from "latchkey";
import { Problem, respond, token } from "./fake.js";
import { live, message, settle, start, stopTime, until } from "./setup.js";

const code = (code: string) => (error: unknown) => error instanceof LatchkeyError && error.code === code;

test("twenty calls at once make one request", async (t) => {
  const { server, client } = await start(t);
  const lk = client("ada");
  const keys = await Promise.all(Array.from({ length: 20 }, () => lk.key()));
  assert.deepEqual(new Set(keys), new Set(["sk-or-v1-fake-ada-1"]));
  assert.equal(server.reads, 1);
  assert.equal(await lk.key(), keys[0]);
  assert.equal(server.reads, 1);
});

test("nothing is asked for before the client is used", async (t) => {
  const { server, client } = await start(t);
  client("ada");
  await settle();
  assert.equal(server.reads + server.upgrades, 0);
});

test("without a socket a key older than a minute is read before it is given", async (t) => {
  const time = stopTime(t);
  const { server, client } = await start(t);
  const lk = client("ada", { WebSocket: null });
  await lk.key();
  const rotated = server.rotate("ada");
  time.pass(59);
  assert.equal(await lk.key(), "sk-or-v1-fake-ada-1");
  time.pass(1);
  assert.equal(await lk.key(), rotated);
  assert.equal(server.reads, 2);
});

test("a clock that was ahead and is set right keeps no key for longer", async (t) => {
  const time = stopTime(t);
  const { server, client } = await start(t);
  const made = token("ada", 1e6);
  const lk = client("ada", { WebSocket: null, token: () => made });
  time.shift(86_400);
  await lk.key();
  time.shift(-86_400);
  const rotated = server.rotate("ada");
  time.pass(61);
  assert.equal(await lk.key(), rotated);
});

test("with a socket it is given at once, and read meanwhile so that latchkey can meter it", async (t) => {
  const { time, server, lk } = await live(t);
  time.pass(30);
  await message(server, lk, "ada");
  time.pass(31);
  server.instead.push(() => {}); // never answers
  assert.equal(await lk.key(), "sk-or-v1-fake-ada-1");
  await until(() => server.reads === 2);
});

test("a rotation elsewhere arrives over the socket", async (t) => {
  const { server, client } = await start(t);
  const lk = client("ada");
  const events: string[] = [];
  lk.onChange((account, event) => events.push(`${event} ${account.version}`));
  await lk.key();
  await until(() => server.sockets === 1);
  const rotated = server.rotate("ada");
  await until(() => events.length === 2);
  assert.equal(await lk.key(), rotated);
  server.charge("ada", 0.5);
  await until(() => events.length === 3);
  assert.equal((await lk.account()).remaining_limit, 9.5);
  assert.ok(!JSON.stringify(await lk.account()).includes("sk-or-"));
  assert.deepEqual(events, ["key 1", "key 2", "quota 3"]);
  assert.equal(server.reads, 1);
});

test("a listener that left hears nothing, and one that throws harms no other", async (t) => {
  const { server, client } = await start(t);
  const lk = client("ada");
  const heard: string[] = [];
  const thrown: unknown[] = [];
  t.mock.method(globalThis, "queueMicrotask", (task: () => void) => {
    try { task(); } catch (error) { thrown.push(error); }
  });
  lk.onChange(() => heard.push("left"))();
  lk.onChange(() => { throw new Error("mine"); });
  lk.onChange(() => heard.push("stayed"));
  await until(() => server.sockets === 1);
  server.rotate("ada");
  await until(() => heard.length >= 2);
  assert.deepEqual([...new Set(heard)], ["stayed"]);
  assert.match(String(thrown[0]), /mine/);
});

test("an answer that another one overtook is not taken", async (t) => {
  const time = stopTime(t);
  const { server, client } = await start(t);
  const lk = client("ada");
  const old = JSON.stringify(server.body("ada"));
  await lk.key();
  await message(server, lk, "ada");
  time.pass(30);
  await message(server, lk, "ada");
  time.pass(31);
  const versions: number[] = [];
  lk.onChange((account) => versions.push(account.version));
  let answer = () => {};
  server.instead.push((_, response) => (answer = () => response.end(old)));
  await lk.key();
  await until(() => server.reads === 2);
  const rotated = server.rotate("ada");
  await until(() => versions.length === 1);
  const late = lk.account();
  answer();
  await late;
  await settle();
  assert.equal(await lk.key(), rotated);
  assert.deepEqual(versions, [4]);
});

test("a lower version is not taken, wherever it comes from", async (t) => {
  const time = stopTime(t);
  const { server, client } = await start(t);
  server.user("ada").version = 7;
  const lk = client("ada");
  await lk.key();
  await until(() => server.sockets === 1);
  const versions: number[] = [];
  lk.onChange((account) => versions.push(account.version));
  server.send("ada", { ...server.body("ada"), event: "key", version: 3, openrouter_api_key: "sk-or-v1-fake-old" });
  server.charge("ada", 1);
  await until(() => versions.length === 1);
  time.pass(61);
  server.instead.push((_, response) => response.end(JSON.stringify({ ...server.body("ada"), version: 3, openrouter_api_key: "sk-or-v1-fake-old" })));
  assert.equal(await lk.key(), "sk-or-v1-fake-ada-1");
  assert.deepEqual(versions, [8]);
});

test("a token is used until 30 s before its end", async (t) => {
  const time = stopTime(t);
  const { server, client } = await start(t);
  let fetched = 0;
  const lk = client("ada", { WebSocket: null, token: () => (fetched++, token("ada", 100)) });
  await lk.key();
  time.pass(65);
  await lk.key();
  assert.equal(fetched, 1);
  time.pass(61);
  await lk.key();
  assert.equal(fetched, 2);
  assert.equal(server.reads, 3);
});

test("a token that cannot be read is fetched each time, and the same one is not sent twice", async (t) => {
  const { server, client } = await start(t);
  let fetched = 0;
  await assert.rejects(client("ada", { token: () => (fetched++, "opaque") }).key(), code("invalid_token"));
  assert.deepEqual([fetched, server.reads], [2, 1]);
});

test("a clock that is slow: the server's expired_token has the last word", async (t) => {
  const { server, client } = await start(t);
  const given: string[] = [];
  const lk = client("ada", {
    token: () => {
      given.push(token("ada"));
      if (given.length === 1) server.refused.set(given[0]!, "expired_token");
      return given.at(-1)!;
    },
  });
  assert.equal(await lk.key(), "sk-or-v1-fake-ada-1");
  assert.equal(given.length, 2);
  assert.equal(server.reads, 2);
});

test("a clock that is fast: a token that looks expired is used", async (t) => {
  const { server, client } = await start(t);
  const made = token("ada", 3600);
  t.mock.method(Date, "now", () => 4e12);
  const lk = client("ada", { WebSocket: null, token: () => made });
  server.instead.push((request, response) => {
    assert.equal(request.headers.authorization, `Bearer ${made}`);
    response.end(JSON.stringify(server.body("ada")));
  });
  assert.equal(await lk.key(), "sk-or-v1-fake-ada-1");
});

test("a new token that is refused too is an error, and no third is tried", async (t) => {
  const { server, client } = await start(t);
  const lk = client("ada", { token: () => token("ada", -60) });
  await assert.rejects(lk.key(), (error) => error instanceof LatchkeyError && error.code === "expired_token" && error.status === 401);
  assert.equal(server.reads, 2);
});

test("an address that is none is refused by its option's name", async (t) => {
  const { client } = await start(t);
  for (const bad of ["keys.example.org", "keys.example.org:8787", "", "ws://keys.example.org"]) {
    assert.throws(() => client("ada", { url: bad }), /^TypeError: url has to begin with https:/);
    assert.throws(() => client("ada", { openRouterUrl: bad }), /^TypeError: openRouterUrl has to begin with https:/);
  }
});

test("an error of token(), and no token, are the caller's to see", async (t) => {
  const { server, client } = await start(t);
  await assert.rejects(client("ada", { token: () => Promise.reject(new TypeError("signed out")) }).key(), /TypeError: signed out/);
  await assert.rejects(client("ada", { token: async () => "" }).key(), code("missing_token"));
  await assert.rejects(client("ada", { token: () => undefined as any }).key(), code("missing_token"));
  assert.equal(server.reads, 0);
});

test("a problem document is an error with its code, status and Retry-After", async (t) => {
  const { server, client } = await start(t);
  server.instead.push(respond(new Problem(402, "quota_exhausted", 90)));
  await assert.rejects(client("ada").key(), { name: "LatchkeyError", code: "quota_exhausted", status: 402, retryAfter: 90, message: "The detail of quota_exhausted." });
  server.instead.push(respond(new Problem(503, "overloaded")));
  await assert.rejects(client("ada").key(), { code: "overloaded", status: 503, retryAfter: undefined });
});

test("what is not latchkey's answer is an error", async (t) => {
  const { server, client } = await start(t);
  const good = server.body("ada");
  const bodies: Record<string, unknown> = {
    "not JSON": "<html>", "nothing": "", "no object": "null", "a list": "[]", "half an answer": JSON.stringify(good).slice(0, 50),
    "no key": { ...good, openrouter_api_key: undefined }, "an empty key": { ...good, openrouter_api_key: "" },
    "a key that is a number": { ...good, openrouter_api_key: 5 }, "a key that would break a header": { ...good, openrouter_api_key: "sk\r\nX: y" },
    "no version": { ...good, version: undefined }, "a version that is text": { ...good, version: "9" }, "a broken version": { ...good, version: 1.5 },
    "no id": { ...good, id: undefined }, "a quota that is text": { ...good, remaining_limit: "10" },
    "very much": JSON.stringify({ ...good, user_name: "x".repeat(70_000) }),
  };
  for (const [name, body] of Object.entries(bodies)) {
    server.instead.push((_, response) => response.end(typeof body === "string" ? body : JSON.stringify(body)));
    await assert.rejects(client("ada").key(), code("bad_answer"), name);
  }
  server.instead.push((_, response) => response.writeHead(500).end("<html>"));
  await assert.rejects(client("ada").key(), { code: "bad_answer", status: 500 });
  server.instead.push((_, response) => response.writeHead(302, { Location: "/elsewhere" }).end());
  await assert.rejects(client("ada").key(), { code: "bad_answer", status: 302 });
});

test("an answer without an end is left", async (t) => {
  const { server, client } = await start(t);
  let left = false;
  server.instead.push((_, response) => {
    response.on("close", () => (left = true));
    const more = () => void (response.destroyed || response.write("x".repeat(16_384), () => setImmediate(more)));
    more();
  });
  await assert.rejects(client("ada").key(), code("bad_answer"));
  await until(() => left);
});

test("no answer within 45 s is an error, and so is a broken connection", async (t) => {
  const time = stopTime(t);
  const { server, client } = await start(t);
  server.instead.push(() => {});
  const late = client("ada").key();
  await until(() => server.reads === 1);
  time.pass(45);
  await assert.rejects(late, code("unreachable"));
  server.instead.push((request) => request.socket.destroy());
  await assert.rejects(client("ada").key(), code("unreachable"));
  let asked = false;
  const hanging = client("ada", { token: () => (asked = true, new Promise(() => {})) }).key();
  await until(() => asked);
  time.pass(45);
  await assert.rejects(hanging, code("unreachable"));
});

test("latchkey is left alone for an hour at most, whatever it says", async (t) => {
  const time = stopTime(t);
  const { server, client } = await start(t);
  const lk = client("ada", { WebSocket: null });
  await lk.key();
  time.pass(61);
  server.instead.push(respond(new Problem(503, "upstream_unavailable", 1e9)));
  await lk.key();
  time.pass(3599);
  await lk.key();
  assert.equal(server.reads, 2);
  time.pass(2);
  await lk.key();
  assert.equal(server.reads, 3);
});

test("while latchkey is down, the key at hand goes on, and latchkey is left alone as long as it says", async (t) => {
  const time = stopTime(t);
  const { server, client } = await start(t);
  const lk = client("ada", { WebSocket: null });
  await lk.key();
  time.pass(61);
  server.instead.push(respond(new Problem(503, "upstream_unavailable", 120)));
  assert.equal(await lk.key(), "sk-or-v1-fake-ada-1");
  time.pass(119);
  assert.equal(await lk.key(), "sk-or-v1-fake-ada-1");
  assert.equal(server.reads, 2);
  time.pass(1);
  await lk.key();
  assert.equal(server.reads, 3);
});

for (const { answer, pause } of [
  { answer: new Problem(402, "quota_exhausted", 86_400), pause: 60 },
  { answer: new Problem(429, "rate_limited", 60), pause: 60 },
  { answer: new Problem(503, "overloaded", 5), pause: 5 },
]) {
  test(`where there is no key, ${answer.status} with Retry-After ${answer.retryAfter} is the answer for ${pause} s`, async (t) => {
    const time = stopTime(t);
    const { server, client } = await start(t);
    const lk = client("ada", { WebSocket: null });
    server.instead.push(respond(answer));
    for (let i = 0; i < 10; i++) await assert.rejects(lk.key(), code(answer.code));
    time.pass(pause - 1);
    await assert.rejects(lk.account(), code(answer.code));
    assert.equal(server.reads, 1);
    time.pass(1);
    assert.equal(await lk.key(), "sk-or-v1-fake-ada-1");
    lk.close();
    await assert.rejects(lk.key(), code("closed"));
  });
}

test("without Retry-After, and after an error that has none, the next call asks", async (t) => {
  const { server, client } = await start(t);
  const lk = client("ada", { WebSocket: null });
  server.instead.push(respond(new Problem(503, "overloaded")), respond(new Problem(403, "suspended")));
  await assert.rejects(lk.key(), code("overloaded"));
  await assert.rejects(lk.key(), code("suspended"));
  assert.equal(await lk.key(), "sk-or-v1-fake-ada-1");
});

test("a listener that comes while latchkey is left alone is told over the socket, and the key is there", async (t) => {
  const { server, client } = await start(t);
  const lk = client("ada");
  server.instead.push(respond(new Problem(402, "quota_exhausted", 90)));
  await assert.rejects(lk.key(), code("quota_exhausted"));
  const told = new Promise((done) => lk.onChange((_, event) => done(event)));
  assert.equal(await told, "key");
  assert.equal(await lk.key(), "sk-or-v1-fake-ada-1");
});

test("an error of before is not the reason why a key of the socket's ended", async (t) => {
  const { time, server, lk } = await live(t);
  const events: string[] = [];
  lk.onChange((_, event) => events.push(event));
  time.pass(30);
  await message(server, lk, "ada");
  time.pass(31);
  server.instead.push(respond(new Problem(402, "quota_exhausted", 90)));
  await lk.key();
  await until(() => server.reads === 2);
  await settle();
  await assert.rejects(lk.key(), code("quota_exhausted"));
  server.rotate("ada");
  server.disable("ada");
  await until(() => events.includes("key_disabled"));
  await assert.rejects(lk.key(), code("key_disabled"));
});

test("a spent quota ends the key at hand", async (t) => {
  const { time, server, lk } = await live(t);
  time.pass(30);
  await message(server, lk, "ada");
  time.pass(31);
  server.instead.push(respond(new Problem(402, "quota_exhausted", 90)));
  await lk.key(); // the socket vouches for it, and it is read
  await until(() => server.reads === 2);
  await settle();
  await assert.rejects(lk.key(), code("quota_exhausted"));
  time.pass(60);
  assert.equal(await lk.key(), "sk-or-v1-fake-ada-1"); // of the same version: an operator gave more
});

test("two users' clients never mix", async (t) => {
  const { server, client } = await start(t);
  const users = ["ada", "bob"];
  const clients = users.map((user) => client(user));
  const heard: string[][] = [[], []];
  clients.forEach((lk, i) => lk.onChange((account) => heard[i]!.push(account.id)));
  await Promise.all(clients.map((lk) => lk.key()));
  await until(() => server.sockets === 2);
  for (let i = 0; i < 10; i++) users.forEach((user) => server.rotate(user));
  await until(() => heard.every((ids) => ids.length === 11));
  assert.deepEqual(await Promise.all(clients.map((lk) => lk.key())), users.map((user) => server.user(user).key));
  assert.deepEqual(heard.map((ids) => [...new Set(ids)]), [["ada"], ["bob"]]);
});

test("a token that becomes another user's ends the key", async (t) => {
  const time = stopTime(t);
  const { server, client } = await start(t);
  let user = "ada";
  const lk = client("ada", { token: () => token(user, 40) });
  await lk.key();
  await until(() => server.sockets === 1);
  server.send("ada", { event: "key", ...server.body("bob"), version: 99 });
  user = "bob";
  time.pass(61);
  await assert.rejects(lk.key(), code("another_user"));
  await assert.rejects(lk.key(), code("another_user"));
});

test("close ends what is on its way, the socket, and all that comes after", async (t) => {
  const { server, client } = await start(t);
  const lk = client("ada");
  let heard = 0;
  await lk.key();
  lk.onChange(() => heard++);
  await until(() => server.sockets === 1);
  lk.close();
  await until(() => server.sockets === 0);
  server.rotate("ada");
  await assert.rejects(lk.key(), code("closed"));
  await assert.rejects(lk.account(), code("closed"));
  await assert.rejects(lk.fetch("https://openrouter.ai/api/v1/models"), () => true);
  assert.throws(() => lk.onChange(() => {}), code("closed"));
  lk.close();

  const other = client("ada");
  server.instead.push(() => {});
  other.onChange(() => heard++);
  const pending = other.key();
  await until(() => server.reads === 2);
  other.close();
  await assert.rejects(pending, code("closed"));
  await settle();
  assert.deepEqual([heard, server.reads, server.upgrades], [0, 2, 1]);
});

test("a client shows no key and no token, and neither does an error", async (t) => {
  const { server, client } = await start(t);
  const secret = token("ada");
  const lk = client("ada", { token: () => secret });
  await lk.key();
  const shown = [inspect(lk, { depth: 9, showHidden: true }), JSON.stringify(lk)];
  server.instead.push((request) => request.socket.destroy());
  shown.push(inspect(await client("ada", { token: () => secret }).key().catch((error) => error), { depth: 9 }));
  for (const text of shown) assert.ok(!text.includes("sk-or-") && !text.includes(secret), text);
});

test("an address that is none is refused at once", () => {
  assert.throws(() => latchkey({ url: "latchkey", token: () => "" }), TypeError);
});
