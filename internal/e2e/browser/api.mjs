// The API behind the page, as a test wants it: with faults, sockets that drop, and a
// past. The page itself, with its headers, is the Worker's.
import { createHash } from "node:crypto";
import { createServer } from "node:http";
import { WebSocketServer } from "ws";

const DAY = 24 * 3600_000;
const ME = "/api/users/me";
const EVENTS = "/api/users/me/events";

// User is what the API holds of a user. Its token is its name.
export class User {
  version = 0;
  total = 10;
  remaining = 10;
  usage = 1;
  ledger = []; // newest first
  sockets = new Set();
  fault; // { status, body, header } of every answer, until it is undefined again
  hasSocket = true; // whether a socket can be had
  connects = 0;
  isMute = false; // no pings are answered
  ledgerHeld; // a promise that readings of the ledger wait for
  answerHeld; // and one that answers of the account wait for, which are made before

  constructor(token, name, at = Date.now()) {
    Object.assign(this, { token, name });
    this.issue("provision", at);
  }

  record(kind, value, at) {
    this.version++;
    this.ledger.unshift({ seq: this.version, at: new Date(at).toISOString(), kind, credits: value, remaining_limit: this.remaining, hash: this.hash });
  }

  issue(kind, at = Date.now()) {
    this.hash = createHash("sha256").update(`${this.token} ${this.version}`).digest("hex");
    this.key = `sk-or-v1-${this.hash.split("").reverse().join("")}`;
    this.usage = 1;
    this.record(kind, 1, at);
    this.tell("key");
  }

  spend(value, at = Date.now()) {
    this.remaining -= value;
    this.usage -= value;
    this.record("charge", value, at);
    this.tell("quota");
  }

  body(extra) {
    return {
      ...extra, id: this.token, user_name: this.name, email: "ada@example.org", openrouter_api_key: this.key, hash: this.hash,
      total_limit: this.total, remaining_limit: this.remaining, usage_limit: this.usage, version: this.version,
      outcome: "kept", renews_at: this.renews, key_expires_at: this.expires,
    };
  }

  tell(event) {
    for (const socket of this.sockets) socket.send(JSON.stringify(this.body({ event })));
  }

  close(code, reason) {
    for (const socket of this.sockets) socket.close(code, reason);
  }

  drop() {
    for (const socket of this.sockets) socket.terminate();
  }
}

// withHistory returns a user who has spent on three keys in twelve days before now.
export function withHistory(token, name, now) {
  const user = new User(token, name, now - 12 * DAY);
  let day = 12;
  for (const amount of [0.18, 0.34, 0.02, 0.51, 0.09, 0.27, 0.64, 0.12, 0.4, 0.31, 0.07, 0.2, 0.33]) {
    day -= 0.9;
    if (user.usage - amount < 0) user.issue("rotate", now - (day + 0.1) * DAY);
    user.spend(amount, now - day * DAY);
  }
  user.renews = new Date(now + 18 * DAY).toISOString();
  user.expires = new Date(now + 30 * DAY).toISOString();
  return user;
}

// serve starts it, with the page of a Worker: { url, users, close }.
export async function serve(worker) {
  const page = await fetch(worker);
  const html = await page.text();
  const headers = Object.fromEntries(["content-type", "content-security-policy", "referrer-policy", "x-content-type-options"].map((name) => [name, page.headers.get(name)]));
  const users = new Map();
  const problem = (status, code) => ({ status, body: { status, code, title: code, detail: code } });

  const userOf = (request) => users.get(request.headers.authorization?.slice("Bearer ".length));

  function answer(request) {
    const user = userOf(request);
    if (!user) return problem(401, "invalid_token");
    if (user.fault) return user.fault;
    switch (request.url.split("?")[0]) {
      case ME: return { status: 200, body: user.body() };
      case "/api/users/me/openrouter-api-key/refresh":
        user.issue("rotate");
        return { status: 200, body: user.body() };
      case "/api/users/me/ledger": return { status: 200, body: { entries: user.ledger } };
    }
    return problem(404, "not_found");
  }

  const server = createServer(async (request, response) => {
    if (request.url === "/") return response.writeHead(200, headers).end(html);
    if (request.url.includes("/ledger")) await userOf(request)?.ledgerHeld;
    const { status, body, header } = answer(request);
    if (request.url === ME) await userOf(request)?.answerHeld;
    response.writeHead(status, { "Content-Type": "application/json", "Cache-Control": "no-store", ...header }).end(JSON.stringify(body));
  });
  const sockets = new WebSocketServer({ noServer: true, handleProtocols: () => "bearer" });
  server.on("upgrade", (request, stream, head) => {
    const user = users.get(request.headers["sec-websocket-protocol"]?.split(", ")[1]);
    if (request.url !== EVENTS || !user?.hasSocket || user.fault) return stream.end("HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\n");
    sockets.handleUpgrade(request, stream, head, (socket) => {
      user.connects++;
      user.sockets.add(socket);
      socket.on("close", () => user.sockets.delete(socket));
      socket.on("message", (text) => String(text) === "ping" && !user.isMute && socket.send("pong"));
      socket.send(JSON.stringify(user.body({ event: "key" })));
    });
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${server.address().port}/`,
    users,
    add(user) {
      users.set(user.token, user);
      return user;
    },
    close() {
      for (const user of users.values()) user.drop();
      server.closeAllConnections();
      server.close();
    },
  };
}
