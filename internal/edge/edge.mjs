// The JavaScript half of package edge: boots the Go program, calls it, and does
// for it what only JavaScript can. edge.go is the other half; the functions of
// `host` are called from there.
import { env } from "cloudflare:workers";
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
export function collect(number) {
  if (current && !current.dead) current.enter("close", number);
}

class Program {
  dead = false;
  #go = new Go();
  #host; // what Go exports, and what it may call
  #asked = new Map(); // number -> promise that Go is to settle
  #numbers = 0;
  #memory; // of the WebAssembly instance
  #bytes = 0;

  constructor() {
    const go = this.#go;
    // A timer of Go's runtime would fire in the I/O context of whichever request
    // happened to set it, and wake other users' code there. Without one, what is
    // due runs at the next entry; our own code has no timers.
    go.importObject.gojs["runtime.scheduleTimeoutEvent"] = (sp) => go.mem.setInt32((sp >>> 0) + 16, 1, true);
    go.importObject.gojs["runtime.clearTimeoutEvent"] = () => {};
    this.#host = { ...host, started: this.#started.bind(this), answer: this.#answer.bind(this) };
    // github.com/syumai/workers reads this when the program starts.
    globalThis.context = { env, binding: this.#host };
    try {
      const instance = new WebAssembly.Instance(wasm, go.importObject);
      this.#memory = instance.exports.mem;
      go.run(instance);
    } finally {
      globalThis.context = undefined;
    }
    if (go.exited) this.#die(new Error("the program ended at once"));
  }

  // enter calls a function that Go exports, and returns what it returns. It
  // throws where the program makes a mistake or ends over it.
  enter(name, ...args) {
    let result, failure;
    try {
      result = this.#host[name](...args);
    } catch (error) {
      failure = error; // a WebAssembly trap
    }
    if (failure || this.#go.exited) {
      this.#die(failure);
      throw new Error("the program ended", { cause: failure });
    }
    if (this.#memory.buffer.byteLength !== this.#bytes) this.#grown();
    if (result === null) throw Object.assign(new Error("the program made a mistake"), { mistake: true }); // edge.go has logged it
    return result;
  }

  // #grown logs how much memory the program has; it never gives any back.
  // waiting is how many promises it has to settle, references how many
  // JavaScript values it holds or has held at once.
  #grown() {
    this.#bytes = this.#memory.buffer.byteLength;
    console.log(JSON.stringify({
      evt: "memory", ms: 0, bytes: this.#bytes, waiting: this.#asked.size, references: this.#go._values.length,
    }));
  }

  // ask calls a function that Go exports and that answers later.
  ask(name, ...args) {
    return new Promise((resolve, reject) => {
      const number = ++this.#numbers;
      this.#asked.set(number, { resolve, reject });
      try {
        this.enter(name, number, ...args);
      } catch (error) {
        this.#asked.delete(number);
        reject(error);
      }
    });
  }

  #answer(number, failure, value) {
    const asked = this.#asked.get(number);
    this.#asked.delete(number);
    if (failure) asked?.reject(new Error(failure));
    else asked?.resolve(value);
  }

  // #started tells Go how a promise ends, by the number it waits under.
  #started(number, promise) {
    const settled = (failure, value) => {
      if (this.dead) return;
      try {
        this.enter("settled", number, failure, value);
      } catch {} // the program ended; #die has told everybody
    };
    promise.then((value) => settled("", value), (error) => settled(String(error?.message ?? error) || "failed", ""));
  }

  // #die gives up on the program: what is in flight fails, and the next call
  // boots another. Storage is what that one starts from.
  #die(cause) {
    if (this.dead) return;
    this.dead = true;
    console.log(JSON.stringify({ evt: "panic", ms: 0, err: `the program ended: ${cause ?? "exit"}` }));
    for (const { reject } of this.#asked.values()) reject(new Error("the program ended"));
    this.#asked.clear();
  }
}

// within rejects where a promise takes longer than so many milliseconds. abort
// is then called to end what it stands for.
function within(milliseconds, promise, abort = () => {}) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      reject(new Error(`no answer within ${milliseconds} ms`));
      abort();
    }, milliseconds);
    promise.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}

const entryKey = (seq) => `ledger:${String(seq).padStart(16, "0")}`;

const host = {
  respond: (status, headers, body) => new Response(body || null, { status, headers: JSON.parse(headers) }),

  // forward hands a request to an object. Header values are Latin-1, so the
  // request travels encoded.
  forward: (namespace, name, request, origin) =>
    namespace.getByName(name).fetch("https://object/", {
      headers: { "latchkey-request": encodeURIComponent(request), "latchkey-origin": origin },
    }),

  // ask resolves to the body of what an object answers.
  ask: (namespace, name, request) => host.forward(namespace, name, request, "").then((response) => response.text()),

  // fetch resolves to status, Retry-After and body, each after a line break. The
  // deadline covers the body too. A redirect is an answer like any other: to
  // follow it would carry the provisioning key along.
  fetch(method, url, headers, body, milliseconds) {
    const controller = new AbortController();
    const answered = fetch(url, {
      method, headers: JSON.parse(headers), body: body || undefined, redirect: "manual", signal: controller.signal,
    }).then(async (response) => [response.status, response.headers.get("retry-after") ?? "", await response.text()].join("\n"));
    return within(milliseconds, answered, () => controller.abort());
  },

  // batch runs SQL statements as one transaction and resolves to the rows of
  // each, as JSON.
  batch: (db, statements, milliseconds) =>
    within(milliseconds, db.batch(JSON.parse(statements).map(({ sql, args }) => db.prepare(sql).bind(...args))))
      .then((results) => JSON.stringify(results.map(({ results }) => results))),

  load: (storage) => storage.kv.get("state") ?? "",

  // write stores all of it or nothing: writes without an await in between are
  // one transaction, the alarm included. alarm: undefined leaves it, 0 deletes it.
  write(storage, state, seq, entry, alarm) {
    if (alarm === 0) storage.deleteAlarm();
    else if (alarm) storage.setAlarm(alarm);
    if (entry) storage.kv.put(entryKey(seq), entry);
    storage.kv.put("state", state);
  },

  entries: (storage, after, limit) =>
    `[${Array.from(storage.kv.list({ prefix: "ledger:", startAfter: entryKey(after), limit }), ([, entry]) => entry).join(",")}]`,

  log: (line) => console.log(line),

  // measure gives a data point up where the runtime takes none: past its limits,
  // or outside of any request. Nobody's answer may depend on it.
  measure(dataset, point) {
    try {
      dataset.writeDataPoint(JSON.parse(point));
    } catch {}
  },
};
