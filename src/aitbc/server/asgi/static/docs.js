"use strict";

// Shows openapi.json as a page: by section, with parameters, bodies, answers and a command line to try. Text is only ever
// set as text, never as markup.

const make = (name, attributes = {}, ...children) => {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
};

const schemaName = (schema) => {
  if (!schema) return "";
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.anyOf || schema.oneOf) return (schema.anyOf || schema.oneOf).map(schemaName).join(" or ");
  if (schema.type === "array") return `list of ${schemaName(schema.items) || "any"}`;
  if (schema.enum) return schema.enum.map((one) => JSON.stringify(one)).join(" | ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  return schema.format ? `${schema.type} (${schema.format})` : schema.type || "any";
};

const limits = (schema) => ["minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "pattern", "default"]
  .filter((key) => schema && schema[key] !== undefined)
  .map((key) => `${key} ${JSON.stringify(schema[key])}`).join(", ");

const table = (heads, rows) => make("table", {},
  make("thead", {}, make("tr", {}, ...heads.map((head) => make("th", { scope: "col" }, head)))),
  make("tbody", {}, ...rows.map((cells) => make("tr", {}, ...cells.map((cell) => make("td", {}, cell))))));

const fields = (schema, components) => {
  const told = schema && schema.$ref ? components[schemaName(schema)] : schema;
  if (!told || !told.properties) return null;
  const required = new Set(told.required || []);
  return table(["field", "type", "limits", "meaning"], Object.entries(told.properties).map(([name, field]) =>
    [required.has(name) ? `${name} (required)` : name, schemaName(field), limits(field), field.description || ""]));
};

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

const command = (path, method, operation, body) => {
  const needs = (name) => (operation.parameters || []).some((one) => one.name === name && one.required);
  const concrete = path.replace(/{([^}]+)}/g, (_, name) => name.toUpperCase());
  const lines = [`curl -s${method === "GET" ? "" : ` -X ${method}`} "$AITBC_URL${concrete}"`];
  if ((operation.security || []).length) lines.push(`-H "Authorization: Bearer $AITBC_API_KEY"`);
  if (needs("Idempotency-Key")) lines.push(`-H "Idempotency-Key: $(uuidgen)"`);
  if (body !== undefined) lines.push("-H 'Content-Type: application/json'", `-d ${quoted(JSON.stringify(body))}`);
  return lines.join(" \\\n  ");
};

const answer = ([status, response], components) => {
  const content = Object.entries(response.content || {})[0];
  const parts = [make("h3", {}, `${status}  ${response.description.split("\n").length > 1 ? "" : response.description}`)];
  if (response.description.includes("\n") || response.description.startsWith("- ")) {
    parts.push(make("pre", {}, response.description));
  }
  if (content && Number(status) < 400) {
    const schema = content[1].schema;
    parts.push(make("p", { class: "quiet" }, `${content[0]}: ${schemaName(schema)}`));
    const shown = fields(schema, components);
    if (shown) parts.push(shown);
    if (content[1].example !== undefined) parts.push(make("pre", {}, JSON.stringify(content[1].example, null, 2)));
  }
  return parts;
};

const operationView = (path, method, operation, components) => {
  const inside = make("div");
  for (const paragraph of (operation.description || "").split("\n\n")) inside.append(make("p", {}, paragraph));
  inside.append(make("p", { class: "facts" }, `permission: ${operation["x-permission"]}`));
  if (operation.parameters) {
    inside.append(make("h3", {}, "Parameters"), table(["name", "in", "type", "limits", "meaning"], operation.parameters.map((one) =>
      [one.required ? `${one.name} (required)` : one.name, one.in, schemaName(one.schema), limits(one.schema), one.description || ""])));
  }
  const content = operation.requestBody && Object.entries(operation.requestBody.content)[0];
  if (content) {
    inside.append(make("h3", {}, `Body: ${content[0]}, ${schemaName(content[1].schema)}`));
    const shown = fields(content[1].schema, components);
    if (shown) inside.append(shown);
  }
  inside.append(make("h3", {}, "Try it"), make("pre", {}, command(path, method, operation, content ? content[1].example : undefined)));
  for (const response of Object.entries(operation.responses)) inside.append(...answer(response, components));
  const view = make("details", { id: operation.operationId, "data-text": `${operation.operationId} ${path} ${operation.summary}`.toLowerCase() },
    make("summary", {}, make("span", { class: "method" }, method), make("code", {}, path), ` ${operation.summary}`), inside);
  return view;
};

const show = (told) => {
  document.getElementById("title").textContent = `${told.info.title}: the API`;
  document.getElementById("description").textContent = told.info.description;
  const sections = new Map();
  for (const [path, item] of Object.entries(told.paths)) {
    for (const [method, operation] of Object.entries(item)) {
      const tag = (operation.tags || ["other"])[0];
      if (!sections.has(tag)) sections.set(tag, []);
      sections.get(tag).push(operationView(path, method.toUpperCase(), operation, told.components.schemas));
    }
  }
  const main = document.getElementById("operations"), links = document.getElementById("sections");
  main.replaceChildren();
  for (const [tag, views] of [...sections].sort()) {
    links.append(make("li", {}, make("a", { href: `#section-${tag}` }, tag)));
    main.append(make("section", { id: `section-${tag}` }, make("h2", {}, tag), ...views));
  }
  const opened = location.hash && document.getElementById(location.hash.slice(1));
  if (opened) { opened.open = true; opened.scrollIntoView(); }
};

document.getElementById("search").addEventListener("input", (event) => {
  const wanted = event.target.value.trim().toLowerCase();
  for (const view of document.querySelectorAll("details")) view.hidden = !view.dataset.text.includes(wanted);
});

fetch("/openapi.json").then((answer) => answer.json()).then(show).catch((error) => {
  document.getElementById("description").textContent = `openapi.json could not be read: ${error.message}`;
});
