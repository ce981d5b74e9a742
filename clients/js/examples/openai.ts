// The package `openai`, with the user's own key: two questions, the second streamed.
//
//   LATCHKEY_URL=https://latchkey.example.org LATCHKEY_TOKEN=... node build/examples/openai.js

import OpenAI from "openai";
import { latchkey } from "latchkey";

const { LATCHKEY_URL = "", LATCHKEY_TOKEN = "", OPENROUTER_URL = "https://openrouter.ai" } = process.env;

const lk = latchkey({ url: LATCHKEY_URL, token: () => LATCHKEY_TOKEN, openRouterUrl: OPENROUTER_URL });

// apiKey is called before each request; fetch repeats one whose key was replaced under it.
// In a browser add dangerouslyAllowBrowser: true. It is the user's own key, with a small limit.
const openai = new OpenAI({ baseURL: `${OPENROUTER_URL}/api/v1`, apiKey: lk.key, fetch: lk.fetch });

const question = { model: "openai/gpt-4o-mini", messages: [{ role: "user" as const, content: "Hello?" }] };

const completion = await openai.chat.completions.create(question);
console.log(completion.choices[0]?.message.content);

const stream = await openai.chat.completions.create({ ...question, stream: true });
for await (const chunk of stream) process.stdout.write(chunk.choices[0]?.delta.content ?? "");
process.stdout.write("\n");

lk.close();
