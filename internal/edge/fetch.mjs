// Waiting for what is outside of the isolate, within limits: nothing takes longer
// than its deadline, and nothing is read beyond what it may have.

// How many characters count of a header: a date has 29.
const MAX_HEADER = 100;

// fetched resolves to what read makes of an answer. The deadline covers the body too.
// A redirect is an answer like any other: to follow it would carry the provisioning
// key along.
export function fetched(milliseconds, url, request, read) {
  const controller = new AbortController();
  const answered = fetch(url, { ...request, redirect: "manual", signal: controller.signal }).then(read);
  return within(milliseconds, answered, () => controller.abort());
}

export const header = ({ headers }, name) => (headers.get(name) ?? "").slice(0, MAX_HEADER);

// readText returns the text of an answer, and rejects where it has more than so many
// bytes, of which no more is read than shows it.
export async function readText(response, most) {
  if (!response.body || isSmall(response.headers, most)) return response.text();
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let text = "";
  let length = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return text + decoder.decode();
    length += value.byteLength;
    if (length > most) {
      await reader.cancel();
      throw new Error(`the answer is larger than ${most} bytes`);
    }
    text += decoder.decode(value, { stream: true });
  }
}

// isSmall tells whether an answer is sure to be small: then the runtime reads it in
// fewer steps. A length counts for nothing where the body is coded or chunked.
const isSmall = (headers, most) =>
  Number(headers.get("content-length") ?? NaN) <= most && !headers.has("content-encoding") && !headers.has("transfer-encoding");

// within rejects where a promise takes longer than so many milliseconds. abort
// is then called to end what it stands for.
export function within(milliseconds, promise, abort = () => {}) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      reject(new Error(`no answer within ${milliseconds} ms`));
      abort();
    }, milliseconds);
    promise.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}
