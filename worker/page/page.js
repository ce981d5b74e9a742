// The account page. It holds a token, never stores it, and follows one account for
// as long as that token is good: it reads the account, then listens on the socket;
// when that ends it waits a little and begins again, so that without a socket it
// goes on by reading. Text from outside enters the document by textContent alone.

const FIRST_PAUSE = 3; // seconds before it begins again; doubles each time
const LONGEST_PAUSE = 60;
const BLOCKED_PAUSE = 300; // where only an operator, or time, can help
const TOO_MANY_PAUSE = 60; // RATE_LIMIT counts requests a minute
const PING_EVERY = 30;
const PONG_WITHIN = 10; // a socket that is silent for longer is dead
const LEDGER_PAUSE = 0.3; // changes that come together are one reading of the ledger
const LEDGER_LIMIT = 200; // as many as the API gives at once

const TOKEN = /^[\w.-]+$/; // what a JSON Web Token is made of, and a socket's protocol

const byId = (id) => document.getElementById(id);
const allowedOrigins = document.documentElement.dataset.allowedOrigins.split(" ").filter(Boolean);

// What the page shows. An account is the body of `GET /api/users/me`.
let account; // undefined until one was read
let ledger = []; // newest first
let ledgerFailed = false;
let problem; // why there is no present account
let link = "none"; // none, connecting, live, waiting
let keyIsShown = false;
let replacing = false;

// The token in use, what ends all that is done with it, and whether another may be
// asked for: not where it was bad from the start, since the next would be like it.
let session = { token: undefined, ended: new AbortController(), mayAsk: true };

// begin takes a token in place of the last one.
function begin(token) {
  session.ended.abort();
  session = { token, ended: new AbortController(), mayAsk: false };
  forget();
  follow(session);
}

function forget() {
  account = problem = undefined;
  ledger = [];
  ledgerFailed = keyIsShown = replacing = false;
  byId("question").close();
  byId("other").close();
  say("");
}

// follow keeps the page up to date until the token ends.
async function follow({ token, ended: { signal } }) {
  link = "connecting";
  render();
  for (let failures = 0; ; failures++) {
    let seconds = 0;
    try {
      if (!TOKEN.test(token)) throw new Problem(401, { code: "invalid_token" });
      const since = account?.version;
      const body = await call(token, signal, "GET", "/api/users/me");
      session.mayAsk = true;
      problem = undefined;
      take(body, since);
      const close = await listen(token, signal);
      if (close.wasLive) failures = 0;
      if (LASTING.includes(close.code) || close.reason === "erased") throw new Problem(close.code - 4000, { code: close.reason });
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof Problem)) console.error(error);
      show(error instanceof Problem ? error : new Problem(500));
      seconds = problem.seconds;
    }
    if (signal.aborted) return;
    link = "waiting";
    render();
    const backOff = Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** failures);
    await pause(Math.max(seconds, backOff * (0.2 + 0.8 * Math.random())), signal);
  }
}

// Codes of a closed socket after which another would be closed too: 4000 and a status,
// whose problem's code is the reason. After any other the page begins again. The list of
// clients/js (src/socket.ts) lacks 4401: it gets another token, which a page cannot.
const LASTING = [4401, 4402, 4403, 4429];

// Problem is an answer that is none of those hoped for, or a socket that was closed for
// good. Its status is 0 where there was no answer at all. One of too many tabs that came
// back at once would close another's socket, and so on in turn.
class Problem extends Error {
  constructor(status, { code, renews_at } = {}, retryAfter = status === 429 ? TOO_MANY_PAUSE : 0) {
    super(code);
    Object.assign(this, { status, code, renewsAt: renews_at });
    this.endsAll = status === 401 || code === "erased";
    const blocked = [402, 403].includes(status) || code === "too_many_sockets";
    this.seconds = blocked ? BLOCKED_PAUSE : Math.min(Number(retryAfter) || 0, BLOCKED_PAUSE);
  }
}

