// The tabs of an app's users. Each has a client of clients/js, and streams completions
// from OpenRouter through it, one after the other. Beside them another device of each
// user asks latchkey for the key every few seconds, so that keys are replaced while they
// are in use. Standard input is a JSON object:
//
//   client      file of the client
//   latchkey    where latchkey is; openrouter: the origin of OpenRouter's stand-in
//   users       [{id, token}]
//   tabs        of each user
//   seconds     after which no new completion begins, unless the tabs were told of too few
//               keys: two for each, on a machine that is slow
//   completion  what is asked for
//   reading     ms between two readings of the other device
//
// A line is printed in the end:
//
//   calls    completions that were asked for
//   refused  calls whose key OpenRouter refused at first
//   failed   calls that gave no whole completion, by what came instead
//   saved    calls that were refused at first, and did not fail
//   changed  keys that the tabs were told of
//   read     readings of the other devices; unread: those that failed, by status
//   spent    what the whole completions cost, in nano-credits, by user
import { setTimeout as sleep } from "node:timers/promises";
import { text } from "node:stream/consumers";

const { client, latchkey: url, openrouter, users, tabs, seconds, completion, reading } = JSON.parse(await text(process.stdin));
const { latchkey } = await import(client);

const end = Date.now() + seconds * 1000;
const report = { calls: 0, refused: 0, failed: {}, saved: 0, changed: 0, read: 0, unread: {}, spent: {} };
const isOver = () => Date.now() >= end && report.changed >= 2 * tabs * users.length;
const count = (counts, what) => { counts[what] = (counts[what] ?? 0) + 1; };

async function tab({ id, token }, delay) {
  let refused; // of the present call
  const noted = async (input, init) => {
    const response = await fetch(input, init);
    if (String(input).startsWith(openrouter) && [401, 402, 403].includes(response.status)) refused = true;
    return response;
  };
  const lk = latchkey({ url, token: () => token, openRouterUrl: openrouter, fetch: noted });
  lk.onChange((_, event) => { if (event === "key") report.changed++; });
  await sleep(delay);
  while (!isOver()) {
    report.calls++;
    refused = false;
    try {
      const cost = await stream(lk);
      report.spent[id] = (report.spent[id] ?? 0) + Math.round(cost * 1e9);
      if (refused) report.saved++;
    } catch (error) {
      count(report.failed, error.code ?? error.message);
    }
    if (refused) report.refused++;
  }
  lk.close();
}

// stream asks for a completion and returns what it cost, once all of it has come.
async function stream(lk) {
  const response = await lk.fetch(`${openrouter}/api/v1/chat/completions`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ ...completion, stream: true, model: "openai/gpt-4o-mini", messages: [{ role: "user", content: "Hello?" }] }),
  });
  const events = (await response.text()).split("\n\n");
  if (!response.ok) throw new Error(`status ${response.status}`);
  if (events.at(-2) !== "data: [DONE]") throw new Error("the stream broke off");
  return JSON.parse(events.at(-3).slice("data: ".length)).usage.cost;
}

async function otherDevice({ token }, delay) {
  await sleep(delay);
  for (; !isOver(); await sleep(reading)) {
    report.read++;
    const response = await fetch(`${url}/api/users/me`, { headers: { Authorization: `Bearer ${token}` } });
    await response.text();
    if (!response.ok) count(report.unread, response.status);
  }
}

// They do not begin all at once: users do not either.
await Promise.all(users.flatMap((user, i) => {
  const share = i / users.length;
  const each = Array.from({ length: tabs }, (_, n) => tab(user, (share + n / tabs) * reading));
  return [...each, otherDevice(user, share * reading)];
}));
console.log(JSON.stringify(report));
