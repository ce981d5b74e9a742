// The lines of the log that JavaScript writes, as internal/oplog/events.go names
// them: what Go cannot say of itself. Every other line is Go's.

// asLine returns a value as JSON that is safe to print: what others wrote may be
// in it, and a terminal obeys some characters and turns the text around at
// others. JSON.stringify escapes those below U+0020 alone; these are the other
// control characters, the invisible ones, and the separators of lines.
// internal/oplog does the same in Go.
export const asLine = (value) => JSON.stringify(value).replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, escaped);

// escaped writes each unit of a character, of which one beyond U+FFFF has two.
const escaped = (character) => character.replace(/./gs, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`);

// messageOf returns what an error says.
export const messageOf = (error) => String(error?.message ?? error);

// memoryLine tells how much memory there is, and what is kept in it.
export const memoryLine = (counts) => asLine({ evt: "memory", ms: 0, ...counts });

// endedLine tells that the program ended.
export const endedLine = (cause) => asLine({ evt: "panic", ms: 0, err: `the program ended: ${cause ?? "exit"}` });

// alarmLine tells that a user's alarm failed, and rings again.
export const alarmLine = (user, error) => asLine({ evt: "background", user, op: "alarm", outcome: "again", ms: 0, err: messageOf(error) });

// exceptionLine is what `make tail` prints of a failure that the runtime tells of.
export const exceptionLine = (error) => asLine({ evt: "exception", err: messageOf(error) });
