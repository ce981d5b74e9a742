// The module that Cloudflare loads: the Worker and the Durable Object class.
// It wires them to the Go program and does nothing else.
import { DurableObject } from "cloudflare:workers";
import { collect, program } from "../internal/edge/edge.mjs";

// What a request may carry; nothing here reads a body.
const MAX_BODY = 64 * 1024;

// bodyLength is the length of a request's body, or a promise of it where only
// reading can tell. It stops counting past the limit.
function bodyLength(request) {
  if (!request.body) return 0;
  const declared = request.headers.get("content-length");
  if (declared !== null) return Number(declared);
  return (async () => {
    let length = 0;
    for await (const chunk of request.body) {
      length += chunk.byteLength;
      if (length > MAX_BODY) break;
    }
    return length;
  })();
}

// route calls Go, synchronously: it gets a Response, or the promise of what the
// user's object answers, so that nothing of a request stays in Go when its
// client goes away.
function route(request, length) {
  const { method, headers } = request;
  const path = new URL(request.url).pathname;
  const origin = headers.get("origin") ?? "";
  const call = () => program().enter("route", method, path, headers.get("authorization") ?? "", origin, length > MAX_BODY);
  const failed = (error) => {
    const code = error?.mistake ? "internal" : error?.overloaded ? "overloaded" : "upstream_unavailable";
    return program().enter("failed", method, path, origin, code, String(error?.message ?? error));
  };
  try {
    const result = call();
    if (result instanceof Response) return result;
    return result
      // The runtime says when an object was merely moved or restarted; reading again is safe.
      .catch((error) => (error?.retryable && !error.overloaded && method === "GET" ? call() : Promise.reject(error)))
      .catch(failed);
  } catch (error) {
    return failed(error);
  }
}

export default {
  fetch(request) {
    const length = bodyLength(request);
    return length instanceof Promise ? length.then((n) => route(request, n)) : route(request, length);
  },
};

let objects = 0;
const collected = new FinalizationRegistry(collect);

// UserObject is a user's Durable Object. Go knows it by a number that no other
// construction has: an object that was reset must not be waited for by the next.
export class UserObject extends DurableObject {
  #number = ++objects;

  constructor(ctx, env) {
    super(ctx, env);
    collected.register(this, this.#number);
  }

  fetch(request) {
    const header = (name) => request.headers.get(name) ?? "";
    return program().ask(
      "object", this.#number, this.ctx.id.name, this.ctx.storage,
      header("latchkey-want"), decodeURIComponent(header("latchkey-identity")), header("latchkey-origin"),
    );
  }

  async alarm() {
    try {
      await program().ask("alarm", this.#number, this.ctx.id.name, this.ctx.storage);
    } catch (error) {
      // The runtime gives up on an alarm after a few tries. We do not.
      console.log(JSON.stringify({ evt: "background", user: this.ctx.id.name, op: "alarm", outcome: "again", ms: 0, err: String(error?.message ?? error) }));
      await this.ctx.storage.setAlarm(Date.now() + 60_000);
    }
  }
}
