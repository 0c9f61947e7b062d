// The official A2A client for Node against an agent at two servers, with a binding for each: prints what it saw as one line of JSON.
import { Role, SendMessageRequest, TaskState } from "@a2a-js/sdk";
import { ClientFactory, DefaultAgentCardResolver, JsonRpcTransportFactory, RestTransportFactory } from "@a2a-js/sdk/client";

const { A2A_AGENTS: agents, A2A_KEY: key } = process.env;
const fetchImpl = (url, init = {}) =>
  fetch(url, { ...init, headers: { ...Object.fromEntries(new Headers(init.headers)), authorization: `Bearer ${key}` } });
const transports = { JSONRPC: JsonRpcTransportFactory, "HTTP+JSON": RestTransportFactory };
const seen = {};
const said = (text, more = {}) =>
  SendMessageRequest.fromJSON({
    message: { messageId: `node-${Math.random()}`, role: "ROLE_USER", parts: [{ text }], ...more },
    configuration: { returnImmediately: true },
  });
const failure = async (work) => {
  try {
    await work();
    return null;
  } catch (error) {
    return error.constructor.name;
  }
};
const until = async (client, id, state) => {
  for (;;) {
    const task = await client.getTask({ tenant: "", id });
    if (task.status.state === state) return task;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
};

for (const [number, [binding, Factory]] of Object.entries(transports).entries()) {
  const factory = new ClientFactory({
    transports: [new Factory({ fetchImpl })],
    preferredTransports: [binding],
    cardResolver: new DefaultAgentCardResolver({ fetchImpl }),
  });
  const client = await factory.createFromUrl(agents.split(" ")[number]);
  const found = (seen[binding] = {});
  const begun = await client.sendMessage(said("hello"));
  const asked = await until(client, begun.id, TaskState.TASK_STATE_INPUT_REQUIRED);
  found.question = asked.status.message.parts[0].content.value;
  found.role = asked.status.message.role === Role.ROLE_AGENT;
  found.listed = (await client.listTasks({ tenant: "", contextId: "", status: 0, pageToken: "" })).tasks.some((one) => one.id === begun.id);
  await client.sendMessage(said("approve", { taskId: begun.id }));
  const done = await until(client, begun.id, TaskState.TASK_STATE_COMPLETED);
  found.done = done.id === begun.id;
  found.late = await failure(() => client.cancelTask({ tenant: "", id: begun.id }));
  found.unknown = await failure(() => client.getTask({ tenant: "", id: "run_00000000000000000000000000" }));
  const states = [];
  let running = null;
  for await (const event of client.sendMessageStream(said("stream"))) {
    const { $case, value } = event.payload;
    states.push($case);
    running = $case === "task" ? value.id : (value.taskId ?? running);
    if ((value.status?.state ?? 0) === TaskState.TASK_STATE_INPUT_REQUIRED) break;
  }
  found.stream = states[0];
  found.canceled = (await client.cancelTask({ tenant: "", id: running })).status.state === TaskState.TASK_STATE_CANCELED;
  found.extended = (await client.getAgentCard()).name;
}
console.log(JSON.stringify(seen));