// call returns the body of an answer, or throws a Problem.
async function call(token, signal, method, path) {
  let response, body;
  try {
    response = await fetch(path, { method, signal, headers: { Authorization: `Bearer ${token}` }, cache: "no-store", credentials: "omit" });
    body = await response.json();
  } catch {
    if (!response || response.ok) throw new Problem(0);
  }
  if (!response.ok) throw new Problem(response.status, body ?? {}, response.headers.get("Retry-After") ?? undefined);
  return body;
}

// listen takes what the socket brings, until it ends: { code, reason, wasLive }.
function listen(token, signal) {
  return new Promise((resolve) => {
    const socket = new WebSocket(location.origin.replace("http", "ws") + "/api/users/me/events", ["bearer", token]);
    let wasLive = false;
    let deadline;
    const done = new AbortController();
    const end = ({ code, reason } = {}) => {
      clearInterval(pings);
      clearTimeout(deadline);
      done.abort();
      socket.close();
      resolve({ code, reason, wasLive });
    };
    const ping = () => {
      if (socket.readyState !== WebSocket.OPEN) return;
      clearTimeout(deadline);
      deadline = setTimeout(end, PONG_WITHIN * 1000);
      socket.send("ping");
    };
    const pings = setInterval(ping, PING_EVERY * 1000);
    const during = { signal: done.signal };
    // A socket that cannot say goodbye would take a minute to close.
    signal.addEventListener("abort", end, during);
    addEventListener("offline", end, during);
    document.addEventListener("visibilitychange", ping, during);
    socket.addEventListener("close", end, during);
    socket.addEventListener("message", ({ data }) => {
      clearTimeout(deadline);
      if (data === "pong") return;
      wasLive = true;
      link = "live";
      const body = JSON.parse(data);
      take(body);
      // A reading says why there is no key. A suspension says so itself, and closes the socket.
      if (!body.openrouter_api_key && body.event !== "suspended") end();
    }, during);
  });
}

// pause waits, but no longer than until there is a network or a reason to hurry.
function pause(seconds, signal) {
  return new Promise((resolve) => {
    const done = new AbortController();
    const during = { signal: done.signal };
    const end = () => {
      clearTimeout(timer);
      done.abort();
      resolve();
    };
    const timer = setTimeout(end, seconds * 1000);
    signal.addEventListener("abort", end, during);
    addEventListener("online", end, during);
    byId("retry").addEventListener("click", end, during);
  });
}

// take makes what the API said of the account the present one, unless something newer
// is known. `since` is the version that was known when it was asked: a lower one than that
// is no older news, for the user was erased and began anew. The socket's bodies have an
// `event` too.
function take({ event, ...body }, since = 0) {
  if (body.version < account?.version && body.version >= since) return;
  const replaced = account?.openrouter_api_key && body.openrouter_api_key && account.hash !== body.hash;
  const changed = account?.version !== body.version;
  account = event === "suspended" ? { ...body, openrouter_api_key: undefined } : body;
  if (replaced) say(`Your key was replaced at ${timeOf(new Date())}.`);
  if (changed || ledgerFailed) readLedger();
  render();
}

let ledgerReading = new AbortController();

// readLedger reads it once what is going on has settled. The last one wins.
async function readLedger() {
  ledgerReading.abort();
  ledgerReading = new AbortController();
  const { token, ended } = session;
  const signal = AbortSignal.any([ledgerReading.signal, ended.signal]);
  await pause(LEDGER_PAUSE, signal);
  if (signal.aborted) return;
  try {
    ledger = (await call(token, signal, "GET", `/api/users/me/ledger?limit=${LEDGER_LIMIT}`)).entries;
    ledgerFailed = false;
  } catch {
    if (signal.aborted) return;
    ledgerFailed = true;
  }
  render();
}

// show tells what is wrong, and takes away what does not hold any more.
function show(what) {
  problem = what;
  if (what.endsAll) {
    session.ended.abort();
    forget();
    problem = what;
    link = "none";
    if (what.status === 401 && session.mayAsk) askForToken();
  } else if (what.status === 402 || what.status === 403) {
    if (account) account = { ...account, openrouter_api_key: undefined };
    if (what.renewsAt) account = { ...account, renews_at: what.renewsAt };
    readLedger();
  }
  render();
}

