// A headless Chromium, out of a package: nothing is downloaded.
import chromium, { inflate } from "@sparticuz/chromium";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import puppeteer from "puppeteer-core";

// launch unpacks it, with the libraries that it wants, into TMPDIR, and starts it.
// The package's own flags would switch off what a browser protects: its sandbox
// needs to go where the tests are root's, the rest is as with anybody.
export async function launch() {
  const packed = join(dirname(createRequire(import.meta.url).resolve("@sparticuz/chromium")), "..", "bin", "al2023.tar.br");
  const [executablePath] = await Promise.all([chromium.executablePath(), inflate(packed)]);
  return puppeteer.launch({
    executablePath,
    headless: "shell",
    // The last: else no page of an origin that a test made up may frame one of 127.0.0.1.
    args: ["--no-sandbox", "--disable-gpu", "--lang=en-US", "--font-render-hinting=none", "--disable-features=LocalNetworkAccessChecks"],
    env: { ...process.env, LD_LIBRARY_PATH: join(tmpdir(), "al2023", "lib") },
  });
}
