// Stand-ins for latchkey and for OpenRouter's inference, on loopback and free
// ports. They follow the contract; a test changes what it wants to be otherwise.

import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { WebSocketServer, WebSocket as ServerSocket } from "ws";

/** Serves until stop() is called, which cuts every connection. */
async function serve(listener: RequestListener) {
  const server = createServer(listener);
  server.maxRequestsPerSocket = 1; // after time that a test made pass, fetch would take seconds over a connection of before
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  return {
    server,
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    stop: async () => {
      server.closeAllConnections();
      await new Promise((done) => server.close(done));
    },
  };
}

/** A JSON Web Token, unsigned: the fake knows a token by its text. */
export function token(user: string, lifetime = 3600): string {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
  return `${part({ alg: "none" })}.${part({ uid: user, exp: Math.floor(Date.now() / 1000) + lifetime, n: Math.random() })}.x`;
}

export class Problem extends Error {
  constructor(readonly status: number, readonly code: string, readonly retryAfter?: number) {
    super(code);
  }
}

type Handler = (request: IncomingMessage, response: ServerResponse) => void;

export class FakeLatchkey {
  /** Requests for `GET /api/users/me` so far. */
  reads = 0;
  /** Upgrades so far. */
  upgrades = 0;
  /** All tokens that came, those of upgrades too. */
  readonly tokens: string[] = [];
  /** Answers instead of the fake, in turn. */
  readonly instead: Handler[] = [];
  /** Whether an upgrade that is accepted is told anything. */
  silent = false;
  /** Tokens that are not taken, and the code that says why. */
  readonly refused = new Map<string, string>();
  url = "";

  readonly #users = new Map<string, { version: number; key: string; suspended: boolean; disabled: boolean; remaining: number }>();
  readonly #sockets = new Map<ServerSocket, string>();
  readonly #upgrader = new WebSocketServer({ noServer: true, handleProtocols: (offered) => (offered.has("bearer") ? "bearer" : false) });
  #stop = async () => {};

  static async start(): Promise<FakeLatchkey> {
    const fake = new FakeLatchkey();
    const { server, url, stop } = await serve((request, response) => fake.#answer(request, response));
    server.on("upgrade", (request, socket, head) => {
      fake.#upgrader.handleUpgrade(request, socket, head, (ws) => fake.#connected(ws, request));
    });
    fake.url = url;
    fake.#stop = stop;
    return fake;
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets.keys()) socket.terminate();
    this.#upgrader.close();
    await this.#stop();
  }

  get sockets(): number {
    return this.#sockets.size;
  }

  body(user: string) {
    const { version, key, remaining } = this.user(user);
    return {
      id: user, user_name: "Ada", email: "ada@example.org", openrouter_api_key: key, hash: "00", total_limit: 10,
      remaining_limit: remaining, usage_limit: 1, version, outcome: "kept",
    };
  }

  user(user: string) {
    let record = this.#users.get(user);
    if (!record) this.#users.set(user, (record = { version: 1, key: `sk-or-v1-fake-${user}-1`, suspended: false, disabled: false, remaining: 10 }));
    return record;
  }

  /** Replaces the user's key and announces it; returns the new one. */
  rotate(user: string): string {
    const record = this.user(user);
    record.version++;
    record.key = `sk-or-v1-fake-${user}-${record.version}`;
    this.send(user, { event: "key", ...this.body(user) });
    return record.key;
  }

  /** Charges the user and announces that. */
  charge(user: string, credits: number): void {
    const record = this.user(user);
    record.version++;
    record.remaining -= credits;
    this.send(user, { event: "quota", ...this.body(user) });
  }

  suspend(user: string): void {
    const record = this.user(user);
    record.version++;
    record.suspended = true;
    this.send(user, { event: "suspended", ...this.body(user) });
    this.closeSockets(4403, "suspended", user);
  }

  /** An operator disabled the key at OpenRouter, and a reading has seen that. */
  disable(user: string): void {
    const record = this.user(user);
    record.version++;
    record.disabled = true;
    this.send(user, { event: "quota", ...this.body(user), openrouter_api_key: "" });
  }

  erase(user: string): void {
    this.#users.delete(user);
  }

  /** Sends a message as it is to the sockets of a user. */
  send(user: string, message: object | string | Buffer): void {
    for (const [socket, of] of this.#sockets) {
      if (of === user) socket.send(typeof message === "string" || Buffer.isBuffer(message) ? message : JSON.stringify(message));
    }
  }

  /** Closes the sockets of a user, or all; 1006: without a word. */
  closeSockets(code: number, reason = "", user?: string): void {
    for (const [socket, of] of this.#sockets) {
      if (user !== undefined && user !== of) continue;
      if (code === 1006) socket.terminate();
      else socket.close(code, reason);
    }
  }