async function replaceKey() {
  const { token, ended } = session;
  const since = account.version;
  replacing = true;
  say("Replacing your key…");
  render();
  try {
    const body = await call(token, ended.signal, "POST", "/api/users/me/openrouter-api-key/refresh");
    if (ended.signal.aborted) return;
    take(body, since);
    say("You have a new key. The old one works no more.");
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    if (ended.signal.aborted) return;
    // A lost answer leaves open what happened: the next reading tells.
    say(error.status === 0 ? "No answer came, so your key may or may not have been replaced." : `Your key was not replaced. ${explain(error).title}: try again later.`);
    if ([401, 402, 403].includes(error.status)) show(error);
  } finally {
    if (!ended.signal.aborted) replacing = false;
    render();
  }
}

async function copyKey() {
  try {
    await navigator.clipboard.writeText(account.openrouter_api_key);
    say("Copied.");
  } catch { // as in a frame that may not
    keyIsShown = true;
    render();
    getSelection().selectAllChildren(byId("key"));
    byId("key").focus();
    say("This browser does not let the page copy. The key is selected: copy it yourself.");
  }
}

// explain says in plain words what a problem means, and what to do.
function explain({ status, code, renewsAt }) {
  const again = "Open this page from your app again.";
  switch (code) {
    case "missing_token": return { title: "You are not signed in here", text: again };
    case "expired_token": return { title: "Your sign-in has run out", text: again };
    case "quota_exhausted": return { title: "Your quota is spent", text: renewsAt ? `It renews on ${dateOf(renewsAt)}. Until then there is no key.` : "There is no key until it renews." };
    case "key_disabled": return { title: "Your key is disabled", text: "An operator has disabled it at OpenRouter. Ask them to enable it." };
    case "suspended": return { title: "Your account is suspended", text: "An operator has suspended it, and there is no key until they end that. Ask them why." };
    case "erased": return { title: "Your account was erased", text: "An operator has erased it, and its key works no more. This page asks for no other." };
    case "too_many_sockets": return { title: "Open in too many places", text: "This tab is told of no changes any more. Close others, then try again here." };
    case "rate_limited": return { title: "Too many requests", text: "The page asked too often. It waits a little, and tries again by itself." };
  }
  if (status === 0 && !navigator.onLine) return { title: "You are offline", text: "What you see is what was known last. The page goes on once you are online again." };
  if (status === 0) return { title: "There is no answer", text: "The service cannot be reached just now. The page tries again by itself." };
  if (status === 401) return { title: "This sign-in is not valid", text: again };
  if (status === 403) return { title: "You may not see this", text: "Ask whoever runs this service." };
  if (status === 502) return { title: "OpenRouter refuses", text: "It does not give out keys just now. Whoever runs this service has to look into it." };
  if (status === 503) return { title: "Not available just now", text: "A service behind this one does not answer. The page tries again by itself." };
  return { title: "Something went wrong", text: "That is not your fault. The page tries again by itself." };
}

// What the page looks like.

function render() {
  renderLink();
  renderProblem();
  byId("who").textContent = account ? nameOf(account) : "";
  renderKey();
  renderQuota();
  renderHistory();
}

const nameOf = ({ id, user_name, email }) => [user_name, email].filter(Boolean).join(" · ") || id;

function renderLink() {
  const text = !navigator.onLine ? "Offline" : { none: "", connecting: "Connecting…", live: "Live", waiting: problem?.seconds === BLOCKED_PAUSE ? "Not live" : "Reconnecting…" }[link];
  const shown = navigator.onLine || link === "none" ? link : "waiting";
  const element = byId("link");
  element.dataset.link = shown;
  setText(element, shown === "none" ? "" : text);
}

function renderProblem() {
  const { title, text } = problem ? explain(problem) : { title: "", text: "" };
  byId("problem").hidden = !problem;
  setText(byId("problem-title"), title);
  setText(byId("problem-text"), text);
  byId("retry").hidden = !problem || problem.endsAll;
}

