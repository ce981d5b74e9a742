// The account page in a browser. WORKER is the address of a Worker that lets
// https://app.example.org in; ADA, BOB and EXPIRED are tokens of three of its users,
// the last one past its time. With SCREENSHOTS, a folder, pictures are taken too.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { serve, User, withHistory } from "./api.mjs";
import { launch } from "./chromium.mjs";

const { WORKER, ADA, BOB, EXPIRED, SCREENSHOTS } = process.env;
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

let browser, api;
const complaints = []; // what the browser said against the page

before(async () => {
  [browser, api] = await Promise.all([launch(), serve(WORKER)]);
});
after(async () => {
  await browser?.close();
  api?.close();
});

// person returns a browser profile of its own, with pages of the account page.
async function person(t, width = 1000) {
  const context = await browser.createBrowserContext();
  t.after(() => context.close());
  return {
    context,
    async tab() {
      const page = await context.newPage();
      await page.setViewport({ width, height: 900 });
      page.on("pageerror", (error) => complaints.push(String(error)));
      page.on("console", (message) => /Content Security Policy|TrustedHTML/.test(message.text()) && complaints.push(message.text()));
      return page;
    },
    async open(url, token) {
      const page = await this.tab();
      await page.goto(`${url}#token=${token}`);
      return page;
    },
  };
}

const userOf = (t) => api.add(new User(t.name.replace(/\W+/g, "-"), "Ada"));

// opened returns a page of a user of this test, once it is live.
async function opened(t, user = userOf(t), width) {
  const page = await (await person(t, width)).open(api.url, user.token);
  await live(page);
  return page;
}

const text = (page, selector) => page.$eval(selector, (element) => element.innerText.trim());
const click = (page, selector) => page.$eval(selector, (element) => element.click());

// shows waits until an element is seen and holds a text.
async function shows(page, selector, wanted, timeout = 20_000) {
  try {
    await page.waitForFunction((selector, wanted) => {
      const element = document.querySelector(selector);
      return element?.checkVisibility() && element.innerText.includes(wanted);
    }, { timeout }, selector, wanted);
  } catch {
    assert.fail(`${selector} does not show "${wanted}" but "${await text(page, selector)}"; the page: ${await text(page, "body")}`);
  }
}

const live = (page) => shows(page, "#link", "Live");
const html = (page) => page.evaluate(() => document.documentElement.outerHTML);

async function isAccessible(page, what) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => axe.run(document, { resultTypes: ["violations"] }));
  assert.deepEqual(violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(" ")}`), [], what);
}

test("a token leaves the address at once and is not kept", async (t) => {
  const user = userOf(t);
  const { context, tab } = await person(t);
  const page = await tab();
  await page.evaluateOnNewDocument(() => {
    addEventListener("DOMContentLoaded", () => { window.addressAtLoad = location.href; });
  });
  await page.goto(`${api.url}#token=${user.token}`);
  await live(page);
  assert.equal(await page.evaluate(() => window.addressAtLoad), api.url);
  assert.equal(page.url(), api.url);
  assert.equal(await page.evaluate(async () => localStorage.length + sessionStorage.length + document.cookie.length + (await indexedDB.databases()).length + (await caches.keys()).length), 0);
  assert.equal((await context.cookies()).length, 0);
  assert.ok(!(await html(page)).includes(`${user.token}"`));
  await page.reload();
  await shows(page, "#problem", "You are not signed in here");
  await page.evaluate((token) => { location.hash = `token=${token}`; }, user.token);
  await live(page);
  assert.equal(page.url(), api.url);
});

test("the key is hidden until it is asked for, and can be copied", async (t) => {
  const user = userOf(t);
  const who = await person(t);
  await who.context.overridePermissions(new URL(api.url).origin, ["clipboard-read", "clipboard-sanitized-write"]);
  const page = await who.open(api.url, user.token);
  await live(page);
  assert.ok(!(await html(page)).includes(user.key));
  await page.bringToFront();
  await page.click("#copy");
  await shows(page, "#news", "Copied.");
  assert.ok(!(await html(page)).includes(user.key));
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), user.key);
  await click(page, "#show");
  await shows(page, "#key", user.key);
  await click(page, "#show");
  assert.ok(!(await html(page)).includes(user.key));
});

