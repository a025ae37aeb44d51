"use strict";

const made = (tag, text = "") => {
  const node = document.createElement(tag);
  node.textContent = text;
  return node;
};

/** Write an example of a schema. */
function example(schema, all, depth = 0) {
  if (depth > 6 || !schema) return null;
  if (schema.$ref) return example(all[schema.$ref.split("/").pop()], all, depth + 1);
  if (schema.anyOf) return example(schema.anyOf[0], all, depth + 1);
  if (schema.type === "array") return [example(schema.items, all, depth + 1)];
  if (schema.type === "object") return Object.fromEntries(Object.entries(schema.properties ?? {}).map(([name, part]) => [name, example(part, all, depth + 1)]));
  return { string: schema.format === "byte" ? "base64" : schema.format === "binary" ? "bytes" : "text", number: 0.5, integer: 1, boolean: true }[schema.type] ?? null;
}

async function showRoutes() {
  const api = await (await fetch("openapi.json")).json();
  const schemas = api.components?.schemas ?? {};
  for (const [path, methods] of Object.entries(api.paths)) {
    for (const [method, route] of Object.entries(methods)) {
      const part = made("section");
      part.append(made("h2", `${method.toUpperCase()} ${path}`), made("p", route.description ?? route.summary ?? ""));
      const list = made("ul");
      for (const parameter of route.parameters ?? []) list.append(made("li", `${parameter.in} ${parameter.name}: ${parameter.description ?? ""}`));
      for (const [kind, body] of Object.entries(route.requestBody?.content ?? {})) list.append(made("li", `body ${kind}: ${JSON.stringify(example(body.schema, schemas))}`));
      if (list.children.length) part.append(list);
      for (const [status, answer] of Object.entries(route.responses)) {
        const schema = answer.content?.["application/json"]?.schema;
        const details = made("details");
        details.append(made("summary", `${status}: ${answer.description}`));
        if (schema) details.append(made("pre", JSON.stringify(example(schema, schemas), null, 1)));
        part.append(details);
      }
      document.getElementById("routes").append(part);
    }
  }
}

showRoutes();
