// One prompt, streamed: yields what the model writes, and at the end what it cost.

import { headers, refusal } from "./api.js";

/** Yields `{ id }`, `{ text }`, `{ thought }` and `{ energy }`. Throws `Refused`, or what fetch throws. */
export async function* ask(body, signal) {
  const answer = await fetch("v1/chat/completions", {
    method: "POST",
    headers: headers({ "Content-Type": "application/json" }),
    body: JSON.stringify({ ...body, stream: true }),
    signal,
  });
  if (!answer.ok) throw await refusal(answer);
  yield { id: answer.headers.get("x-request-id") };
  for await (const line of lines(answer.body)) {
    if (line.startsWith(": energy ")) yield { energy: JSON.parse(line.slice(9)) };
    else if (line.startsWith("data: ") && line !== "data: [DONE]") yield* told(JSON.parse(line.slice(6)));
  }
}

function* told(event) {
  if (event.error) throw new Error(String(event.error.message));
  const delta = event.choices?.[0]?.delta;
  const thought = delta?.reasoning ?? delta?.reasoning_content;
  if (thought) yield { thought };
  if (delta?.content) yield { text: delta.content };
}

async function* lines(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    const parts = (rest + value).split("\n");
    rest = parts.pop();
    for (const part of parts) yield part.endsWith("\r") ? part.slice(0, -1) : part;
  }
  if (rest) yield rest;
}