test("where the browser does not let it copy, the key is selected", async (t) => {
  const user = userOf(t);
  const page = await opened(t, user);
  await page.evaluate(() => { navigator.clipboard.writeText = () => Promise.reject(new Error("not allowed")); });
  await click(page, "#copy");
  await shows(page, "#news", "copy it yourself");
  assert.equal(await page.evaluate(() => String(getSelection())), user.key);
});

test("quota, dates and history are shown, and follow the account", async (t) => {
  const user = api.add(withHistory("history", "Ada", Date.now()));
  const page = await opened(t, user);
  await shows(page, "#history-card", "Credits left over time");
  assert.equal(await text(page, "#left"), "6.52");
  assert.equal(await page.$eval("#bar", (bar) => bar.getAttribute("aria-valuetext")), "6.52 of 10.00 credits left");
  for (const id of ["#made", "#expires", "#renews"]) assert.match(await text(page, id), /20\d\d/, id);
  assert.equal(await page.$$eval("#rows tr", (rows) => rows.length), user.ledger.length);
  assert.equal(await page.$$eval("#chart .dot", (dots) => dots.length), user.ledger.filter(({ kind }) => kind !== "charge").length);
  user.spend(0.25);
  await shows(page, "#left", "6.27");
  await page.waitForFunction((count) => document.querySelectorAll("#rows tr").length === count, {}, user.ledger.length);
});

test("text from outside is text", async (t) => {
  const user = api.add(new User("markup", "<img src=x onerror=document.title='bad'><script>document.title='bad'</script>"));
  user.ledger[0].kind = "<b>kind</b>";
  const page = await opened(t, user);
  await shows(page, "#who", "<img src=x onerror=");
  await page.waitForSelector("#rows tr");
  assert.equal(await page.$$eval("img, b, body script:not([type=module])", (found) => found.length), 0);
  assert.equal(await page.title(), "Your OpenRouter key");
});

// Of an API in memory, and of the Worker's own.
for (const [where, base] of [["", () => [api.url, userOf({ name: "ada" }).token, userOf({ name: "bob" }).token]], [" (the Worker's API)", () => [WORKER, ADA, BOB]]]) {
  test(`a new key shows in every tab of its user within a second, and in nobody else's${where}`, async (t) => {
    const [url, ada, bob] = base();
    const [adas, bobs] = [await person(t), await person(t)];
    const tabs = [await adas.open(url, ada), await adas.open(url, ada), await bobs.open(url, bob)];
    for (const tab of tabs) {
      await live(tab);
      await click(tab, "#show");
    }
    const keys = () => Promise.all(tabs.map((tab) => text(tab, "#key")));
    const [before, same, others] = await keys();
    assert.match(before, /^sk-or-v1-[0-9a-f]+$/);
    assert.equal(before, same);
    assert.notEqual(before, others);
    await tabs[2].evaluate(() => {
      window.changes = 0;
      new MutationObserver(() => window.changes++).observe(document.getElementById("key"), { childList: true, characterData: true, subtree: true });
    });
    // The tabs tell when each showed another key: they are of one machine and clock.
    for (const tab of tabs.slice(0, 2)) {
      await tab.evaluate(() => {
        new MutationObserver(() => { window.changedAt = Date.now(); }).observe(document.getElementById("key"), { childList: true, characterData: true, subtree: true });
      });
    }
    await click(tabs[0], "#replace");
    await click(tabs[0], "#confirm");
    await shows(tabs[0], "#news", "You have a new key");
    await shows(tabs[1], "#news", "Your key was replaced");
    const [first, second] = await Promise.all(tabs.slice(0, 2).map((tab) => tab.evaluate(() => window.changedAt)));
    assert.ok(Math.abs(second - first) < 1000, `${second - first} ms between the tabs`);
    const [after, alike, still] = await keys();
    assert.notEqual(after, before);
    assert.equal(alike, after);
    assert.equal(still, others);
    assert.equal(await tabs[2].evaluate(() => window.changes), 0);
    t.diagnostic(`${second - first} ms between the tabs`);
  });
}

