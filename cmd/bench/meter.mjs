// Sources of modules that stand around a subject and around D1. They put D1 as far
// away as it is in production, and meter what Cloudflare bills: they log a line for
// each thing that is counted, a JSON object whose "meter" says what it is. Times are
// in milliseconds.
//
//   object   a request to an object, its alarms too: user, from, to
//   storage  an access to an object's storage: read and written, in rows
//   d1       a call of D1: user, from, to, and what D1 itself counts: read, written, in rows

// meteredSubject wraps the entry module with this name. A list reads one row more
// than it finds; workerd bills an alarm that is set as a row, and none for one that
// is taken back.
export const meteredSubject = (entry) => `
  import { UserObject as Subject } from "./${entry}";
  export { default } from "./${entry}";

  const storage = (read, written) => console.log(JSON.stringify({ meter: "storage", read, written }));
  const replace = (prototype, name, metered) => {
    const original = prototype[name];
    prototype[name] = function (...given) { return metered(original.apply(this, given)); };
  };
  let metered = false; // the prototypes are the isolate's
  const meter = ({ storage: all }) => {
    if (metered) return;
    metered = true;
    const kv = Object.getPrototypeOf(all.kv);
    replace(kv, "get", (value) => (storage(value === undefined ? 0 : 1, 0), value));
    replace(kv, "put", (done) => (storage(0, 1), done));
    replace(kv, "delete", (done) => (storage(0, 1), done));
    replace(kv, "list", (found) => {
      const entries = Array.from(found);
      storage(entries.length + 1, 0);
      return entries;
    });
    replace(Object.getPrototypeOf(all), "setAlarm", (done) => (storage(0, 1), done));
  };

  export class UserObject extends Subject {
    constructor(ctx, env) {
      super(ctx, env);
      meter(ctx);
    }
  }
  for (const name of Object.getOwnPropertyNames(Subject.prototype)) {
    if (name === "constructor") continue;
    UserObject.prototype[name] = async function (...given) {
      const from = Date.now();
      try {
        return await Subject.prototype[name].apply(this, given);
      } finally {
        console.log(JSON.stringify({ meter: "object", user: this.ctx.id.name, from, to: Date.now() }));
      }
    };
  }
`;

// distantD1 stands in the door of Miniflare's D1: a call crosses once, with one
// statement or a batch, and is answered so many milliseconds later.
export const distantD1 = (away, metered) => `
  import D1 from "./entry.worker.js";
  export default class extends D1 {
    async fetch(request) {
      const from = Date.now();
      await scheduler.wait(${away});
      if (!${metered}) return super.fetch(request);
      const user = /"params":\\["([^"]*)"/.exec(await request.clone().text())?.[1];
      const response = await super.fetch(request);
      const results = [await response.clone().json()].flat();
      const sum = (name) => results.reduce((all, { meta }) => all + (meta?.[name] ?? 0), 0);
      console.log(JSON.stringify({ meter: "d1", user, from, to: Date.now(), read: sum("rows_read"), written: sum("rows_written") }));
      return response;
    }
  }
`;

// busyD1 stands around Miniflare's database: it runs one call at a time, and takes
// so many milliseconds for each.
export const busyD1 = (busy) => `
  import { D1DatabaseObject as Database } from "./database.worker.js";
  export class D1DatabaseObject extends Database {
    fetch(request) {
      return this.state.blockConcurrencyWhile(async () => {
        await scheduler.wait(${busy});
        return super.fetch(request);
      });
    }
  }
`;