  #authorize(token: string): string {
    this.tokens.push(token);
    if (token === "") throw new Problem(401, "missing_token");
    const refused = this.refused.get(token);
    if (refused) throw new Problem(401, refused);
    try {
      const { uid, exp } = JSON.parse(Buffer.from(token.split(".")[1] ?? "", "base64url").toString());
      if (exp * 1000 < Date.now()) throw new Problem(401, "expired_token");
      return uid;
    } catch (error) {
      throw error instanceof Problem ? error : new Problem(401, "invalid_token");
    }
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    if (request.url !== "/api/users/me") return this.#refuse(response, new Problem(404, "not_found"));
    this.reads++;
    const instead = this.instead.shift();
    if (instead) return instead(request, response);
    try {
      const user = this.#authorize((request.headers.authorization ?? "").replace("Bearer ", ""));
      if (this.user(user).suspended) throw new Problem(403, "suspended");
      if (this.user(user).disabled) throw new Problem(403, "key_disabled");
      response.writeHead(200, { "Content-Type": "application/json", "Cache-Control": "no-store" }).end(JSON.stringify(this.body(user)));
    } catch (error) {
      this.#refuse(response, error as Problem);
    }
  }

  #refuse(response: ServerResponse, problem: Problem): void {
    respond(problem)(undefined, response);
  }

  #connected(socket: ServerSocket, request: IncomingMessage): void {
    this.upgrades++;
    const offered = (request.headers["sec-websocket-protocol"] ?? "").split(",").map((text) => text.trim());
    let user: string;
    try {
      user = this.#authorize(offered[0] === "bearer" ? (offered[1] ?? "") : "");
      if (this.user(user).suspended) return socket.close(4403, "suspended");
    } catch (error) {
      return socket.close(4401, (error as Problem).code);
    }
    this.#sockets.set(socket, user);
    socket.on("close", () => this.#sockets.delete(socket));
    socket.on("message", (data, binary) => {
      if (this.silent) return;
      if ((data as Buffer).length > 1024) socket.close(1009);
      else if (!binary && String(data) === "ping") socket.send("pong");
    });
    if (!this.silent) socket.send(JSON.stringify({ event: "key", ...this.body(user) }));
  }
}

/** Answers with a problem document. */
export function respond({ status, code, retryAfter }: Problem) {
  return (_: unknown, response: ServerResponse): void => {
    response
      .writeHead(status, { "Content-Type": "application/problem+json", ...(retryAfter ? { "Retry-After": String(retryAfter) } : {}) })
      .end(JSON.stringify({ type: `urn:latchkey:problem:${code}`, title: code, status, detail: `The detail of ${code}.`, code }));
  };
}

/** OpenRouter's inference: a key works until it is ended. */
export class FakeOpenRouter {
  /** Keys that do not work, and the status they get. */
  readonly ended = new Map<string, 401 | 402 | 403>();
  /** Each request: its key and its body. */
  readonly requests: { key: string; body: string }[] = [];
  /** Called before each answer. */
  before = (_key: string): void => {};
  url = "";
  stop = async () => {};

  static async start(): Promise<FakeOpenRouter> {
    const fake = new FakeOpenRouter();
    const { url, stop } = await serve((request, response) => void fake.#answer(request, response));
    fake.url = url;
    fake.stop = stop;
    return fake;
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    const body = Buffer.concat(chunks).toString();
    const key = (request.headers.authorization ?? "").replace("Bearer ", "");
    this.requests.push({ key, body });
    this.before(key);
    const json = (status: number, value: object) =>
      response.writeHead(status, { "Content-Type": "application/json" }).end(JSON.stringify(value));

    if (request.url === "/redirect") return void response.writeHead(302, { Location: this.url.replace("127.0.0.1", "localhost") }).end();
    const refusal = key.startsWith("sk-or-v1-") ? this.ended.get(key) : 401;
    const message = { 401: "User not found.", 402: "Insufficient credits", 403: "Key limit exceeded (total limit)" };
    if (refusal) return void json(refusal, { error: { code: refusal, message: message[refusal] } });
    if (request.url === "/guarded") return void json(403, { error: { code: 403, message: "Model not allowed by guardrail" } });

    const base = { id: "gen-1", created: 1, model: "openai/gpt-4o-mini", provider: "OpenAI" };
    const usage = { prompt_tokens: 8, completion_tokens: 4, total_tokens: 12 };
    if (!body.includes('"stream":true')) {
      const message = { role: "assistant", content: "Hello from OpenRouter" };
      return void json(200, { ...base, object: "chat.completion", system_fingerprint: null, choices: [{ index: 0, finish_reason: "stop", message }], usage });
    }
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    for (const content of ["Hello ", "from ", "OpenRouter"]) {
      const choices = [{ index: 0, delta: { role: "assistant", content }, finish_reason: null }];
      response.write(`data: ${JSON.stringify({ ...base, object: "chat.completion.chunk", choices })}\n\n`);
    }
    const choices = [{ index: 0, delta: {}, finish_reason: "stop" }];
    response.end(`data: ${JSON.stringify({ ...base, object: "chat.completion.chunk", choices, usage })}\n\ndata: [DONE]\n\n`);
  }
}
