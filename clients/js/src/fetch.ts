import { text, unlessAborted } from "./read.js";

type Fetch = typeof globalThis.fetch;

/** The most of a 403 that is read to see what it is about, in bytes. */
const MAX_REFUSAL = 64 * 1024;

/** In milliseconds: what has come of a 403 by then says what it is about. */
const REFUSAL_TIMEOUT = 3_000;

/**
 * A fetch that adds the user's key to requests for `origin`, and passes all others
 * on as they are. Where the key is refused, `renew` is asked for the present one,
 * and the request goes out once more if that is another.
 */
export function keyedFetch(origin: string, fetch: Fetch, key: () => Promise<string>, renew: (refused: string) => Promise<string>): Fetch {
  return async (input, init) => {
    const request = typeof input === "object" && "url" in input ? input : undefined;
    const url = new URL(request?.url ?? String(input), globalThis.location?.href);
    if (url.origin !== origin) return fetch(input, init);

    const signal = init?.signal ?? request?.signal;
    const send = (key: string) => {
      const headers = new Headers(init?.headers ?? request?.headers);
      headers.set("Authorization", `Bearer ${key}`);
      // A redirect is not followed: not every runtime would leave the key behind.
      return fetch(request?.clone() ?? input, { ...init, headers, redirect: "manual" });
    };

    const first = await unlessAborted(key(), signal);
    const response = await send(first);
    if (!(await refusesKey(response))) return response;

    const second = await unlessAborted(renew(first), signal).catch((error) => {
      response.body?.cancel().catch(() => {}); // nobody else gets it, and it would keep its connection
      throw error;
    });
    // A stream is spent: the caller sees the refusal, and sends another with the new key.
    if (second === first || isStream(init?.body)) return response;
    response.body?.cancel().catch(() => {});
    return send(second);
  };
}

/** Whether this is OpenRouter's answer to a key that is gone or spent. It has not begun to stream then. */
async function refusesKey(response: Response): Promise<boolean> {
  if (response.status !== 403) return response.status === 401 || response.status === 402;
  const limit = new AbortController();
  const timer = setTimeout(() => limit.abort(), REFUSAL_TIMEOUT);
  const start = await text(response.clone(), MAX_REFUSAL, limit.signal).catch(() => "");
  clearTimeout(timer);
  return start.includes("Key limit exceeded");
}

/** Whether a body can be sent only once. */
function isStream(body: unknown): boolean {
  return body instanceof ReadableStream || (typeof body === "object" && body !== null && Symbol.asyncIterator in body);
}
