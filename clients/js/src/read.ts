import { LatchkeyError } from "./error.js";
import type { Tokens } from "./token.js";

/** What latchkey says of the user: the body of `GET /api/users/me` without the key. */
export interface Account {
  id: string;
  user_name: string;
  email: string;
  /** Of the key, lower-case hex SHA-256. */
  hash: string;
  /** Credits (US dollars) of the whole quota, as are the next two. */
  total_limit: number;
  remaining_limit: number;
  /** What was left on the key when latchkey last read it. */
  usage_limit: number;
  /** Grows with every change. */
  version: number;
  outcome?: string;
  /** RFC 3339, UTC. */
  key_expires_at?: string;
  /** RFC 3339, UTC. */
  renews_at?: string;
}

/** An account with its key; `key` is "" where the user has none just now. */
export interface Answer {
  account: Account;
  key: string;
}

/** No answer or message of latchkey's is longer, in bytes (or characters): what is, is not read. */
export const MAX_ANSWER = 64 * 1024;

/** In milliseconds. latchkey may make three calls to OpenRouter, of 10 s each, before it answers. */
export const READ_TIMEOUT = 45_000;

/** `GET /api/users/me`. A token that latchkey refuses is fetched anew, once. An error of `token()` is thrown as it is. */
export async function read(url: string, tokens: Tokens, fetch: typeof globalThis.fetch, closed: AbortSignal): Promise<Answer> {
  const limit = new AbortController();
  const timer = setTimeout(() => limit.abort(new LatchkeyError("unreachable", "latchkey did not answer in time")), READ_TIMEOUT);
  const close = () => limit.abort(closed.reason);
  closed.addEventListener("abort", close);

  const ask = async (token: string) => {
    try {
      const response = await fetch(`${url}/api/users/me`, {
        headers: { Authorization: `Bearer ${token}` },
        redirect: "manual", // the token is for latchkey alone
        signal: limit.signal,
      });
      return { response, text: await text(response, MAX_ANSWER) };
    } catch (error) {
      if (error instanceof LatchkeyError) throw error;
      throw new LatchkeyError("unreachable", "latchkey cannot be reached", 0, undefined, { cause: error });
    }
  };
  const askTwice = async () => {
    const token = await tokens();
    const first = await ask(token);
    if (first.response.status !== 401) return first;
    const another = await tokens(token);
    return another === token ? first : ask(another);
  };

  try {
    const { response, text } = await unlessAborted(askTwice(), limit.signal);
    const body = parse(text);
    if (!response.ok) throw problem(response, body);
    const answer = toAnswer(body);
    if (!answer?.key) throw new LatchkeyError("bad_answer", "The answer is not latchkey's", response.status);
    return answer;
  } finally {
    clearTimeout(timer);
    closed.removeEventListener("abort", close);
  }
}

/** The body as text, or what came of it until `enough`. Throws, and reads no further, where it is longer than `max` bytes. */
export async function text(response: Response, max: number, enough?: AbortSignal): Promise<string> {
  const reader = response.body?.getReader();
  if (!reader) return "";
  enough?.addEventListener("abort", () => void reader.cancel().catch(() => {})); // which ends the reading
  const decoder = new TextDecoder();
  let text = "";
  for (let size = 0; ; ) {
    const { done, value } = await reader.read();
    if (done) return text + decoder.decode();
    size += value.byteLength;
    if (size > max) {
      reader.cancel().catch(() => {});
      throw new LatchkeyError("bad_answer", "The answer is too long", response.status);
    }
    text += decoder.decode(value, { stream: true });
  }
}

/** JSON, or undefined. */
export function parse(text: string): any {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** The error of a problem document (RFC 9457), or of what came in its stead. */
function problem(response: Response, body: any): LatchkeyError {
  if (typeof body?.code !== "string") {
    return new LatchkeyError("bad_answer", `latchkey answered ${response.status} without a problem document`, response.status);
  }
  const seconds = Number(response.headers.get("Retry-After") || NaN);
  return new LatchkeyError(body.code, String(body.detail ?? body.title ?? body.code), response.status, seconds >= 0 ? seconds : undefined);
}

/** A body of latchkey's, checked; undefined where it is none. */
export function toAnswer(body: any): Answer | undefined {
  if (typeof body !== "object" || body === null) return undefined;
  const { openrouter_api_key: key = "", event: _, ...account } = body;
  const numbers = [account.total_limit, account.remaining_limit, account.usage_limit];
  const good =
    typeof key === "string" &&
    /^[!-~]*$/.test(key) && // it goes into a header
    typeof account.id === "string" &&
    Number.isSafeInteger(account.version) &&
    numbers.every(Number.isFinite);
  return good ? { key, account } : undefined;
}

/** The promise, or the signal's reason as soon as it is aborted. */
export function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal | null | undefined): Promise<T> {
  if (!signal) return promise;
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason);
    if (signal.aborted) abort();
    signal.addEventListener("abort", abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}
