// The JavaScript half of package edge: boots the Go program, calls it, and does
// for it what only JavaScript can. The Go files beside it are the other half.
import { env } from "cloudflare:workers";
import { fetched, header, readText, within } from "./fetch.mjs";
import { endedLine, memoryLine, messageOf } from "./log.mjs";
import { close, notes, send, upgrade } from "./sockets.mjs";
import "../../build/wasm_exec.js"; // defines globalThis.Go
import wasm from "../../build/latchkey.wasm";

let current; // the isolate's one program

// program returns the running program, and boots one where there is none. It
// must be called inside a handler or constructor: elsewhere the runtime refuses
// random numbers, which Go needs to start. Booting is synchronous, so that no
// request ever waits for another one's boot.
export function program() {
  if (!current || current.dead) current = new Program();
  return current;
}

// collect tells the program that an object is gone. It boots none: one that is
// not running holds nothing of it.
export function collect(object) {
  if (current && !current.dead) current.closed(object);
}

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

// What fields are joined and split with. Only the last one may hold it.
const separator = "\0";

// How many calls there are between two reports of what is in memory.
const REPORT_EVERY = 10_000;

class Program {
  dead = false;
  #go = new Go();
  #exports; // what Go exports
  #input; // where Go reads what it is given
  #body; // of the request that comes next
  #result; // of the call that is going on
  #asked = new Map(); // number -> promise that Go is to settle
  #contexts = new Map(); // number of an object that has something going on -> its ctx
  #numbers = 0;
  #calls = 0;

  constructor() {
    const go = this.#go;
    // A timer of Go's runtime would fire in the I/O context of whichever request
    // happened to set it, and wake other users' code there. Without one, what is
    // due runs at the next entry; our own code has no timers.
    go.importObject.gojs["runtime.scheduleTimeoutEvent"] = (sp) => go.mem.setInt32((sp >>> 0) + 16, 1, true);
    go.importObject.gojs["runtime.clearTimeoutEvent"] = () => {};
    go.importObject.edge = this.#imports();
    // github.com/syumai/workers reads this when the program starts.
    globalThis.context = { env, binding: {} };
    try {
      const instance = new WebAssembly.Instance(wasm, go.importObject);
      this.#exports = instance.exports;
      go.run(instance);
    } finally {
      globalThis.context = undefined;
    }
    if (go.exited) this.#die(new Error("the program ended at once"));
  }

  // The handlers of calls_js.go. All throw where the program makes a mistake or ends
  // over it. A request is its method, URL, authorization, origin, what it says of an
  // upgrade, and its body, which is undefined where it is too large.
  //
  // route returns a Response, the object that the request is for, or KeysWanted;
  // failed a Response, told the kind of failure and its cause; scheduled a promise.
  route(...request) {
    return this.#enter("route", this.#request(request), tooLarge(request));
  }
  failed(failure, cause, ...request) {
    return this.#enter("failed", this.#request(request, failure, cause), tooLarge(request));
  }
  scheduled() {
    return this.#enter("scheduled", "");
  }
  // object promises a Response to a client's request, or KeysWanted; ask a Response
  // to an internal call.
  object(object, name, ctx, ...request) {
    return this.#ask("object", this.#request(request, name), object, ctx, tooLarge(request));
  }
  ask(object, name, ctx, call) {
    return this.#ask("ask", [call, name].join(separator), object, ctx);
  }
  alarm(object, name, ctx) {
    return this.#ask("alarm", name, object, ctx);
  }
  // keysRead takes a key set, after its Cache-Control, or why it could not be read.
  keysRead(text, failed) {
    this.#enter("keysRead", text, failed);
  }
  closed(object) {
    this.#contexts.delete(object);
    for (const [number, asked] of this.#asked) {
      if (asked.object !== object) continue;
      this.#asked.delete(number);
      asked.reject(new Error("the object is gone"));
    }
    this.#enter("closed", "", object);
  }

  // #enter calls a function that Go exports with a text and numbers.
  #enter(name, text, ...numbers) {
    if (++this.#calls % REPORT_EVERY === 0) this.#report();
    this.#result = undefined;
    let mistake, failure;
    try {
      if (this.#body) this.#exports.body(this.#give(this.#body));
      const length = this.#give(text);
      if (!this.#go.exited) mistake = this.#exports[name](length, ...numbers);
    } catch (error) {
      failure = error; // a WebAssembly trap
    } finally {
      this.#body = undefined;
    }
    if (failure || this.#go.exited) {
      this.#die(failure);
      throw new Error("the program ended", { cause: failure });
    }
    if (mistake) throw Object.assign(new Error("the program made a mistake"), { mistake: true }); // Go has logged it
    return this.#result;
  }

  // #request is the text of a request, and what goes along with it. Its body crosses
  // by itself: both it and the name of an object may hold the separator.
  #request([method, url, authorization, origin, upgrade, body], ...along) {
    this.#body = body;
    return [method, url, authorization, origin, upgrade, ...(along.length ? along : [""])].join(separator);
  }

  // #ask calls a function that Go exports and that answers later.
  #ask(name, text, object, ctx, ...numbers) {
    return new Promise((resolve, reject) => {
      const number = ++this.#numbers;
      this.#asked.set(number, { resolve, reject, object, ctx });
      this.#contexts.set(object, ctx);
      try {
        this.#enter(name, text, number, object, ...numbers);
      } catch (error) {
        this.#asked.delete(number);
        reject(error);
      }
    });
  }

