// The HTTP interface, drawn from this server's own openapi.json; GET addresses can be tried here.
function make(tag, content = "", properties = {}) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...(Array.isArray(content) ? content : [content]));
  return element;
}

const MOST_SHOWN = 20000; // characters of an answer

function resolve(api, schema = {}) {
  if (!schema.$ref) return schema;
  return schema.$ref.slice(2).split("/").reduce((node, key) => node[key], api);
}

function kind(api, schema) {
  const found = resolve(api, schema);
  if (found.anyOf) return found.anyOf.map((one) => kind(api, one)).filter((one) => one !== "null").join(" or ");
  if (found.enum) return found.enum.join(" | ");
  if (found.const !== undefined) return String(found.const);
  if (found.type === "array") return found.items ? `list of ${kind(api, found.items)}` : "list";
  if (found.contentMediaType || found.format === "binary") return "file";
  const [low, high] = [found.minimum ?? found.exclusiveMinimum, found.maximum ?? found.exclusiveMaximum];
  const range = low === undefined && high === undefined ? "" : ` ${low ?? ""}…${high ?? ""}`;
  return `${found.type ?? "any"}${range}`;
}

function row(api, name, schema, where, isRequired, description) {
  const fallback = resolve(api, schema).default;
  const shown = fallback === undefined || fallback === "" || (typeof fallback === "object" && !Object.keys(fallback ?? {}).length) ? "" : ` Default: ${fallback}.`;
  return make("tr", [make("td", make("code", name)), make("td", where + (isRequired ? ", required" : "")), make("td", kind(api, schema)), make("td", (description ?? "") + shown)]);
}

function inputs(api, operation) {
  const rows = (operation.parameters ?? []).map((one) => row(api, one.name, one.schema, one.in, one.required, one.description));
  for (const [type, content] of Object.entries(operation.requestBody?.content ?? {})) {
    const body = resolve(api, content.schema);
    const required = body.required ?? [];
    const place = type.includes("json") ? "JSON body" : "form";
    rows.push(...Object.entries(body.properties ?? {}).map(([name, schema]) => row(api, name, schema, place, required.includes(name), schema.description)));
  }
  if (!rows.length) return [];
  const head = make("thead", make("tr", ["Name", "Where", "Kind", "Meaning"].map((text) => make("th", text, { scope: "col" }))));
  return [make("div", make("table", [head, make("tbody", rows)]), { className: "scroll", tabIndex: 0 })];
}

function example(method, path, operation) {
  const address = `${location.origin}${path}`;
  const parts = ["curl -H \"Authorization: Bearer $SECRET\""];
  const types = Object.keys(operation.requestBody?.content ?? {});
  if (types.includes("multipart/form-data")) parts.push("-F file=@song.flac");
  else if (types.length) parts.push("--json '{…}'");
  else if (method === "post") parts.push("-X POST");
  return make("pre", make("code", `${parts.join(" ")} '${address}'`), { tabIndex: 0 });
}

async function send(path, form, output) {
  const query = new URLSearchParams();
  let address = path;
  for (const field of form.querySelectorAll("input")) {
    if (field.dataset.in === "path") address = address.replace(`{${field.name}}`, encodeURIComponent(field.value));
    else if (field.value) query.append(field.name, field.value);
  }
  output.textContent = "…";
  try {
    const answer = await fetch(address.slice(1) + (query.size ? `?${query}` : ""));
    const type = answer.headers.get("content-type") ?? "";
    let text = /json|text|mpegurl|xml/.test(type) ? await answer.text() : `${(await answer.blob()).size} bytes of ${type}`;
    if (type.includes("json")) text = JSON.stringify(JSON.parse(text), null, 1);
    output.textContent = `${answer.status} ${answer.statusText}\n${text.slice(0, MOST_SHOWN)}${text.length > MOST_SHOWN ? "\n…" : ""}`;
  } catch (error) {
    output.textContent = error.message;
  }
}

function trial(path, operation) {
  const fields = (operation.parameters ?? []).map((one) => {
    const field = make("input", "", { name: one.name, required: one.required ?? false, autocomplete: "off" });
    field.dataset.in = one.in;
    return make("label", [`${one.name} `, field]);
  });
  const output = make("pre", "", { tabIndex: 0 });
  output.setAttribute("role", "status");
  output.setAttribute("aria-label", "Answer");
  const form = make("form", [...fields, make("button", "Send")], { className: "options" });
  form.addEventListener("submit", (event) => { event.preventDefault(); send(path, form, output); });
  return make("details", [make("summary", "Try it"), form, output]);
}

function draw(api, path, method, operation) {
  const title = make("h2", [make("span", method.toUpperCase(), { className: "method" }), " ", make("code", path)], { id: operation.operationId });
  const said = (operation.description ?? operation.summary).split(/\n\n/).map((text) => make("p", text.replaceAll("``", "")));
  const parts = [title, ...said, ...inputs(api, operation), example(method, path, operation)];
  if (method === "get") parts.push(trial(path, operation));
  const section = make("section", parts, { className: "card" });
  section.setAttribute("aria-labelledby", operation.operationId);
  return section;
}

async function start() {
  const answer = await fetch("openapi.json");
  if (!answer.ok) throw new Error(`${answer.status} ${answer.statusText}`);
  const api = await answer.json();
  document.getElementById("about").textContent = api.info.description;
  const drawn = Object.entries(api.paths).flatMap(([path, methods]) => Object.entries(methods).map(([method, operation]) => draw(api, path, method, operation)));
  document.getElementById("operations").replaceChildren(...drawn);
}

start().catch((error) => { document.getElementById("operations").replaceChildren(make("p", error.message, { className: "error" })); });
