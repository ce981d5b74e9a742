// The Worker, and a path that has a user's alarm ring while the Go program has
// ended and does not boot.
import { env } from "cloudflare:workers";

let boots = true;
let last;
WebAssembly.Instance = new Proxy(WebAssembly.Instance, {
  construct(target, args) {
    if (!boots) throw new Error("no memory \u202e\u009b\u007f to boot");
    last = Reflect.construct(target, args);
    return last;
  },
});

const worker = await import("../../../worker/worker.mjs");
const { program } = await import("../../edge/edge.mjs");

export class UserObject extends worker.UserObject {
  // ring resolves to the milliseconds until the alarm rings again.
  async ring() {
    program();
    boots = false;
    try {
      last.exports.reserve(-1); // a panic that nothing recovers from
    } catch {}
    try {
      program().route("GET", "http://unbootable/healthz", "", "", "");
    } catch {}
    await this.ctx.storage.deleteAlarm();
    try {
      await this.alarm();
    } finally {
      boots = true;
    }
    return (await this.ctx.storage.getAlarm()) - Date.now();
  }
}

export default {
  async fetch(request) {
    const { pathname } = new URL(request.url);
    if (!pathname.startsWith("/ring/")) return worker.default.fetch(request);
    try {
      return Response.json(await env.USERS.getByName(pathname.slice("/ring/".length)).ring());
    } catch (error) {
      return new Response(String(error), { status: 500 });
    }
  },
};
