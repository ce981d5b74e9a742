import { LatchkeyError } from "./error.js";
import { keyedFetch } from "./fetch.js";
import { read, toAnswer, type Account, type Answer } from "./read.js";
import { Socket, type WebSocketClass } from "./socket.js";
import { tokens, type Tokens } from "./token.js";

export { LatchkeyError };
export type { Account, WebSocketClass };

/** In milliseconds: after this a key in use is read anew, so that latchkey can replace it before it is spent. */
const FRESH = 60_000;

/** In milliseconds: no Retry-After keeps a key in use from being read anew for longer. */
const LONGEST_PAUSE = 3_600_000;

/** These, with a Retry-After, are the answer until then where there is no key; for FRESH at most, since more may be granted before. */
const RETRIED = [402, 429, 503];

/** In milliseconds: after this without a `key()`, and without listeners, the socket is closed. */
const IDLE = 300_000;

export interface Options {
  /** Where latchkey is, such as `https://latchkey.example.org`. */
  url: string;
  /** Gives the signed-in user's token. A token is kept until 30 s before its end. */
  token: () => string | Promise<string>;
  /** The origin that gets the key; `https://openrouter.ai` by default. With `make run`: `http://127.0.0.1:8788`. */
  openRouterUrl?: string;
  /** The fetch to use instead of the global one. */
  fetch?: typeof globalThis.fetch;
  /** The WebSocket to use instead of the global one. `null`: none, the key is read when it is needed. */
  WebSocket?: WebSocketClass | null;
}

/**
 * What happened: another key, or other numbers. Any other is the code that says why
 * there is no key any more. `erased` is the last event.
 */
export type ChangeEvent = "key" | "quota" | "suspended" | "key_disabled" | "erased" | (string & {});

/** Gets the account without its key, and what happened to it. */
export type Listener = (account: Account, event: ChangeEvent) => void;

/** One user's key. All functions may be passed on alone. */
export interface Latchkey {
  /** The present key. */
  key(): Promise<string>;
  /** What latchkey last said of the user. */
  account(): Promise<Account>;
  /** fetch, with the key on requests for OpenRouter. */
  fetch: typeof globalThis.fetch;
  /** Calls the listener on every change from now on. Returns what ends that. */
  onChange(listener: Listener): () => void;
  /** Forgets the key and ends everything. For another user make another client. */
  close(): void;
}

/** A client for one signed-in user. It asks for nothing before it is used. */
export function latchkey(options: Options): Latchkey {
  return new Client(options);
}

/** An option as a URL. A host alone is none. */
function toUrl(option: string, text: string): URL {
  try {
    const url = new URL(text);
    if (/^https?:$/.test(url.protocol)) return url;
  } catch {}
  throw new TypeError(`${option} has to begin with https:// or http://, such as https://latchkey.example.org`);
}

/**
 * Whether less than `ms` have passed since. By the clock on the wall, since the other
 * one stands still while the machine sleeps. It may be set back: then nobody knows how
 * much has passed, and it is over.
 */
function within(since: number, ms: number): boolean {
  const passed = Date.now() - since;
  return passed >= 0 && passed < ms;
}

class Client implements Latchkey {
  readonly fetch: typeof globalThis.fetch;

  readonly #url: string;
  readonly #fetch: typeof globalThis.fetch;
  readonly #tokens: Tokens;
  readonly #socket: Socket;
  readonly #closed = new AbortController();
  readonly #listeners = new Set<Listener>();

  #account: Account | undefined;
  #key = ""; // "": none that is known to work
  #reason = ""; // why there is none, as it was last announced; "": that was not
  #reading: { key: Promise<string>; refused: string | undefined } | undefined; // the latest that is on its way
  #readAt = 0;
  #freshFor = 0; // in milliseconds, from then on
  #usedAt = 0;
  #failure: { error: LatchkeyError; at: number; lasts: number } | undefined; // where latchkey said when to ask again

