// The packages `ai` and `@openrouter/ai-sdk-provider`, with the user's own key: two
// questions, the second streamed.
//
//   LATCHKEY_URL=https://latchkey.example.org LATCHKEY_TOKEN=... node build/examples/ai-sdk.js

import { createOpenRouter } from "@openrouter/ai-sdk-provider";
import { generateText, streamText } from "ai";
import { latchkey } from "latchkey";

const { LATCHKEY_URL = "", LATCHKEY_TOKEN = "", OPENROUTER_URL = "https://openrouter.ai" } = process.env;

const lk = latchkey({ url: LATCHKEY_URL, token: () => LATCHKEY_TOKEN, openRouterUrl: OPENROUTER_URL });

// The provider takes its key as text alone, and wants one: fetch puts the user's in its place.
const openrouter = createOpenRouter({ baseURL: `${OPENROUTER_URL}/api/v1`, apiKey: "unused", fetch: lk.fetch });

const question = { model: openrouter.chat("openai/gpt-4o-mini"), prompt: "Hello?" };

const { text } = await generateText(question);
console.log(text);

for await (const part of streamText(question).textStream) process.stdout.write(part);
process.stdout.write("\n");

lk.close();
