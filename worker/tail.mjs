// Reads what `wrangler tail --format json` prints and prints latchkey's own log
// lines, one JSON object a line. USER and ERRORS in the environment choose:
// lines of one user, lines that tell of an error.
import { createInterface } from "node:readline";
import { asLine, exceptionLine } from "../internal/edge/log.mjs";

const { USER_ID: user, ERRORS: errors } = process.env;

function wanted(line) {
  if (user && line.user !== user) return false;
  return !errors || line.err !== undefined || line.status >= 400 || line.evt === "panic";
}

function show(event) {
  for (const { message } of event.logs ?? []) {
    for (const text of [message].flat()) {
      let line;
      try {
        line = JSON.parse(text);
      } catch {
        continue; // something else's
      }
      if (line?.evt && wanted(line)) console.log(asLine({ at: new Date(event.eventTimestamp).toISOString(), ...line }));
    }
  }
  for (const exception of event.exceptions ?? []) console.log(exceptionLine(exception));
}

// wrangler prints an event over several lines, or over one.
let pending = "";
for await (const text of createInterface({ input: process.stdin })) {
  pending = text === "{" ? text : pending + text;
  if (!text.endsWith("}")) continue;
  let event;
  try {
    event = JSON.parse(pending);
  } catch {
    continue; // not its end yet
  }
  pending = "";
  show(event);
}