test("offline it says so, and comes back with what is new", async (t) => {
  const user = userOf(t);
  const page = await opened(t, user);
  await page.setOfflineMode(true);
  await shows(page, "#link", "Offline");
  await shows(page, "#problem", "You are offline");
  await shows(page, "#key-card", "sk-or-v1-•");
  user.issue("rotate");
  await page.setOfflineMode(false);
  await live(page);
  await shows(page, "#news", "Your key was replaced");
  assert.ok(!(await page.$eval("#problem", (element) => element.checkVisibility())));
});

test("a socket that was dropped comes back", async (t) => {
  const user = userOf(t);
  const page = await opened(t, user);
  user.drop();
  await shows(page, "#link", "onnecting…");
  await live(page);
  user.spend(0.5);
  await shows(page, "#left", "9.50");
});

test("a socket that answers no pings is given up", async (t) => {
  const user = userOf(t);
  const page = await (await person(t)).tab();
  await page.evaluateOnNewDocument(() => { // ten times as fast
    const { setTimeout, setInterval } = window;
    window.setTimeout = (then, milliseconds) => setTimeout(then, milliseconds / 10);
    window.setInterval = (then, milliseconds) => setInterval(then, milliseconds / 10);
  });
  user.isMute = true;
  await page.goto(`${api.url}#token=${user.token}`);
  await live(page);
  await shows(page, "#link", "Reconnecting…");
  user.isMute = false;
  await live(page);
  assert.ok(user.connects > 1);
});

test("one of too many tabs does not fight for its socket", async (t) => {
  const user = userOf(t);
  const page = await opened(t, user);
  user.close(4429, "too_many_sockets");
  await shows(page, "#problem", "Open in too many places");
  await shows(page, "#link", "Not live");
  await isAccessible(page, "too_many_sockets");
  await click(page, "#retry");
  await live(page);
});

test("a socket that is closed because of too many requests is told as that, and comes back", async (t) => {
  const user = userOf(t);
  const page = await opened(t, user);
  user.close(4429, "rate_limited");
  await shows(page, "#problem", "Too many requests");
  await shows(page, "#link", "Reconnecting…");
  await click(page, "#retry");
  await live(page);
  await page.waitForFunction(() => !document.getElementById("problem").checkVisibility());
});

test("an erased user is asked for no more, and nothing is left in the page", async (t) => {
  const user = userOf(t);
  const page = await opened(t, user);
  await page.waitForSelector("#rows tr");
  await click(page, "#show");
  const asked = [];
  page.on("request", (request) => asked.push(request.url()));
  user.close(4404, "erased");
  await shows(page, "#problem", "Your account was erased");
  await isAccessible(page, "erased");
  assert.ok(!(await html(page)).includes(user.key));
  assert.ok(!(await page.$eval("#retry", (button) => button.checkVisibility())));
  await page.evaluate(() => { // whatever may wake it
    dispatchEvent(new Event("online"));
    document.getElementById("retry").click();
    document.dispatchEvent(new Event("visibilitychange"));
  });
  await page.evaluate(() => fetch("/nothing").then((response) => response.text()));
  assert.deepEqual(asked.map((url) => new URL(url).pathname), ["/nothing"]);
});

for (const [code, reason, wanted] of [[4402, "quota_exhausted", "Your quota is spent"], [4403, "key_disabled", "Your key is disabled"], [4403, "suspended", "Your account is suspended"]]) {
  test(`a socket that is closed with ${code} ${reason} is told as that`, async (t) => {
    const user = userOf(t);
    const page = await opened(t, user);
    user.close(code, reason);
    await shows(page, "#problem", wanted);
    await shows(page, "#link", "Not live");
    assert.ok(!(await html(page)).includes(user.key));
  });
}

