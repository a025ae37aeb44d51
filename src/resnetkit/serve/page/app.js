"use strict";

const MOST_RESULTS = 50; // pictures that are kept on the page
const element = (id) => document.getElementById(id);
const made = (tag, text = "", kind = "") => {
  const node = document.createElement(tag);
  node.textContent = text;
  if (kind) node.className = kind;
  return node;
};
const percent = (share) => `${(100 * share).toFixed(1)} %`;
const say = (text) => { element("status").textContent = text; };

/** Ask the service; resolves to its JSON, rejects with what it says is wrong. */
async function ask(path, body) {
  const key = element("key").value;
  let answer;
  try {
    answer = await fetch(path, {
      method: body ? "POST" : "GET",
      body,
      headers: { ...(body ? { "Content-Type": "application/octet-stream" } : {}), ...(key ? { "X-API-Key": key } : {}) },
    });
  } catch {
    throw new Error("the service cannot be reached");
  }
  const said = await answer.json().catch(() => ({ error: { what: `the service answered ${answer.status}` } }));
  if (answer.status === 401) element("key-row").hidden = false;
  if (!answer.ok) throw new Error([said.error.what, ...(said.error.details ?? [])].join("; "));
  return said;
}

/** Show one photo, its classes, and on demand where the model looked. */
async function show(file) {
  const row = made("li", "", "result");
  const picture = made("img");
  const url = URL.createObjectURL(file);
  picture.alt = file.name;
  picture.src = url;
  picture.addEventListener("error", () => { picture.hidden = true; });
  const side = made("div");
  side.append(made("h2", file.name || "pasted image"));
  row.append(picture, side);
  const list = element("results");
  list.prepend(row);
  while (list.children.length > MOST_RESULTS) list.lastElementChild.remove();
  const started = performance.now();
  try {
    const said = await ask("v1/predict?top=5", file);
    const milliseconds = performance.now() - started;
    side.append(bars(said.predictions[0].classes, file, picture, url, side));
    side.append(made("p", `${milliseconds.toFixed(0)} ms, of which the service took ${(1000 * said.seconds).toFixed(0)}; ${said.engine}`, "soft"));
    side.append(made("p", "Choose a class to see where the model looks for it.", "soft"));
  } catch (error) {
    side.append(made("p", error.message, "bad"));
    say(`${file.name}: ${error.message}`);
  }
}

/** Make the bars of classes; each is a button for its heat map. */
function bars(classes, file, picture, url, side) {
  const list = made("ul", "", "bars");
  for (const chance of classes) {
    const button = made("button");
    button.type = "button";
    button.setAttribute("aria-pressed", "false");
    const bar = made("progress");
    bar.max = 1;
    bar.value = chance.prob;
    bar.setAttribute("aria-label", `${chance.name}: ${percent(chance.prob)}`);
    button.append(made("span", chance.name, "name"), made("span", percent(chance.prob)), bar);
    button.addEventListener("click", () => explain(chance, button, list, file, picture, url, side));
    const row = made("li");
    row.append(button);
    list.append(row);
  }
  return list;
}

/** Put the heat map of a class over the picture, or take it away. */
async function explain(chance, button, list, file, picture, url, side) {
  const shown = button.getAttribute("aria-pressed") === "true";
  list.latest = chance; // an answer to an earlier choice that comes later is not shown
  for (const other of list.querySelectorAll("button")) other.setAttribute("aria-pressed", "false");
  picture.hidden = false;
  if (shown) {
    list.latest = null;
    picture.src = url;
    picture.alt = file.name;
    say("");
    return;
  }
  try {
    const said = await ask(`v1/explain?index=${chance.index}`, file);
    if (list.latest !== chance) return;
    picture.src = `data:image/png;base64,${said.overlay_png}`;
    picture.alt = `${file.name}: where the model looks for ${chance.name}`;
    button.setAttribute("aria-pressed", "true");
    say(`heat map of ${chance.name}, over the part that the model is shown`);
  } catch (error) {
    picture.src = url;
    say(error.message);
  }
}

/** Show several photos, two at a time. */
async function showAll(files) {
  const waiting = [...files];
  if (!waiting.length) return;
  say(`${waiting.length} ${waiting.length === 1 ? "photo" : "photos"} ...`);
  const work = async () => { while (waiting.length) await show(waiting.shift()); };
  await Promise.all([work(), work()]);
  if (element("status").textContent.endsWith("...")) say("");
}

/** Fill in what is known of the model. */
async function showModel() {
  try {
    const model = await ask("v1/model");
    element("about").textContent = `${model.model}; ${model.classes.length} classes; engine ${model.engine}`;
    const facts = element("facts");
    facts.replaceChildren();
    const sizes = model.resize_size ? `short side to ${model.resize_size}, centre ${model.image_size}` : `${model.image_size} pixels a side`;
    const rows = {
      net: model.model, engine: model.engine, weights: model.weights_sha256, preprocessing: `${sizes}, ${model.resize_family}`,
      recipe: model.recipe, data: model.data && model.data.name, licence: model.license,
      ...Object.fromEntries(Object.entries(model.metrics ?? {}).filter(([, found]) => found.top1 != null)
        .map(([name, found]) => [`top-1, ${name}`, `${percent(found.top1)} of ${found.images} images`])),
      assumed: model.assumptions.join("; "), classes: model.classes.slice(0, 100).join(", ") + (model.classes.length > 100 ? ", ..." : ""),
    };
    for (const [name, value] of Object.entries(rows)) if (value) facts.append(made("dt", name), made("dd", String(value)));
  } catch (error) {
    element("about").textContent = error.message;
  }
}

const drop = element("drop");
drop.addEventListener("submit", (event) => event.preventDefault());
for (const name of ["dragover", "dragenter"]) document.addEventListener(name, (event) => { event.preventDefault(); drop.classList.add("over"); });
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) drop.classList.remove("over"); });
document.addEventListener("drop", (event) => { event.preventDefault(); drop.classList.remove("over"); showAll(event.dataTransfer.files); });
document.addEventListener("paste", (event) => showAll(event.clipboardData.files));
element("files").addEventListener("change", (event) => { showAll(event.target.files); event.target.value = ""; });
element("key").addEventListener("change", showModel);
showModel();
