// asLine returns a value as JSON that is safe to print: what others wrote may be
// in it, and a terminal obeys some characters and turns the text around at
// others. JSON.stringify escapes those below U+0020 alone; these are the other
// control characters, the invisible ones, and the separators of lines.
// internal/oplog does the same in Go.
export const asLine = (value) => JSON.stringify(value).replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, escape);

// escape writes each unit of a character, of which one beyond U+FFFF has two.
const escape = (character) => character.replace(/[^]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`);