test("a message that has no key is read after, and the reason is told", async (t) => {
  const user = userOf(t);
  const page = await opened(t, user);
  user.fault = { status: 403, body: { code: "key_disabled" } };
  user.version++;
  user.key = "";
  user.tell("quota");
  await shows(page, "#problem", "Your key is disabled");
  await shows(page, "#link", "Not live");
});

test("without a socket it reads", async (t) => {
  const user = userOf(t);
  user.hasSocket = false;
  const page = await (await person(t)).open(api.url, user.token);
  await shows(page, "#left", "10.00");
  user.spend(0.5);
  await shows(page, "#left", "9.50");
  user.hasSocket = true;
  await live(page);
});

test("older news does not replace newer", async (t) => {
  const user = userOf(t);
  const page = await opened(t, user);
  const old = JSON.stringify(user.body({ event: "quota" }));
  user.spend(0.5);
  await shows(page, "#left", "9.50");
  await page.evaluate(() => {
    const left = document.getElementById("left");
    window.shown = [];
    new MutationObserver(() => window.shown.push(left.textContent)).observe(left, { childList: true });
  });
  for (const socket of user.sockets) socket.send(old);
  user.spend(0.1); // messages come in order
  await shows(page, "#left", "9.40");
  assert.deepEqual(await page.evaluate(() => window.shown), ["9.40"]);
});

test("without a socket an older answer does not replace a newer one", async (t) => {
  const user = userOf(t);
  user.hasSocket = false;
  const page = await (await person(t)).open(api.url, user.token);
  await shows(page, "#left", "10.00");
  await click(page, "#show");
  let release;
  user.answerHeld = new Promise((resolve) => { release = resolve; });
  const isReading = (request) => request.method() === "GET" && request.url().endsWith("/api/users/me");
  await page.waitForRequest(isReading);
  await click(page, "#replace");
  await click(page, "#confirm");
  await shows(page, "#news", "You have a new key");
  const answered = page.waitForResponse((response) => isReading(response.request()));
  release();
  await (await answered).text();
  await page.evaluate(() => new Promise((resolve) => { setTimeout(resolve); }));
  assert.equal(await text(page, "#key"), user.key);
});

test("without a socket the page goes on with a user who was erased and began anew", async (t) => {
  const user = userOf(t);
  user.hasSocket = false;
  user.version = 17;
  const page = await (await person(t)).open(api.url, user.token);
  await shows(page, "#left", "10.00");
  user.remaining = 7;
  user.version = 2;
  await shows(page, "#left", "7.00");
});

test("an answer that comes after the end of a token is not shown", async (t) => {
  const user = userOf(t);
  const page = await opened(t, user);
  await page.waitForSelector("#rows tr");
  let release;
  user.ledgerHeld = new Promise((resolve) => { release = resolve; });
  const asked = page.waitForRequest((request) => request.url().includes("/ledger"));
  user.spend(0.5);
  await asked;
  user.close(4401, "expired_token");
  await shows(page, "#problem", "Your sign-in has run out");
  release();
  await page.evaluate(() => fetch("/nothing").then((response) => response.text())); // it is answered after the ledger
  await page.evaluate(() => new Promise((resolve) => { setTimeout(resolve); }));
  assert.ok(!(await text(page, "body")).includes("Credits"));
});

const follow = (page, token) => page.evaluate((token) => { location.hash = `token=${token}`; }, token);

