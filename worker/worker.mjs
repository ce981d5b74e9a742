// The module that Cloudflare loads: the Worker and the Durable Object class.
// It wires them to the Go program and does nothing else.
import { DurableObject } from "cloudflare:workers";
import { collect, KeysWanted, program } from "../internal/edge/edge.mjs";
import { asLine } from "../internal/edge/line.mjs";

// What the body of a request may hold.
const MAX_BODY = 64 * 1024;

// readBody returns the text of a request's body, or undefined where it is too
// large, of which no more is read than shows it.
async function readBody(request) {
  if (Number(request.headers.get("content-length")) > MAX_BODY) return undefined;
  const decoder = new TextDecoder();
  let text = "";
  let length = 0;
  for await (const chunk of request.body) {
    length += chunk.byteLength;
    if (length > MAX_BODY) return undefined;
    text += decoder.decode(chunk, { stream: true });
  }
  return text + decoder.decode();
}

// read calls back with what Go needs of a request, at once where it has no body.
function read(request, then) {
  const { method, url, headers } = request;
  const read = [method, url, headers.get("authorization") ?? "", headers.get("origin") ?? ""];
  return request.body ? readBody(request).then((body) => then(...read, body)) : then(...read, "");
}

export default {
  // fetch calls Go, synchronously: it gets a Response, or whose object answers, so
  // that nothing of a request stays in Go when its client goes away. The object
  // gets the request as it came, and believes no more of it than the Worker did.
  fetch(request, _, ctx) {
    return read(request, (method, url, authorization, origin, body) => {
      const call = () => {
        const answer = program().route(method, url, authorization, origin, body);
        if (answer instanceof Response) return answer;
        if (answer instanceof KeysWanted) {
          const obtained = answer.obtained();
          ctx.waitUntil(obtained); // others wait for it too, whatever becomes of this client
          return obtained.then(call);
        }
        // A body was read, and can be sent but not read again. Nobody wants that of a GET.
        return answer.fetch(request.body ? new Request(url, { method, headers: { authorization, origin }, body: method === "GET" ? null : body }) : request);
      };
      const failed = (error) => {
        const code = error?.mistake ? "internal" : error?.overloaded ? "overloaded" : "upstream_unavailable";
        return program().failed(method, url, origin, code, String(error?.message ?? error));
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
    });
  },

  // Once a day: keys at OpenRouter that nobody owns. The object logs what came of it.
  async scheduled() {
    await program().scheduled();
  },
};

let objects = 0;
const collected = new FinalizationRegistry(collect);

// named returns the name of an object, which is its user's id. Without one
// nothing may be done: it would be done to nobody, or to everybody.
function named(id) {
  if (id.name === undefined) throw new Error("the object has no name");
  return id.name;
}

// UserObject is a user's Durable Object. Go knows it by a number that no other
// construction has: an object that was reset must not be waited for by the next.
export class UserObject extends DurableObject {
  #number = ++objects;

  constructor(ctx, env) {
    super(ctx, env);
    collected.register(this, this.#number);
  }

  fetch(request) {
    const { id, storage } = this.ctx;
    const number = this.#number;
    return read(request, (...request) => {
      const call = async () => {
        const answer = await program().object(number, named(id), storage, ...request);
        return answer instanceof KeysWanted ? answer.obtained().then(call) : answer;
      };
      return call();
    });
  }

  // ask is what other objects and the Worker want, for which no client asked.
  async ask(errand) {
    return (await program().ask(this.#number, named(this.ctx.id), this.ctx.storage, errand)).text();
  }

  // Nothing here may hold on to `this` while it waits: an object that is reset
  // meanwhile would never be collected.
  alarm() {
    const { id, storage } = this.ctx;
    const number = this.#number;
    // A call may fail at once: where the program does not boot, say.
    return Promise.try(() => program().alarm(number, named(id), storage)).catch((error) => {
      // The runtime gives up on an alarm after a few tries. We do not.
      console.log(asLine({ evt: "background", user: id.name, op: "alarm", outcome: "again", ms: 0, err: String(error?.message ?? error) }));
      return storage.setAlarm(Date.now() + 60_000);
    });
  }
}
