// The Worker as if its clients came over https. What is sent below /straight/<user>
// goes to that user's object at once, as if its isolate were not the Worker's.
import { env } from "cloudflare:workers";
import worker, { UserObject } from "../../../worker/worker.mjs";

export { UserObject };

export default {
  fetch(request, _, ctx) {
    const url = request.url.replace("http:", "https:");
    const [, user, path] = url.match(/\/straight\/([^/]+)(.*)/) ?? [];
    if (!user) return worker.fetch(new Request(url, request), env, ctx);
    return env.USERS.getByName(user).fetch(new Request(new URL(path, url), request));
  },
};