test("a link does not replace the account that is shown with another user's unless somebody says so", async (t) => {
  const [ada, mallory] = ["Ada", "Mallory"].map((name) => api.add(new User(`link-${name}`, name)));
  const page = await opened(t, ada);
  await follow(page, mallory.token);
  await shows(page, "#other", "Mallory · ada@example.org");
  assert.equal(page.url(), api.url);
  await isAccessible(page, "the question");
  assert.equal(await page.evaluate(() => document.activeElement.id), "stay");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => !document.getElementById("other").open);
  ada.spend(0.5);
  await shows(page, "#left", "9.50");
  await shows(page, "#who", "Ada");
  await follow(page, `${mallory.token}`);
  await shows(page, "#other", "Mallory");
  await click(page, "#leave");
  await shows(page, "#who", "Mallory");
  await live(page);
  assert.ok(!(await html(page)).includes(ada.key));
});

test("a link with the same user's next token is followed", async (t) => {
  const user = userOf(t);
  const page = await opened(t, user);
  api.users.set("the-next-token", user);
  const ledgerRead = page.waitForResponse((response) => response.url().includes("/ledger") && response.request().headers().authorization === "Bearer the-next-token");
  await follow(page, "the-next-token");
  await ledgerRead;
  await live(page);
  assert.ok(!(await page.$eval("#other", (dialog) => dialog.open)));
});

test("a link whose token is not good leaves the account that is shown", async (t) => {
  const user = userOf(t);
  const page = await opened(t, user);
  for (const bad of ["bad", "a%20b"]) {
    await follow(page, bad);
    await shows(page, "#news", "The link was not followed");
    await shows(page, "#who", "Ada");
    await page.evaluate(() => { document.getElementById("news").textContent = ""; });
  }
});

test("what is no token is not sent anywhere", async (t) => {
  const page = await (await person(t)).open(api.url, "a%20b");
  await shows(page, "#problem", "This sign-in is not valid");
});

for (const [reason, wanted] of [["expired_token", "Your sign-in has run out"], ["invalid_token", "This sign-in is not valid"]]) {
  test(`a socket closed with 4401 ${reason} ends it, and nothing is left in the page`, async (t) => {
    const user = userOf(t);
    const page = await opened(t, user);
    await click(page, "#show");
    user.close(4401, reason);
    await shows(page, "#problem", wanted);
    assert.ok(!(await html(page)).includes(user.key));
    assert.ok(!(await text(page, "body")).includes("example.org"));
  });
}

test("a key and its history are shown, and a new one is asked for (the Worker's API)", async (t) => {
  const page = await (await person(t)).open(WORKER, ADA);
  await shows(page, "#who", "Ada");
  await click(page, "summary");
  await shows(page, "#rows", "First key");
  assert.match(await text(page, "#made"), /20\d\d/);
  await click(page, "#show");
  const key = await text(page, "#key");
  assert.match(key, /^sk-or-v1-/);
  await click(page, "#replace");
  await click(page, "#confirm");
  await shows(page, "#news", "You have a new key");
  await shows(page, "#rows", "New key");
  assert.notEqual(await text(page, "#key"), key);
  await isAccessible(page, "a short history");
});

test("an expired token is told (the Worker's API)", async (t) => {
  const page = await (await person(t)).open(WORKER, EXPIRED);
  await shows(page, "#problem", "Your sign-in has run out");
});

for (const [status, code, wanted] of [
  [401, "expired_token", "Your sign-in has run out"],
  [401, "invalid_token", "This sign-in is not valid"],
  [402, "quota_exhausted", "It renews on Jan 2, 2027"],
  [403, "suspended", "Your account is suspended"],
  [403, "key_disabled", "Your key is disabled"],
  [429, "rate_limited", "Too many requests"],
  [500, "internal", "Something went wrong"],
  [502, "upstream_refused", "OpenRouter refuses"],
  [503, "upstream_unavailable", "Not available just now"],
]) {
  test(`${status} ${code} is told in plain words, and mended once it is over`, async (t) => {
    const user = userOf(t);
    const answer = { status, code, title: "internal words", detail: "internal words", renews_at: code === "quota_exhausted" ? "2027-01-02T12:00:00Z" : undefined };
    user.fault = { status, body: answer, header: { "Retry-After": "60" } };
    const page = await (await person(t)).open(api.url, user.token);
    await shows(page, "#problem", wanted);
    await isAccessible(page, code);
    const shown = await text(page, "body");
    assert.ok(!shown.includes("internal words") && !shown.includes("undefined") && !shown.includes("NaN"), shown);
    user.fault = undefined;
    if (status === 401) return;
    await click(page, "#retry");
    await live(page);
    assert.ok(!(await page.$eval("#problem", (element) => element.checkVisibility())));
  });
}

