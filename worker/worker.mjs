// The module that Cloudflare loads: the Worker and the Durable Object class.
// It wires them to the Go program, by the runtime's rules, and does nothing else.
import { DurableObject } from "cloudflare:workers";
import { collect, KeysWanted, program } from "../internal/edge/edge.mjs";
import { alarmLine, messageOf } from "../internal/edge/log.mjs";
import { closeSocket, received } from "../internal/edge/sockets.mjs";

// What the body of a request may hold.
const MAX_BODY = 64 * 1024;

// How long after a failed alarm the next one rings, in milliseconds.
const ALARM_RETRY = 60_000;

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
  const upgrade = headers.get("upgrade");
  const head = [
    method, url, headers.get("authorization") ?? "", headers.get("origin") ?? "",
    upgrade ? `${upgrade}\n${headers.get("sec-websocket-protocol") ?? ""}` : "", // no header holds a newline
  ];
  return request.body ? readBody(request).then((body) => then(...head, body)) : then(...head, "");
}

// isRetryable tells whether the runtime merely moved or restarted an object, so that
// to read again is safe. It forbids to ask one anew that has too much to do.
const isRetryable = (error) => error?.retryable && !error.overloaded;

// failureOf tells why an object gave no answer, in the words of edge.Failure.
const failureOf = (error) => (error?.mistake ? "mistake" : error?.overloaded ? "overloaded" : "unreached");

// copyOf returns a request whose body was read: it can be sent, but not read again.
// Nobody wants the body of a GET.
const copyOf = (method, url, authorization, origin, _upgrade, body) =>
  new Request(url, { method, headers: { authorization, origin }, body: method === "GET" ? null : body });

export default {
  // fetch calls Go, synchronously: it gets a Response, or whose object answers, so
  // that nothing of a request stays in Go when its client goes away. The object
  // gets the request as it came, and believes no more of it than the Worker did.
  fetch(request, _, ctx) {
    return read(request, (...given) => {
      const call = () => {
        const answer = program().route(...given);
        if (answer instanceof Response) return answer;
        if (answer instanceof KeysWanted) {
          const obtained = answer.obtained();
          ctx.waitUntil(obtained); // others wait for it too, whatever becomes of this client
          return obtained.then(call);
        }
        return answer.fetch(request.body ? copyOf(...given) : request);
      };
      const failed = (error) => program().failed(failureOf(error), messageOf(error), ...given);
      try {
        const result = call();
        if (result instanceof Response) return result;
        return result
          .catch((error) => (isRetryable(error) && request.method === "GET" ? call() : Promise.reject(error)))
          .catch(failed);
      } catch (error) {
        return failed(error);
      }
    });
  },

  // The cron trigger of wrangler.toml. The object that does the work logs it.
  async scheduled() {
    await program().scheduled();
  },
};

let objects = 0;
const collected = new FinalizationRegistry(collect);

// mustBeNamed returns the name of an object, which is its user's id. Without one
// nothing may be done: it would be done to nobody, or to everybody.
function mustBeNamed(id) {
  if (id.name === undefined) throw new Error("the object has no name");
  return id.name;
}

// UserObject is a user's Durable Object. Go knows it by a number that no other
// construction has: an object that was reset must not be waited for by the next.
//
// The runtime collects an object that was reset once nothing holds on to it. So what
// waits for Go holds the object's number and ctx, and never `this`.
export class UserObject extends DurableObject {
  #number = ++objects;

  constructor(ctx, env) {
    super(ctx, env);
    collected.register(this, this.#number);
  }

  fetch(request) {
    const { ctx } = this;
    const number = this.#number;
    return read(request, (...given) => {
      const call = async () => {
        const answer = await program().object(number, mustBeNamed(ctx.id), ctx, ...given);
        return answer instanceof KeysWanted ? answer.obtained().then(call) : answer;
      };
      return call();
    });
  }

  // ask answers an internal call: one of another object or of the Worker, for which
  // no client asked.
  ask(call) {
    const { ctx } = this;
    return program().ask(this.#number, mustBeNamed(ctx.id), ctx, call).then((answer) => answer.text());
  }

  // alarm never fails: the runtime would try a few times more and then give up, and
  // we do not.
  alarm() {
    const { ctx } = this;
    const number = this.#number;
    // A call may fail at once: where the program does not boot, say.
    return Promise.try(() => program().alarm(number, mustBeNamed(ctx.id), ctx)).catch((error) => {
      console.log(alarmLine(ctx.id.name, error));
      return ctx.storage.setAlarm(Date.now() + ALARM_RETRY);
    });
  }

  // What a client sends on its socket, or that it closes it, is no matter of Go's.
  webSocketMessage(socket, message) {
    received(socket, message);
  }

  webSocketClose(socket, code, reason) {
    closeSocket(socket, code, reason);
  }
}
