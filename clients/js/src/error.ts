/**
 * Why there is no key. No token and no key is ever part of one.
 *
 * `code` is what to go by: latchkey's own (`quota_exhausted`, `suspended`,
 * `expired_token`, ...), or one of the client's:
 * - `unreachable`: latchkey could not be asked, or did not answer in time;
 * - `bad_answer`: what came was not latchkey's;
 * - `another_user`: the token is now another user's (close, and make a new client);
 * - `erased`: an operator erased the user; this client asks for nothing any more;
 * - `closed`: `close()` was called.
 */
export class LatchkeyError extends Error {
  override readonly name = "LatchkeyError";

  constructor(
    readonly code: string,
    message: string,
    /** HTTP status of latchkey's answer; 0 where there was none. */
    readonly status = 0,
    /** Seconds until asking again makes sense, where latchkey said so. */
    readonly retryAfter?: number,
    options?: { cause?: unknown },
  ) {
    super(message, options);
  }
}