test("a suspension takes the key out of the page", async (t) => {
  const user = userOf(t);
  const page = await opened(t, user);
  await click(page, "#show");
  user.fault = { status: 403, body: { code: "suspended" } };
  user.tell("suspended");
  await shows(page, "#link", "Live");
  await page.waitForFunction((key) => !document.documentElement.outerHTML.includes(key), {}, user.key);
  user.close(4403, "suspended");
  await shows(page, "#problem", "Your account is suspended");
});

test("a replacement that fails is told, and the key stays", async (t) => {
  const user = userOf(t);
  const page = await opened(t, user);
  user.fault = { status: 503, body: { code: "upstream_unavailable" } };
  await click(page, "#replace");
  await click(page, "#confirm");
  await shows(page, "#news", "Your key was not replaced.");
  await shows(page, "#key-card", "sk-or-v1-•");
});

test("the keyboard is enough", async (t) => {
  const user = userOf(t);
  const page = await opened(t, user);
  const focused = () => page.evaluate(() => document.activeElement.id);
  const press = async (...keys) => {
    for (const key of keys) await page.keyboard.press(key);
  };
  await page.waitForSelector("#rows tr");
  await press("Tab");
  assert.equal(await focused(), "show");
  await press("Enter");
  await shows(page, "#key", user.key);
  await press("Tab", "Tab");
  assert.equal(await focused(), "replace");
  await press("Enter");
  assert.equal(await focused(), "cancel");
  await press("Escape");
  assert.equal(await focused(), "replace");
  const before = user.key;
  await press("Space", "Enter"); // the question, and no
  assert.equal(user.key, before);
  assert.equal(await focused(), "replace");
  await press("Enter", "Tab", "Enter");
  await shows(page, "#news", "You have a new key");
  assert.notEqual(user.key, before);
  assert.equal(await focused(), "replace");
  await press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.tagName), "SUMMARY");
  await press("Enter");
  await shows(page, "#rows", "New key");
});

// app makes a page of an origin with the account page in it. It gives it a token
// when it is asked for one. The failures are of the requests that it makes.
async function app(t, origin, tokens) {
  const page = await (await person(t)).context.newPage();
  await page.setRequestInterception(true);
  const failures = [];
  page.on("requestfailed", (request) => failures.push(`${request.url()}: ${request.failure().errorText}`));
  page.on("request", (request) => {
    if (!request.url().startsWith(origin)) return request.continue();
    request.respond({ contentType: "text/html", body: `<!doctype html><title>App</title><script>
      const tokens = ${JSON.stringify(tokens)};
      window.asked = 0;
      addEventListener("message", ({ origin, source, data }) => {
        window.asked++;
        if (origin === ${JSON.stringify(new URL(api.url).origin)} && data.latchkey === "token-wanted") source.postMessage({ latchkey: "token", token: tokens.shift() }, origin);
      });
      </script><iframe src="${api.url}" width="600" height="600"></iframe>` });
  });
  await page.goto(origin);
  return { page, failures };
}

test("an app of a listed origin embeds the page, and gives it tokens", async (t) => {
  const [first, second] = ["Ada", "Bea"].map((name) => api.add(new User(`embedded-${name}`, name)));
  const { page } = await app(t, "https://app.example.org/", [first.token, second.token]);
  const frame = page.frames().find((frame) => frame.url() === api.url);
  await live(frame);
  await shows(frame, "#who", first.name);
  first.close(4401, "expired_token");
  await shows(frame, "#who", second.name);
  await live(frame);
});