  constructor({ url, token, openRouterUrl = "https://openrouter.ai", fetch, WebSocket = globalThis.WebSocket }: Options) {
    this.#url = toUrl("url", url).href.replace(/\/+$/, "");
    this.#tokens = tokens(token);
    this.#fetch = fetch ?? ((...request) => globalThis.fetch(...request));
    this.#socket = new Socket(this.#url, this.#tokens, WebSocket ?? undefined, {
      message: (body) => this.#told(body),
      refused: (code) => this.#refuse(code),
      erased: () => this.#erased(),
      withoutSocket: () => this.#poll(),
      inUse: () => this.#listeners.size > 0 || within(this.#usedAt, IDLE),
    });
    this.fetch = keyedFetch(toUrl("openRouterUrl", openRouterUrl).origin, this.#fetch, this.key, (refused) => this.#renew(refused));
  }

  // An arrow function, as the three after it, so that it can be passed on alone.
  key = async (): Promise<string> => {
    this.#usedAt = Date.now();
    if (this.#key && within(this.#readAt, this.#freshFor)) return this.#key;
    const reading = this.#read();
    if (!this.#key || !this.#socket.live) return reading;
    reading.catch(() => {}); // the socket vouches for the key meanwhile
    return this.#key;
  };

  account = async (): Promise<Account> => {
    await this.key();
    return this.#account!;
  };

  onChange = (listener: Listener): (() => void) => {
    const entry: Listener = (account, event) => listener(account, event); // the same one may be there twice
    this.#closed.signal.throwIfAborted();
    this.#listeners.add(entry);
    this.#poll();
    return () => void this.#listeners.delete(entry);
  };

  close = (): void => this.#end(new LatchkeyError("closed", "The client is closed"));

  /** Ends everything. From now on each call fails with this error. */
  #end(why: LatchkeyError): void {
    this.#closed.abort(why);
    this.#socket.stop();
    this.#listeners.clear();
    this.#account = undefined;
    this.#key = "";
    this.#failure = undefined;
  }

  /** Where somebody listens and nothing fresh is known: reads. */
  #poll(): void {
    if (this.#listeners.size === 0 || within(this.#readAt, this.#freshFor)) return;
    this.#read().catch(() => {
      if (!this.#closed.signal.aborted) this.#socket.start(); // which polls again
    });
  }

  /** The present key after OpenRouter refused this one: the one that is held if it is another already. */
  async #renew(refused: string): Promise<string> {
    return this.#key && this.#key !== refused ? this.#key : this.#read(refused);
  }

  /** Reads once for all who want that now. A reading that began before the refusal may know the refused key alone. */
  #read(refused?: string): Promise<string> {
    if (this.#reading && (refused === undefined || this.#reading.refused === refused)) return this.#reading.key;
    const failure = this.#failure;
    if (failure && refused === undefined && !this.#key && within(failure.at, failure.lasts)) return Promise.reject(failure.error);
    const reading = { key: this.#readAlone(refused), refused };
    this.#reading = reading;
    const done = () => {
      if (this.#reading === reading) this.#reading = undefined;
    };
    reading.key.then(done, done);
    return reading.key;
  }

  async #readAlone(refused: string | undefined): Promise<string> {
    this.#closed.signal.throwIfAborted();
    const since = this.#account?.version ?? 0;
    try {
      const answer = await read(this.#url, this.#tokens, this.#fetch, this.#closed.signal);
      this.#closed.signal.throwIfAborted();
      this.#take(answer, undefined, since, refused);
      this.#keep(FRESH);
    } catch (error) {
      if (!(error instanceof LatchkeyError) || this.#closed.signal.aborted) throw error;
      if (error.status === 403) this.#refuse(error.code);
      if (error.status === 402) this.#key = "";
      const passing = error.code === "unreachable" || error.status === 429 || error.status >= 500;
      if (RETRIED.includes(error.status)) {
        this.#failure = { error, at: Date.now(), lasts: Math.min((error.retryAfter ?? 0) * 1000, FRESH) };
      }
      if (!passing || !this.#key || this.#key === refused) throw error;
      const pause = Math.max(FRESH, (error.retryAfter ?? 0) * 1000);
      this.#keep(Math.min(pause, LONGEST_PAUSE)); // what is held will do for now
    }
    this.#socket.start();
    return this.#key || this.#readAlone(refused); // none: a message that overtook the answer ended the key
  }

  /** From now on nothing is read for so long, unless there is a reason. */
  #keep(ms: number): void {
    this.#readAt = Date.now();
    this.#freshFor = ms;
  }

  /** A message of the socket's. One that makes no sense is passed over. */
  #told(body: any): void {
    const answer = toAnswer(body);
    if (!answer || answer.account.id !== (this.#account?.id ?? answer.account.id)) return;
    if (body.event === "suspended") answer.key = "";
    const had = this.#key;
    this.#take(answer, body.event, 0, undefined);
    if (had && !this.#key && body.event !== "suspended" && this.#listeners.size > 0) this.#read().catch(() => {}); // it says why
  }

  /**
   * Takes over what latchkey said, unless it is old news: the higher version wins.
   * `since` is the version that was known when it was asked. One below that is no
   * old news where there is no key that works: the user was erased and began anew.
   */
  #take({ account, key }: Answer, event: ChangeEvent | undefined, since: number, refused: string | undefined): void {
    const held = this.#account;
    if (held && held.id !== account.id) {
      this.#key = "";
      throw new LatchkeyError("another_user", "The token is another user's");
    }
    const hasKey = this.#key !== "" && this.#key !== refused;
    if (held && account.version < held.version && (hasKey || account.version >= since)) return;

    event ??= key === this.#key ? "quota" : "key";
    this.#account = Object.freeze(account);
    this.#key = key;
    this.#failure = undefined;
    if (key) this.#reason = "";
    if (account.version === held?.version) return;
    if (event === "suspended") this.#reason = event;
    this.#announce(event);
  }

  #refuse(code: string): void {
    this.#key = "";
    this.#failure = undefined;
    if (!this.#account || code === this.#reason) return;
    this.#reason = code;
    this.#announce(code);
  }

  /** The next request would begin a new quota: that is for the app to decide, with a new client. */
  #erased(): void {
    if (this.#account) this.#announce("erased");
    this.#end(new LatchkeyError("erased", "An operator erased the user", 404));
  }

  #announce(event: ChangeEvent): void {
    for (const listener of [...this.#listeners]) {
      try {
        listener(this.#account!, event);
      } catch (error) {
        queueMicrotask(() => { throw error; }); // the listener's own fault: it shows, and harms no other
      }
    }
  }
}
