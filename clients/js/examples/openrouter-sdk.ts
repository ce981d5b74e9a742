// The package `@openrouter/sdk`, with the user's own key: two questions, the second streamed.
//
//   LATCHKEY_URL=https://latchkey.example.org LATCHKEY_TOKEN=... node build/examples/openrouter-sdk.js

import { OpenRouter } from "@openrouter/sdk";
import { HTTPClient } from "@openrouter/sdk/lib/http.js";
import { latchkey } from "latchkey";

const { LATCHKEY_URL = "", LATCHKEY_TOKEN = "", OPENROUTER_URL = "https://openrouter.ai" } = process.env;

const lk = latchkey({ url: LATCHKEY_URL, token: () => LATCHKEY_TOKEN, openRouterUrl: OPENROUTER_URL });

// apiKey is called before each request; fetch repeats one whose key was replaced under it.
const openrouter = new OpenRouter({
  serverURL: `${OPENROUTER_URL}/api/v1`,
  apiKey: lk.key,
  httpClient: new HTTPClient({ fetcher: lk.fetch }),
});

const question = { model: "openai/gpt-4o-mini", messages: [{ role: "user" as const, content: "Hello?" }] };

const completion = await openrouter.chat.send({ chatRequest: { ...question, stream: false } });
if ("choices" in completion) console.log(completion.choices[0]?.message.content);

const stream = await openrouter.chat.send({ chatRequest: { ...question, stream: true } });
if (!("choices" in stream)) for await (const chunk of stream) process.stdout.write(chunk.choices[0]?.delta.content ?? "");
process.stdout.write("\n");

lk.close();
