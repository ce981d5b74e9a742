import assert from "node:assert/strict";
import { test } from "node:test";
import { FakeOpenRouter, Problem, respond } from "./fake.js";
import { message, settle, start, stopTime, until } from "./setup.js";

const post = (body: BodyInit, more: RequestInit = {}): RequestInit => ({ method: "POST", body, ...more });

/** Ends the key at OpenRouter once it was used, as a rotation in another tab does. */
async function withDeadKey(t: Parameters<typeof start>[0], status: 401 | 402 | 403 = 401) {
  const all = await start(t);
  const lk = all.client("ada", { WebSocket: null });
  const dead = await lk.key();
  const rotated = all.server.rotate("ada");
  all.openrouter.ended.set(dead, status);
  return { ...all, lk, dead, rotated, keys: () => all.openrouter.requests.map(({ key }) => key), chat: `${all.openrouter.url}/api/v1/chat/completions` };
}

test("the key goes to OpenRouter, and to no other origin", async (t) => {
  const { server, openrouter, client } = await start(t);
  const other = await FakeOpenRouter.start();
  t.after(() => other.stop());
  const lk = client("ada");
  const response = await lk.fetch(`${openrouter.url}/api/v1/chat/completions`, post("{}", { headers: { Authorization: "Bearer placeholder", "X-Title": "app" } }));
  assert.equal(response.status, 200);
  assert.deepEqual(openrouter.requests, [{ key: "sk-or-v1-fake-ada-1", body: "{}" }]);

  await lk.fetch(new URL(`${openrouter.url}/a`));
  await lk.fetch(new Request(`${openrouter.url}/b`));
  assert.deepEqual(openrouter.requests.map(({ key }) => key), Array(3).fill("sk-or-v1-fake-ada-1"));

  for (const url of [`${other.url}/api/v1/chat/completions`, other.url.replace("127.0.0.1", "localhost"), other.url.replace("//", `//${new URL(openrouter.url).host}@`)]) {
    await lk.fetch(url, post("{}", { headers: { Authorization: "Bearer own" } })).catch(() => {}); // user and password in a URL are refused by fetch
  }
  await lk.fetch(new Request(other.url));
  assert.deepEqual([...new Set(other.requests.map(({ key }) => key))], ["own", ""]);
  assert.equal(server.reads, 1);
});

test("by default OpenRouter is https://openrouter.ai", async (t) => {
  const { server, client } = await start(t);
  const sent: [string, string | null][] = [];
  const lk = client("ada", {
    openRouterUrl: undefined,
    WebSocket: null,
    fetch: async (input, init) => {
      if (String(input).startsWith(server.url)) return fetch(input, init);
      sent.push([String(input), new Headers(init?.headers).get("Authorization")]);
      return new Response();
    },
  });
  for (const url of ["https://openrouter.ai/api/v1/models", "http://openrouter.ai/", "https://openrouter.ai.example.org/", "https://api.openrouter.ai/", "https://openrouter.ai@example.org/", "https://openrouter.ai:8443/"]) {
    await lk.fetch(url);
  }
  assert.deepEqual(sent.map(([, header]) => header), ["Bearer sk-or-v1-fake-ada-1", null, null, null, null, null]);
});

test("a redirect takes the key nowhere", async (t) => {
  const { openrouter, client } = await start(t);
  const response = await client("ada").fetch(`${openrouter.url}/redirect`);
  assert.equal(response.status, 302);
  assert.equal(openrouter.requests.length, 1);
});

for (const status of [401, 402, 403] as const) {
  test(`after ${status} the request goes out once more, with the present key`, async (t) => {
    const { server, lk, dead, rotated, keys, chat, openrouter } = await withDeadKey(t, status);
    const response = await lk.fetch(chat, post('{"messages":[]}'));
    assert.equal(response.status, 200);
    assert.deepEqual(keys(), [dead, rotated]);
    assert.deepEqual(openrouter.requests.map(({ body }) => body), ['{"messages":[]}', '{"messages":[]}']);
    assert.equal(server.reads, 2);
  });
}

