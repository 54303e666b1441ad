// Draws openapi.json: operations by tag, their parameters, bodies and answers, with schemas and examples.

const main = document.querySelector("#operations");

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// Text with `code` in it.
function prose(text) {
  return (text ?? "").split("`").map((part, number) => (number % 2 ? element("code", {}, part) : part));
}

// What a $ref leads to; anything else is itself.
function resolve(whole, part) {
  if (!part?.$ref) return part;
  return part.$ref.slice(2).split("/").reduce((at, step) => at[step], whole);
}

// A schema on a line; names lead to the schemas at the end.
function brief(schema) {
  if (!schema) return "";
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.enum) return schema.enum.join(" | ");
  if ("const" in schema) return JSON.stringify(schema.const);
  const several = schema.anyOf ?? schema.oneOf;
  if (several) return [...new Set(several.map(brief))].join(" or ");
  if (schema.allOf) return [...new Set(schema.allOf.map(brief))].join(" and ");
  if (schema.type === "array") return `array of ${brief(schema.items) || "anything"}`;
  const bounds = [["≥", schema.minimum], [">", schema.exclusiveMinimum], ["≤", schema.maximum], ["default", schema.default]];
  const said = bounds.filter(([, value]) => value !== undefined).map(([word, value]) => ` ${word} ${value}`);
  if (!schema.type) return "anything";
  return [schema.type].flat().join(" or ") + (schema.format ? ` (${schema.format})` : "") + said.join(",");
}

function table(heads, rows) {
  const head = element("tr", {}, ...heads.map((text) => element("th", { scope: "col" }, text)));
  const body = rows.map((cells) => element("tr", {}, ...cells.map((cell) => element("td", {}, cell))));
  return element("div", { class: "wide" }, element("table", {}, element("thead", {}, head), element("tbody", {}, ...body)));
}

function content(whole, described) {
  return Object.entries(described ?? {}).flatMap(([kind, { schema, example, examples }]) => {
    const parts = [element("p", {}, element("code", {}, kind), ` ${brief(schema)}`)];
    parts.push(...members(schema));
    const shown = [example, ...Object.values(examples ?? {}).map(({ value }) => value)].filter((one) => one !== undefined);
    for (const one of shown) parts.push(element("pre", { tabindex: "0" }, JSON.stringify(one, null, 2)));
    return parts;
  });
}

// The members of a schema: of all its forms, where it has several.
function members(schema) {
  const forms = schema?.oneOf ?? schema?.anyOf ?? schema?.allOf ?? [];
  const parts = forms.flatMap((form) => {
    const inner = members(form);
    return inner.length && form.description ? [element("p", {}, ...prose(form.description)), ...inner] : inner;
  });
  if (schema?.properties) parts.push(properties(schema));
  return parts;
}

function properties(schema) {
  const needed = new Set(schema.required ?? []);
  const rows = Object.entries(schema.properties ?? {}).map(([name, of]) =>
    [element("code", {}, name), brief(of), needed.has(name) ? "always" : "", element("span", {}, ...prose(of.description))]);
  return table(["member", "type", "", "meaning"], rows);
}

function operation(whole, path, method, told) {
  const summary = element("summary", {}, element("b", {}, method.toUpperCase()), element("code", {}, path), ` ${told.summary ?? ""}`);
  const parts = [];
  if (told.description) parts.push(element("p", {}, ...prose(told.description)));
  if (told.parameters?.length) {
    const rows = told.parameters.map((one) =>
      [element("code", {}, one.name), one.in, brief(one.schema), one.required ? "needed" : "", element("span", {}, ...prose(one.description))]);
    parts.push(element("h4", {}, "Parameters"), table(["name", "in", "type", "", "meaning"], rows));
  }
  if (told.requestBody) parts.push(element("h4", {}, "Body"), ...content(whole, told.requestBody.content));
  parts.push(element("h4", {}, "Answers"));
  for (const [status, reference] of Object.entries(told.responses)) {
    const answer = resolve(whole, reference);
    const codes = Object.keys(Object.values(answer.content ?? {})[0]?.examples ?? {});
    const told = element("summary", {}, element("b", {}, status), `${answer.description} `, element("span", { class: "quiet" }, codes.join(", ")));
    parts.push(element("details", {}, told, ...content(whole, answer.content)));
  }
  return element("details", { id: told.operationId }, summary, ...parts);
}

function draw(whole) {
  document.querySelector("#version").textContent = whole.info.version;
  document.querySelector("#about").textContent = whole.info.description;
  document.querySelector("#try").hidden = !("/" in whole.paths);
  const groups = new Map(whole.tags.map(({ name, description }) => [name, [element("p", {}, description)]]));
  for (const [path, methods] of Object.entries(whole.paths)) {
    for (const [method, told] of Object.entries(methods)) {
      const tag = told.tags?.[0] ?? "other";
      if (!groups.has(tag)) groups.set(tag, []);
      groups.get(tag).push(operation(whole, path, method, told));
    }
  }
  const schemas = Object.entries(whole.components.schemas).map(([name, schema]) =>
    element("details", { id: `schema-${name}` }, element("summary", {}, element("code", {}, name), " ", ...prose(schema.description)),
      ...(members(schema).length ? members(schema) : [element("p", {}, brief(schema))])));
  groups.set("schemas", schemas);
  main.replaceChildren(...[...groups].map(([tag, parts]) => element("section", {}, element("h2", {}, tag), ...parts)));
  if (location.hash) document.getElementById(decodeURIComponent(location.hash.slice(1)))?.setAttribute("open", "");
}

document.querySelector("#find").addEventListener("input", ({ target }) => {
  const wanted = target.value.trim().toLowerCase();
  for (const section of main.querySelectorAll("section")) {
    for (const part of section.querySelectorAll(":scope > details")) {
      part.hidden = !part.textContent.toLowerCase().includes(wanted);
    }
    section.hidden = !section.querySelector(":scope > details:not([hidden])");
  }
});

try {
  const answer = await fetch("openapi.json");
  draw(await answer.json());
} catch (why) {
  main.replaceChildren(element("p", {}, `The document could not be read: ${why.message}`));
}
