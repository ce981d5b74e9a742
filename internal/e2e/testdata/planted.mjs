// The Worker, and a path that writes a user's state as an earlier version or an
// accident would have left it.
import { env } from "cloudflare:workers";
import worker, { UserObject as Base } from "../../../worker/worker.mjs";

export class UserObject extends Base {
  plant(state) {
    this.ctx.storage.kv.put("state", state);
  }
}

export default {
  async fetch(request) {
    const { pathname } = new URL(request.url);
    if (!pathname.startsWith("/plant/")) return worker.fetch(request);
    await env.USERS.getByName(pathname.slice("/plant/".length)).plant(await request.text());
    return new Response("planted");
  },
};