test("a stream that has not begun is repeated, and then streams", async (t) => {
  const { lk, keys, chat, dead, rotated } = await withDeadKey(t);
  const response = await lk.fetch(chat, post('{"stream":true}'));
  assert.match(await response.text(), /Hello .*from .*OpenRouter.*\[DONE\]/s);
  assert.deepEqual(keys(), [dead, rotated]);
});

test("twenty requests that are refused at once ask latchkey once", async (t) => {
  const { server, lk, chat, keys } = await withDeadKey(t);
  const answers = await Promise.all(Array.from({ length: 20 }, () => lk.fetch(chat, post("{}"))));
  assert.deepEqual([...new Set(answers.map(({ status }) => status))], [200]);
  assert.deepEqual([server.reads, keys().length], [2, 40]);
});

test("a reading that began before the refusal is not believed", async (t) => {
  const { server, openrouter, client } = await start(t);
  const lk = client("ada", { WebSocket: null });
  const dead = await lk.key();
  const old = JSON.stringify(server.body("ada"));
  t.mock.method(Date, "now", () => 4e12); // so that key() reads
  let answer = () => {};
  server.instead.push((_, response) => (answer = () => response.end(old)));
  const late = lk.key();
  await until(() => server.reads === 2);
  t.mock.restoreAll();
  openrouter.ended.set(dead, 401);
  const rotated = server.rotate("ada");
  assert.equal((await lk.fetch(`${openrouter.url}/x`)).status, 200);
  answer();
  await late;
  assert.equal(await lk.key(), rotated);
});

test("a key that the socket brought meanwhile is used without asking", async (t) => {
  const { server, openrouter, client } = await start(t);
  const lk = client("ada");
  const dead = await lk.key();
  await message(server, lk, "ada");
  openrouter.before = (key) => {
    if (key === dead && !openrouter.ended.size) {
      openrouter.ended.set(dead, 401);
      server.rotate("ada");
    }
  };
  assert.equal((await lk.fetch(`${openrouter.url}/x`)).status, 200);
  assert.equal(openrouter.requests.length, 2);
});

test("where the key is still the same, or the next is refused too, the refusal is the answer", async (t) => {
  const { server, openrouter, client } = await start(t);
  const lk = client("ada", { WebSocket: null });
  openrouter.ended.set(await lk.key(), 403);
  const refusal = await lk.fetch(`${openrouter.url}/x`, post("{}"));
  assert.deepEqual([refusal.status, openrouter.requests.length, server.reads], [403, 1, 2]);
  assert.match(await refusal.text(), /Key limit exceeded/);

  openrouter.ended.set(server.rotate("ada"), 401);
  assert.equal((await lk.fetch(`${openrouter.url}/x`, post("{}"))).status, 401);
  assert.equal(openrouter.requests.length, 3);
});

test("a refusal that is about something else is passed on", async (t) => {
  const { server, openrouter, client } = await start(t);
  const response = await client("ada").fetch(`${openrouter.url}/guarded`, post("{}"));
  assert.equal(response.status, 403);
  assert.match(await response.text(), /guardrail/);
  assert.deepEqual([openrouter.requests.length, server.reads], [1, 1]);
});

test("an erased user, whose versions began anew, has the new key after the refusal", async (t) => {
  const { server, openrouter, client } = await start(t);
  server.user("ada").version = 40;
  const lk = client("ada", { WebSocket: null });
  openrouter.ended.set(await lk.key(), 401);
  server.erase("ada");
  server.user("ada").key = "sk-or-v1-fake-anew";
  assert.equal((await lk.fetch(`${openrouter.url}/x`)).status, 200);
  assert.equal(await lk.key(), "sk-or-v1-fake-anew");
  assert.equal((await lk.account()).version, 1);
});

test("where latchkey has no other key, its error says why", async (t) => {
  const { server, lk, chat } = await withDeadKey(t, 402);
  server.instead.push(respond(new Problem(402, "quota_exhausted", 60)));
  await assert.rejects(lk.fetch(chat, post("{}")), { code: "quota_exhausted", retryAfter: 60 });
});