function renderKey() {
  const key = account?.openrouter_api_key;
  byId("key-card").hidden = !key;
  setText(byId("key"), key ? (keyIsShown ? key : "sk-or-v1-" + "•".repeat(16)) : "");
  setText(byId("show"), keyIsShown ? "Hide" : "Show");
  byId("replace").ariaDisabled = replacing; // `disabled` would lose the keyboard's place
  if (!key) return;
  const made = ledger.find(({ kind, hash }) => hash === account.hash && NEW_KEY.includes(kind));
  row("made", made && dateOf(made.at));
  row("expires", account.key_expires_at && dateOf(account.key_expires_at));
  row("key-left", credits(account.usage_limit));
}

function renderQuota() {
  const total = account?.total_limit;
  const left = problem?.code === "quota_exhausted" ? ledger[0]?.remaining_limit : account?.remaining_limit;
  byId("quota-card").hidden = left === undefined && !account?.renews_at;
  if (!account) return;
  const share = Math.min(1, Math.max(0, left / total || 0));
  setText(byId("left"), left === undefined ? "" : credits(left));
  setText(byId("total"), left === undefined ? "" : total === undefined ? "credits left" : `of ${credits(total)} credits left`);
  byId("fill").style.inlineSize = `${share * 100}%`;
  byId("fill").classList.toggle("low", share < 0.15);
  const bar = byId("bar");
  bar.hidden = total === undefined || left === undefined;
  bar.ariaValueMax = total ?? 0;
  bar.ariaValueNow = share * (total ?? 0);
  bar.ariaValueText = `${credits(left ?? 0)} of ${credits(total ?? 0)} credits left`;
  row("spent", bar.hidden ? undefined : credits(total - left));
  row("renews", account.renews_at && dateOf(account.renews_at));
  byId("stale").hidden = account.outcome !== "unmetered";
}

// The kinds of ledger entries, and those of them that are of a new key.
const KINDS = {
  provision: "First key", charge: "Spent", rotate: "New key", renew: "Quota renewed",
  adjust: "Changed by an operator", suspend: "Suspended", resume: "Suspension ended",
};
const NEW_KEY = ["provision", "rotate", "renew"];

function renderHistory() {
  byId("history-card").hidden = ledger.length === 0 && !ledgerFailed;
  setText(byId("history-hint"), ledgerFailed ? "The history cannot be read just now." : "Each ring is a new key.");
  byId("chart").replaceChildren(...(ledger.length > 0 ? [chart(byId("chart").clientWidth || 600)] : []));
  byId("rows").replaceChildren(...ledger.map((entry) => {
    const line = document.createElement("tr");
    const cells = [shortDateOf(entry.at), KINDS[entry.kind] ?? entry.kind, credits(entry.credits), credits(entry.remaining_limit)];
    line.append(...cells.map((text, column) => {
      const cell = document.createElement("td");
      cell.textContent = text;
      cell.className = column > 1 ? "number" : "";
      return cell;
    }));
    return line;
  }));
}

// chart draws what remained after each entry, as steps up to now; a dot is a new key.
function chart(width) {
  const height = 176;
  const box = { left: 36, right: width - 8, top: 10, bottom: height - 24 };
  const entries = ledger.toReversed().map((entry) => ({ ...entry, time: Date.parse(entry.at), value: Math.max(0, entry.remaining_limit) }));
  const first = entries[0].time;
  const last = Math.max(Date.now(), first + 60_000, entries.at(-1).time);
  const highest = Math.max(account?.total_limit ?? 0, ...entries.map((entry) => entry.value)) || 1;
  const x = (time) => round(box.left + ((time - first) / (last - first)) * (box.right - box.left));
  const y = (value) => round(box.bottom - (value / highest) * (box.bottom - box.top));

  let steps = `M${x(first)} ${y(entries[0].value)}`;
  for (const { time, value } of entries) steps += `H${x(time)}V${y(value)}`;
  steps += `H${box.right}`;
  const drawing = svg("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": `From ${dateOf(first)} to now: ${credits(entries[0].value)} credits at first, ${credits(entries.at(-1).value)} now. The table has every change.` });
  for (const value of [0, highest / 2, highest]) {
    drawing.append(
      svg("line", { class: "grid", x1: box.left, x2: box.right, y1: y(value), y2: y(value) }),
      svg("text", { x: box.left - 8, y: y(value) + 4, "text-anchor": "end" }, short.format(value)),
    );
  }
  drawing.append(
    svg("path", { class: "area", d: `${steps}V${box.bottom}H${box.left}Z` }),
    svg("path", { class: "line", d: steps }),
    ...entries.filter(({ kind }) => NEW_KEY.includes(kind))
      .map(({ time, value, kind, at }) => svg("circle", { class: "dot", cx: x(time), cy: y(value), r: 3.5 }, svg("title", {}, `${KINDS[kind]}, ${dateOf(at)}`))),
    svg("text", { x: box.left, y: height - 4 }, dateOf(first)),
    svg("text", { x: box.right, y: height - 4, "text-anchor": "end" }, "now"),
  );
  return drawing;
}

