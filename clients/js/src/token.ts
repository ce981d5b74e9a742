import { LatchkeyError } from "./error.js";

/** A token with less than this left, in seconds, is not used again: it could expire on its way. */
const MIN_TOKEN_LIFE = 30;

/**
 * Gives the user's token, the one at hand for as long as it lasts. `refused` is
 * one that the server did not take: then a new one is fetched, whatever this
 * machine's clock says.
 */
export type Tokens = (refused?: string) => Promise<string>;

export function tokens(fetchToken: () => string | Promise<string>): Tokens {
  let held = "";
  return async (refused) => {
    if (held === "" || held === refused || expiry(held) - Date.now() / 1000 <= MIN_TOKEN_LIFE) {
      held = await fetchToken();
      if (typeof held !== "string" || held === "") {
        held = "";
        throw new LatchkeyError("missing_token", "token() gave no token");
      }
    }
    return held;
  };
}

/** `exp` of a JSON Web Token, in seconds since 1970; 0 where there is none to be read. */
function expiry(token: string): number {
  try {
    const payload = token.split(".")[1] ?? "";
    const exp: unknown = JSON.parse(atob(payload.replaceAll("-", "+").replaceAll("_", "/"))).exp;
    return typeof exp === "number" ? exp : 0;
  } catch {
    return 0;
  }
}
