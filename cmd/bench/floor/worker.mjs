// The floor: what the runtime itself costs where a Worker asks an object and
// the object asks OpenRouter. It verifies nothing and keeps nothing, so nothing
// that does the job can be expected to be faster.
import { DurableObject } from "cloudflare:workers";

export default {
  fetch(request, env) {
    // The driver names the user beside the token: not even that is parsed.
    return env.USERS.getByName(request.headers.get("bench-user")).fetch(request);
  },
};

export class UserObject extends DurableObject {
  async fetch() {
    const { OPENROUTER_BASE_URL: base, OPENROUTER_PROVISIONING_API_KEY: key, FLOOR_HASH: hash } = this.env;
    const response = await fetch(`${base}/keys/${hash}`, { headers: { authorization: `Bearer ${key}` } });
    return new Response(await response.text(), { headers: { "content-type": "application/json" } });
  }
}