  // #give writes a text where Go reads it, and returns its length in bytes.
  #give(text) {
    if (this.#input?.buffer !== this.#exports.mem.buffer) this.#grown();
    const { read, written } = encoder.encodeInto(text, this.#input);
    if (read === text.length) return written;
    const bytes = encoder.encode(text);
    const at = this.#exports.reserve(bytes.length);
    new Uint8Array(this.#exports.mem.buffer, at, bytes.length).set(bytes);
    return bytes.length;
  }

  // #tell gives Go the result of an import: a text, or below 0 what went wrong.
  #tell(result) {
    let text, failed;
    try {
      text = result();
    } catch (error) {
      failed = true;
      text = messageOf(error);
    }
    const length = this.#give(text);
    return failed ? -1 - length : length;
  }

  // #grown looks at where the memory lies now.
  #grown() {
    const { mem, input, inputSize } = this.#exports;
    this.#input = new Uint8Array(mem.buffer, input(), inputSize());
    this.#report();
  }

  // #report logs how much memory there is, which never shrinks, and what is kept
  // in it: objects, those of them with something going on (active), promises
  // that Go waits for (waiting) and that it has to settle (asked), JavaScript
  // values that it holds (references). None grows with users or requests.
  #report() {
    console.log(memoryLine({
      bytes: this.#exports.mem.buffer.byteLength, objects: this.#exports.kept(), active: this.#contexts.size,
      waiting: this.#exports.waiting(), asked: this.#asked.size, references: this.#go._ids.size,
    }));
  }

  // #started tells Go how a promise ends, by the number it waits under.
  #started(id, promise) {
    const settled = (failed, text) => {
      if (this.dead) return;
      try {
        this.#enter("settled", text, id, failed);
      } catch {} // the program ended; #die has told everybody
    };
    promise.then((text) => settled(0, text), (error) => settled(1, messageOf(error) || "failed"));
  }

  // #die gives up on the program: what is in flight fails, and the next call
  // boots another. Storage is what that one starts from.
  #die(cause) {
    if (this.dead) return;
    this.dead = true;
    console.log(endedLine(cause));
    for (const { reject } of this.#asked.values()) reject(new Error("the program ended"));
    this.#asked.clear();
  }

  // #imports are the functions that Go imports; imports_js.go says what each returns.
  // A text is two arguments, its address and its length; fields of it are
  // separated. None may throw.
  #imports() {
    const text = (at, length) => decoder.decode(new Uint8Array(this.#exports.mem.buffer, at, length));
    const fields = (at, length) => text(at, length).split(separator);
    const settle = (number, settled) => {
      const asked = this.#asked.get(number);
      this.#asked.delete(number);
      if (asked) settled(asked);
    };
    // answer answers a call; 0 is the one that is going on.
    const answer = (number, make) => {
      if (!number) this.#result = make();
      else settle(number, ({ resolve, reject, ctx }) => {
        try {
          resolve(make(ctx));
        } catch (error) {
          reject(error);
        }
      });
    };
    return {
      respond: (number, status, at, length) => {
        const [body, ...headers] = fields(at, length);
        answer(number, () => new Response(body || null, { status, headers: dictionary(headers) }));
      },

      // connect answers with a WebSocket.
      connect: (number, code, at, length) => {
        const [id, note, message, reason, ...headers] = fields(at, length);
        answer(number, (ctx) => upgrade(ctx, dictionary(headers), { id, note, message, code, reason }));
      },

      wantKeys: (number, at, length) => answer(number, () => new KeysWanted(text(at, length))),

      done: (number, at, length) =>
        settle(number, ({ resolve, reject }) => (length ? reject(new Error(text(at, length))) : resolve())),

      forward: (at, length) => {
        const [namespace, ...name] = fields(at, length);
        this.#result = env[namespace].getByName(name.join(separator));
      },

      // ask asks another object for the text of its answer; 0 is for the call that is going on.
      ask: (id, at, length) => {
        const [namespace, request, ...name] = fields(at, length);
        const asked = env[namespace].getByName(name.join(separator)).ask(request);
        if (id) this.#started(id, asked);
        else this.#result = asked;
      },

      fetch: (id, milliseconds, at, length) => {
        const [method, url, body, ...headers] = fields(at, length);
        this.#started(id, call(milliseconds, url, { method, body: body || undefined, headers: dictionary(headers) }));
      },

      batch: (id, milliseconds, at, length) => {
        const [db, statements] = fields(at, length);
        this.#started(id, batch(milliseconds, env[db], JSON.parse(statements)));
      },

      load: (object) => this.#tell(() => this.#contexts.get(object).storage.kv.get("state") ?? ""),

      // write stores all of it or nothing: writes without an await in between are
      // one transaction, the alarm included. alarm: NaN leaves it, 0 deletes it.
      write: (object, seq, alarm, at, length) => this.#tell(() => {
        const { storage } = this.#contexts.get(object);
        const [state, entry] = fields(at, length);
        if (alarm === 0) storage.deleteAlarm();
        else if (alarm) storage.setAlarm(alarm);
        if (entry) storage.kv.put(entryKey(seq), entry);
        storage.kv.put("state", state);
        return "";
      }),

      entries: (object, after, limit) =>
        this.#tell(() => list(this.#contexts.get(object).storage, { startAfter: entryKey(after), limit })),

      latest: (object, before, limit) =>
        this.#tell(() => list(this.#contexts.get(object).storage, { ...(before && { end: entryKey(before) }), reverse: true, limit })),

      // sockets lists the open ones, with their notes.
      sockets: (object) => this.#tell(() => JSON.stringify(notes(this.#contexts.get(object)))),

      // send takes over what the socket's note is from then on.
      send: (object, at, length) => {
        const [id, note, message] = fields(at, length);
        send(this.#contexts.get(object), id, note, message);
      },

      closeSocket: (object, code, at, length) => {
        const [id, reason] = fields(at, length);
        close(this.#contexts.get(object), id, code, reason);
      },

      idle: (object) => this.#contexts.delete(object),

      log: (at, length) => console.log(text(at, length)),

      // measure gives a data point up where the runtime takes none: past its limits,
      // or outside of any request. Nobody's answer may depend on it.
      measure: (at, length) => {
        try {
          env.METRICS.writeDataPoint(JSON.parse(text(at, length)));
        } catch {}
      },
    };
  }
}

