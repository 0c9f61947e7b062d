// OpenAI's own client for Node against an installation: prints what it saw as one line of JSON.
import OpenAI, { toFile } from "openai";

const client = new OpenAI({ maxRetries: 0 });
const seen = {};
const asked = (words, more = {}) => ({ model: "scripted", messages: [{ role: "user", content: words }], ...more });
const failure = async (work) => {
  try {
    await work();
    return null;
  } catch (error) {
    return { name: error.constructor.name, status: error.status ?? null, code: error.code ?? null, param: error.param ?? null };
  }
};

seen.models = [];
for await (const model of client.models.list()) seen.models.push(model.id);

const answer = await client.chat.completions.create(asked("say one two"));
seen.chat = [answer.choices[0].message.content, answer.usage.total_tokens, typeof answer.aitbc.price];

seen.stream = "";
const stream = await client.chat.completions.create(asked("say one two", { stream: true, stream_options: { include_usage: true } }));
for await (const chunk of stream) {
  seen.stream += chunk.choices[0]?.delta?.content ?? "";
  seen.usage = chunk.usage?.total_tokens ?? null;
}

const tool = { type: "function", function: { name: "weather", parameters: { type: "object", properties: {} } } };
const called = await client.chat.completions.stream(asked("call", { tools: [tool] })).finalChatCompletion();
seen.tool = called.choices[0].message.tool_calls.map((call) => [call.id, call.function.name, call.function.arguments]);

const response = await client.responses.stream({ model: "scripted", input: "say three" }).finalResponse();
seen.response = response.output_text;

const completion = await client.completions.create({ model: "scripted", prompt: "say four", max_tokens: 9 });
seen.completion = completion.choices[0].text;

const vectors = await client.embeddings.create({ model: "wordllama-256", input: ["a", "b"] });
seen.vectors = vectors.data.map((one) => one.embedding.length);

const body = { model: "scripted", messages: [{ role: "user", content: "say five" }], max_tokens: 9 };
const line = JSON.stringify({ custom_id: "a", method: "POST", url: "/v1/chat/completions", body });
const file = await client.files.create({ file: await toFile(Buffer.from(line), "in.jsonl"), purpose: "batch" });
let batch = await client.batches.create({ input_file_id: file.id, endpoint: "/v1/chat/completions", completion_window: "24h" });
while (!["completed", "failed", "expired", "cancelled"].includes(batch.status)) {
  await new Promise((resolve) => setTimeout(resolve, 200));
  batch = await client.batches.retrieve(batch.id);
}
const told = await (await client.files.content(batch.output_file_id)).text();
seen.batch = [batch.status, JSON.parse(told).response.body.choices[0].message.content];
seen.batches = 0;
for await (const _ of client.batches.list({ limit: 1 })) seen.batches += 1;

seen.unknown = await failure(() => client.chat.completions.create(asked("x", { model: "nope" })));
seen.refused = await failure(() => client.chat.completions.create(asked("x", { frobnicate: 1 })));
seen.stranger = await failure(() => new OpenAI({ apiKey: "aitbc_live_nobody", maxRetries: 0 }).models.list());
seen.broken = await failure(async () => {
  for await (const _ of await client.chat.completions.create(asked("crash 3 0.2", { stream: true })));
});
seen.absent = await failure(() => client.moderations.create({ input: "x" }));

console.log(JSON.stringify(seen));