/** A client whose key is refused with `status` and this body; `cancelled` says whether the body was. */
async function withBody(t: Parameters<typeof start>[0], status: number, begins: string) {
  const { server, client } = await start(t);
  const seen = { cancelled: false };
  const body = () => new ReadableStream({
    start: (controller) => controller.enqueue(new TextEncoder().encode(begins)),
    cancel: () => void (seen.cancelled = true),
  });
  let sent = 0;
  const lk = client("ada", {
    openRouterUrl: undefined,
    WebSocket: null,
    fetch: async (input, init) => {
      if (String(input).startsWith(server.url)) return fetch(input, init);
      return sent++ === 0 ? new Response(body(), { status }) : new Response("ok");
    },
  });
  await lk.key();
  return { server, lk, seen };
}

for (const { body, status, reads } of [
  { body: "The model is not allowed", status: 403, reads: 1 },
  { body: "Key limit exceeded", status: 200, reads: 2 },
]) {
  test(`a 403 that begins with "${body}" and never ends is judged by that after 3 s`, async (t) => {
    const time = stopTime(t);
    const { server, lk } = await withBody(t, 403, body);
    server.rotate("ada");
    const answer = lk.fetch("https://openrouter.ai/api/v1/models");
    await settle();
    time.pass(3);
    const response = await answer;
    assert.deepEqual([response.status, server.reads], [status, reads]);
    await response.body!.cancel();
  });
}

test("the body of a refusal is cancelled where latchkey has no key to go on with", async (t) => {
  const { server, lk, seen } = await withBody(t, 402, "no");
  server.instead.push(respond(new Problem(402, "quota_exhausted")));
  await assert.rejects(lk.fetch("https://openrouter.ai/api/v1/models"), { code: "quota_exhausted" });
  assert.equal(seen.cancelled, true);
});

test("a body that is a stream goes out once: the refusal is the answer, and the next request has the new key", async (t) => {
  const { server, lk, dead, rotated, keys, chat } = await withDeadKey(t);
  const stream = () => new Blob(["{}"]).stream();
  async function* generator() { yield new TextEncoder().encode("{}"); }
  const refusal = await lk.fetch(chat, post(stream(), { duplex: "half" } as RequestInit));
  assert.equal(refusal.status, 401);
  assert.match(await refusal.text(), /User not found/);
  assert.equal((await lk.fetch(chat, post(generator() as any, { duplex: "half" } as RequestInit))).status, 200);
  assert.deepEqual([keys(), server.reads], [[dead, rotated], 2]);
});

test("other bodies, and those of Requests, are sent again as they were", async (t) => {
  const bodies: [string, () => BodyInit][] = [
    ["text", () => "hello"],
    ["bytes", () => new TextEncoder().encode("hello")],
    ["a blob", () => new Blob(["hello"])],
    ["parameters", () => new URLSearchParams("hello")],
  ];
  for (const [name, body] of bodies) {
    for (const wrapped of [false, true]) {
      const { lk, chat, openrouter } = await withDeadKey(t);
      const response = await (wrapped ? lk.fetch(new Request(chat, post(body()))) : lk.fetch(chat, post(body())));
      assert.equal(response.status, 200, name);
      const sent = openrouter.requests.map(({ body }) => body.replace("=", ""));
      assert.deepEqual(sent, ["hello", "hello"], name);
    }
  }
});

test("a request that is aborted does not wait for latchkey", async (t) => {
  const { server, openrouter, client } = await start(t);
  server.instead.push(() => {});
  const stop = new AbortController();
  const pending = client("ada").fetch(`${openrouter.url}/x`, { signal: stop.signal });
  await until(() => server.reads === 1);
  stop.abort(new Error("enough"));
  await assert.rejects(pending, /enough/);
  await assert.rejects(client("ada").fetch(new Request(`${openrouter.url}/x`, { signal: AbortSignal.abort() })), { name: "AbortError" });
  await settle();
  assert.equal(openrouter.requests.length, 0);
});