function svg(name, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [attribute, value] of Object.entries(attributes)) element.setAttribute(attribute, value);
  element.append(...children);
  return element;
}

const round = (value) => Math.round(value * 10) / 10;
const short = new Intl.NumberFormat(undefined, { maximumFractionDigits: 2 });
const exact = new Intl.NumberFormat(undefined, { minimumFractionDigits: 2, maximumFractionDigits: 4 });
const credits = (value) => exact.format(value);
const dateOf = (at) => new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" }).format(new Date(at));
const shortDateOf = (at) => new Intl.DateTimeFormat(undefined, { dateStyle: "short", timeStyle: "short" }).format(new Date(at));
const timeOf = (at) => new Intl.DateTimeFormat(undefined, { timeStyle: "medium" }).format(at);

// row fills a line of a list, or hides it where there is nothing to say.
function row(id, text) {
  setText(byId(id), text ?? "");
  byId(id).parentElement.hidden = text === undefined;
}

const say = (text) => setText(byId("news"), text);

// setText leaves what is the same alone: a live region would be read out again.
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

byId("show").addEventListener("click", () => {
  keyIsShown = !keyIsShown;
  render();
});
byId("copy").addEventListener("click", copyKey);
byId("replace").addEventListener("click", () => replacing || byId("question").showModal());
byId("cancel").addEventListener("click", () => byId("question").close());
byId("confirm").addEventListener("click", () => {
  byId("question").close();
  replaceKey();
});
byId("stay").addEventListener("click", () => byId("other").close());
byId("leave").addEventListener("click", () => begin(offered));
addEventListener("online", renderLink);
addEventListener("offline", renderLink);
let width = 0;
new ResizeObserver(([{ contentRect }]) => {
  if (contentRect.width === width) return;
  width = contentRect.width;
  renderHistory();
}).observe(byId("chart"));

// Where tokens come from: the fragment of the address, which no server sees and
// which is gone from the address at once; or a page that is allowed to hand one over.

let offered; // the token that the question about another account is about

function takeFragment() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (!token) return false;
  history.replaceState(null, "", location.pathname + location.search);
  if (account) offer(token);
  else begin(token);
  return true;
}

// offer takes a link's token while an account is shown. Any page may open a link, and with
// a token of its own user: a key that is taken for one's own would show them what is done
// with it. So that one replaces the account only where somebody says so.
async function offer(token) {
  const { signal } = session.ended;
  try {
    if (!TOKEN.test(token)) throw new Problem(401);
    const other = await call(token, signal, "GET", "/api/users/me");
    if (signal.aborted || byId("other").open) return; // one question at a time
    if (other.id === account.id) return begin(token);
    offered = token;
    setText(byId("other-name"), nameOf(other));
    byId("other").showModal();
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    if (!signal.aborted) say("The link was not followed: its sign-in does not work just now.");
  }
}

// askForToken asks the page around this one. What it says is no secret.
function askForToken() {
  if (parent !== window) parent.postMessage({ latchkey: "token-wanted" }, "*");
}

addEventListener("hashchange", takeFragment);
addEventListener("message", ({ origin, source, data }) => {
  if (source !== parent || !allowedOrigins.includes(origin)) return;
  if (data?.latchkey === "token" && typeof data.token === "string" && data.token !== session.token) begin(data.token);
});
if (!takeFragment()) show(new Problem(401, { code: "missing_token" }));
