// The job as one would first write it in JavaScript: a Worker that verifies the
// token, and an object for each user that walks the flow with the record in D1,
// read and written by every request. Nothing is shared between requests, sealed,
// logged, or written down before it is tried.
import { DurableObject } from "cloudflare:workers";

const TOTAL_LIMIT = 10, KEY_LIMIT = 1, ROTATE_BELOW = 0.5, RENEW_AT = 0.1;

const ME = "/api/users/me", REFRESH = "/api/users/me/openrouter-api-key/refresh";

const json = (status, body) =>
  Response.json(body, { status, headers: { "cache-control": "no-store" } });

const fromBase64url = (text) =>
  Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));

let secret; // imported once

// verify returns the claims of a token, or undefined where it does not hold.
async function verify(authorization, env) {
  const [scheme, token] = authorization.split(" ");
  const [header, payload, signature] = token?.split(".") ?? [];
  if (scheme !== "Bearer" || !signature) return undefined;
  secret ??= await crypto.subtle.importKey(
    "raw", new TextEncoder().encode(env.JWT_SECRET_CLOUD), { name: "HMAC", hash: "SHA-256" }, false, ["verify"],
  );
  const decode = (part) => JSON.parse(new TextDecoder().decode(fromBase64url(part)));
  if (decode(header).alg !== "HS256") return undefined;
  const signed = new TextEncoder().encode(`${header}.${payload}`);
  if (!(await crypto.subtle.verify("HMAC", secret, fromBase64url(signature), signed))) return undefined;
  const claims = decode(payload);
  return claims.exp > Date.now() / 1000 && claims.uid ? claims : undefined;
}

export default {
  async fetch(request, env) {
    const refresh = request.method === "POST";
    if (new URL(request.url).pathname !== (refresh ? REFRESH : ME)) return json(404, { code: "not_found" });
    const claims = await verify(request.headers.get("authorization") ?? "", env);
    if (!claims) return json(401, { code: "invalid_token" });
    const result = await env.USERS.getByName(claims.uid).me(claims, refresh);
    return json(result.status, result.body);
  },
};

export class UserObject extends DurableObject {
  // One request at a time: the next one waits for the one before.
  #last = Promise.resolve();

  me(claims, refresh) {
    const next = this.#last.then(() => this.#me(claims, refresh));
    this.#last = next.catch(() => {});
    return next.catch((error) => ({ status: 503, body: { code: "upstream_unavailable", detail: error.message } }));
  }

  async #me({ uid, username = "", email = "" }, refresh) {
    const now = new Date().toISOString();
    let row = await this.env.DB.prepare("SELECT * FROM users WHERE user_id = ?").bind(uid).first();
    let outcome = "kept";
    if (!row || row.remaining_limit <= RENEW_AT) {
      outcome = row ? "renewed" : "provisioned";
      const old = row?.hash;
      row = {
        user_id: uid, total_limit: TOTAL_LIMIT, remaining_limit: TOTAL_LIMIT, seq: row?.seq ?? 0, created_at: now,
        ...(await this.#create(uid)),
      };
      if (old) this.ctx.waitUntil(this.#call("DELETE", `/keys/${old}`));
    } else {
      const { status, body } = await this.#call("GET", `/keys/${row.hash}`);
      if (status === 404) {
        outcome = "rotated";
        Object.assign(row, await this.#create(uid));
      } else if (body.data.limit_remaining !== null) {
        const left = body.data.limit_remaining;
        row.remaining_limit -= Math.max(0, row.usage_limit - left);
        row.usage_limit = left;
        if (refresh || left <= ROTATE_BELOW) {
          outcome = "rotated";
          await this.#call("DELETE", `/keys/${row.hash}`);
          Object.assign(row, await this.#create(uid));
        }
      }
    }
    await this.env.DB.prepare(
      `INSERT INTO users (user_id, user_name, email, key, hash, total_limit, remaining_limit, usage_limit, seq, created_at, updated_at)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
       ON CONFLICT (user_id) DO UPDATE SET user_name = excluded.user_name, email = excluded.email, key = excluded.key, hash = excluded.hash,
         total_limit = excluded.total_limit, remaining_limit = excluded.remaining_limit, usage_limit = excluded.usage_limit,
         seq = excluded.seq, created_at = excluded.created_at, updated_at = excluded.updated_at`,
    ).bind(
      uid, username, email, row.key, row.hash, row.total_limit, row.remaining_limit, row.usage_limit, row.seq + 1, row.created_at, now,
    ).run();
    return {
      status: 200,
      body: {
        id: uid, user_name: username, email, openrouter_api_key: row.key, hash: row.hash,
        total_limit: row.total_limit, remaining_limit: row.remaining_limit, usage_limit: row.usage_limit, outcome,
      },
    };
  }

  async #create(uid) {
    const { body } = await this.#call("POST", "/keys", { name: `latchkey:${uid}:${crypto.randomUUID()}`, limit: KEY_LIMIT });
    return { key: body.key, hash: body.data.hash, usage_limit: KEY_LIMIT };
  }

  async #call(method, path, body) {
    const response = await fetch(this.env.OPENROUTER_BASE_URL + path, {
      method,
      headers: { authorization: `Bearer ${this.env.OPENROUTER_PROVISIONING_API_KEY}`, "content-type": "application/json" },
      body: body && JSON.stringify(body),
      signal: AbortSignal.timeout(10_000),
    });
    if (!response.ok && response.status !== 404) throw new Error(`OpenRouter answered ${response.status}`);
    return { status: response.status, body: await response.json() };
  }
}
