import { MAX_ANSWER, parse, READ_TIMEOUT } from "./read.js";
import type { Tokens } from "./token.js";

/** What is used of the standard WebSocket; that of the package `ws` fits too. */
export type WebSocketClass = new (url: string, protocols: string[]) => {
  onmessage: ((event: any) => void) | null;
  onclose: ((event: any) => void) | null;
  onerror: ((event: any) => void) | null;
  readonly readyState: number;
  send(text: string): void;
  close(): void;
};

/** In milliseconds. A socket from which nothing came for as long is dead, whatever it says. */
const PING_INTERVAL = 30_000;

/** In milliseconds: the first wait before connecting again is at most MIN_WAIT, later ones at most MAX_WAIT. */
const MIN_WAIT = 2_000;
const MAX_WAIT = 60_000;

/**
 * Of these codes nothing mends in seconds: the quota is spent, an operator said no, there are too many requests.
 * The account page's list (worker/page/page.js) has 4401 too: it cannot get another token, as this client can.
 */
const LASTING = [4402, 4403, 4429];

const OPEN = 1;

/** What the socket tells its owner, and asks. */
interface Owner {
  /** A message came: a JSON value that has yet to be checked. */
  message(body: unknown): void;
  /** latchkey closed with 4403: there is no key, and this code says why. */
  refused(code: string): void;
  /** latchkey closed with 4404 `erased`. */
  erased(): void;
  /** There has been no socket for a while. */
  withoutSocket(): void;
  /** Whether anybody uses the client still. */
  inUse(): boolean;
}

/**
 * Keeps one socket to `/api/users/me/events` open while somebody uses the client.
 *
 * However a socket ends (a deployment, 1012; a lost connection, 1006; a refused
 * upgrade, which a browser shows as 1006 too; a token that expired, 4401), it is opened
 * again after a random wait that doubles, and that is no shorter than a minute after the
 * codes of LASTING. After 4401 that is with a new token. Two ends are for good: 4429
 * `too_many_sockets`, since this one would push out another of more than 50; and 4404
 * `erased`, since to connect would begin a new quota. Where there is no socket the owner
 * reads.
 */
export class Socket {
  readonly #url: string;
  readonly #tokens: Tokens;
  readonly #owner: Owner;
  #WebSocket: WebSocketClass | undefined;

  #socket: InstanceType<WebSocketClass> | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #running: object | undefined; // another object each time it is started, and where a token did not come
  #heard = false; // something came since the last ping
  #failures = 0; // sockets in a row that did not last until their first ping
  #refused: string | undefined; // the token that latchkey did not take
  #live = false;

  constructor(url: string, tokens: Tokens, WebSocket: WebSocketClass | undefined, owner: Owner) {
    this.#url = url;
    this.#tokens = tokens;
    this.#WebSocket = WebSocket;
    this.#owner = owner;
  }

  /** Whether a socket is open and has told the present state. */
  get live(): boolean {
    return this.#live;
  }

  /** Begins; does nothing where it has begun. */
  start(): void {
    if (!this.#running) this.#connect((this.#running = {}));
  }

  /** Ends, until it is started again. */
  stop(): void {
    this.#running = undefined;
    clearTimeout(this.#timer);
    this.#drop();
  }

  async #connect(run: object): Promise<void> {
    if (!this.#WebSocket) return this.#retry();
    this.#wait(READ_TIMEOUT, () => {
      this.#running = {}; // a token that comes later opens nothing
      this.#retry();
    });
    try {
      const token = await this.#tokens(this.#refused);
      if (run !== this.#running) return;
      const socket = new this.#WebSocket(`${this.#url.replace(/^http/, "ws")}/api/users/me/events`, ["bearer", token]);
      this.#socket = socket;
      socket.onmessage = (event) => socket === this.#socket && this.#message(event.data);
      socket.onclose = (event) => socket === this.#socket && this.#closed(event.code, event.reason, token);
      socket.onerror = () => {}; // a close follows
      this.#heard = false;
      this.#wait(PING_INTERVAL, () => this.#ping());
    } catch {
      // No token, or no WebSocket with this address: a reading will say what is wrong.
      if (run === this.#running) this.#retry();
    }
  }

  #message(data: unknown): void {
    this.#heard = true;
    if (typeof data !== "string" || data.length > MAX_ANSWER || data === "pong") return;
    const body = parse(data);
    if (body === undefined) return;
    this.#live = true;
    this.#refused = undefined;
    this.#owner.message(body);
  }

  #closed(code: number, reason: string, token: string): void {
    this.#drop();
    if (code === 4404 && reason === "erased") return this.#owner.erased();
    if (code === 4401) this.#refused = token;
    if (code === 4429 && reason === "too_many_sockets") this.#WebSocket = undefined;
    this.#retry(LASTING.includes(code) ? MAX_WAIT : 0);
    if (code === 4403) this.#owner.refused(reason);
  }

  #ping(): void {
    if (!this.#owner.inUse()) return this.stop();
    if (!this.#heard || this.#socket?.readyState !== OPEN) {
      this.#drop();
      return this.#retry();
    }
    this.#failures = 0;
    this.#heard = false;
    this.#socket.send("ping");
    this.#wait(PING_INTERVAL, () => this.#ping());
  }

  /** Connects again after a while. A deployment closes all sockets at once: chance spreads them. */
  #retry(least = 0): void {
    const longest = Math.min(MAX_WAIT, MIN_WAIT * 2 ** this.#failures++);
    this.#wait(least + Math.random() * longest, () => {
      if (!this.#owner.inUse()) return this.stop();
      this.#owner.withoutSocket();
      if (this.#running) this.#connect(this.#running);
    });
  }

  #drop(): void {
    const socket = this.#socket;
    this.#socket = undefined;
    this.#live = false;
    socket?.close();
  }

  #wait(ms: number, then: () => void): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(then, ms);
    (this.#timer as { unref?(): void }).unref?.(); // Node does not stay up for it
  }
}