test("an app that gives a bad token is not asked again and again", async (t) => {
  const { page } = await app(t, "https://app.example.org/", ["bad", "bad as well", "bad too"]);
  const frame = page.frames().find((frame) => frame.url() === api.url);
  await shows(frame, "#problem", "This sign-in is not valid");
  await frame.evaluate(() => new Promise((resolve) => {
    parent.postMessage("the last", "*"); // after all others
    setTimeout(resolve);
  }));
  await page.waitForFunction(() => window.asked > 1);
  assert.equal(await page.evaluate(() => window.asked), 2);
});

test("no other origin may embed it, or give it a token", async (t) => {
  const user = userOf(t);
  const { failures } = await app(t, "https://app.example.org.evil.test/", [user.token]);
  assert.deepEqual(failures, [`${api.url}: net::ERR_BLOCKED_BY_RESPONSE`]);
  const alone = await (await person(t)).open(api.url, "");
  await alone.evaluate((token) => {
    for (const origin of ["https://app.example.org.evil.test", "null", location.origin]) dispatchEvent(new MessageEvent("message", { origin, source: window, data: { latchkey: "token", token } }));
  }, user.token);
  await shows(alone, "#problem", "You are not signed in here");
});

test("only the page around it may give it a token, whatever window of a listed origin there is", async (t) => {
  const user = userOf(t);
  const { page } = await app(t, "https://app.example.org/", ["bad"]);
  const frame = page.frames().find((frame) => frame.url() === api.url);
  await shows(frame, "#problem", "This sign-in is not valid");
  await frame.evaluate(() => {
    window.last = new Promise((resolve) => { addEventListener("message", ({ data }) => data === "the last" && resolve()); });
  });
  // Another frame of the same app knows the way to this one.
  await page.evaluate((token) => {
    const script = `parent.frames[0].postMessage({ latchkey: "token", token: ${JSON.stringify(token)} }, "*"); parent.postMessage("posted", "*");`;
    const other = document.createElement("iframe");
    other.srcdoc = `<script>${script}</script>`;
    return new Promise((resolve) => {
      addEventListener("message", ({ data }) => {
        if (data !== "posted") return;
        frames[0].postMessage("the last", "*");
        resolve();
      });
      document.body.append(other);
    });
  }, user.token);
  await frame.evaluate(() => window.last);
  assert.equal(await text(frame, "#problem-title"), "This sign-in is not valid");
});

for (const width of [1000, 360]) {
  for (const scheme of ["light", "dark"]) {
    test(`axe has nothing to say at ${width} pixels, ${scheme}`, async (t) => {
      const now = Date.parse("2026-11-20T10:30:00Z");
      const user = api.add(withHistory(`axe-${width}-${scheme}`, "Ada Lovelace", now));
      const page = await (await person(t, width)).tab();
      await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }, { name: "prefers-reduced-motion", value: "reduce" }]);
      if (SCREENSHOTS) {
        await page.emulateTimezone("UTC");
        await page.evaluateOnNewDocument((now) => { Date.now = () => now; }, now);
      }
      await page.goto(`${api.url}#token=${user.token}`);
      await live(page);
      await page.waitForSelector("#rows tr");
      await isAccessible(page, "all of it");
      assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), "it does not scroll sideways");
      const picture = (name, fullPage) => SCREENSHOTS && page.screenshot({ path: join(SCREENSHOTS, `${name}-${width}-${scheme}.png`), fullPage });
      await picture("account", true);
      await click(page, "#show");
      await click(page, "summary");
      await isAccessible(page, "key and table");
      assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), "it does not scroll sideways");
      await click(page, "#replace");
      await isAccessible(page, "the question");
      if (width < 500) await picture("question", false);
      await click(page, "#cancel");
      await follow(page, api.add(new User(`other-${width}-${scheme}`, "Mallory")).token);
      await shows(page, "#other", "Mallory");
      await isAccessible(page, "the question of a link");
    });
  }
}

test("the browser has nothing against the page", () => assert.deepEqual(complaints, []));