// How long the issuer has to send its key set, which has at most so many bytes.
const KEYS_DEADLINE = 5_000;
const MAX_KEY_SET = 64 * 1024;

// How long a request waits that comes while another one reads the key set.
const KEYS_POLL = 100;

// KeysWanted is the answer to a request that is to come again once obtained() is
// fulfilled. What is waited for is this request's own, never another one's.
export class KeysWanted {
  #url; // of the key set; empty: another request is reading it

  constructor(url) {
    this.#url = url;
  }

  obtained() {
    return this.#url ? readKeys(this.#url) : new Promise((resolve) => setTimeout(resolve, KEYS_POLL));
  }
}

// readKeys reads a key set and hands it to the program, or why it could not.
async function readKeys(url) {
  try {
    const read = async (response) => {
      if (response.status !== 200) {
        await response.body?.cancel();
        throw new Error(`the issuer answered ${response.status}`);
      }
      return [header(response, "cache-control"), await readText(response, MAX_KEY_SET)].join(separator);
    };
    program().keysRead(await fetched(KEYS_DEADLINE, url, { headers: { accept: "application/json" } }, read), 0);
  } catch (error) {
    program().keysRead(messageOf(error), 1);
  }
}

// dictionary returns headers given as name, value, name, …
function dictionary(headers) {
  const found = {};
  for (let i = 0; i < headers.length; i += 2) found[headers[i]] = headers[i + 1];
  return found;
}

const tooLarge = ([, , , , , body]) => (body === undefined ? 1 : 0);

// How many bytes are read of an answer, once it is decoded: a page of the list,
// the largest that makes sense, has about 100 KB.
const MAX_ANSWER = 1 << 20;

// call resolves to status, Retry-After and body of an answer.
const call = (milliseconds, url, request) => fetched(milliseconds, url, request, async (response) =>
  [response.status, header(response, "retry-after"), await readText(response, MAX_ANSWER)].join(separator));

// batch runs SQL statements as one transaction and resolves to the rows of
// each, as JSON.
async function batch(milliseconds, db, statements) {
  const results = await within(milliseconds, db.batch(statements.map(({ sql, args }) => db.prepare(sql).bind(...args))));
  return JSON.stringify(results.map(({ results }) => results));
}

// list returns ledger entries as a JSON array.
const list = (storage, options) => `[${Array.from(storage.kv.list({ prefix: "ledger:", ...options }), ([, entry]) => entry).join(",")}]`;

const entryKey = (seq) => `ledger:${String(seq).padStart(16, "0")}`;
