// The search page: what is asked is one object, `asked`; every change of it searches again.

const $ = (id) => document.getElementById(id);
const AT_ONCE = 6; // images fetched at a time
const ATTEMPTS = 5;
const TINY = 64; // pixels; of fewer each is shown as it is

const asked = { file: null, item: null, labels: new Set(), k: 10, release: "active" };
let served = null; // number of the release that answered last
let turn = 0; // of the latest search; older answers are thrown away
const shown = new Set(); // object URLs on the page

class Problem extends Error {
  constructor(status, title, detail) {
    super(detail);
    Object.assign(this, { status, title });
  }
}

async function ask(path, options = {}) {
  const key = sessionStorage.getItem("csd-key");
  const headers = { ...options.headers, ...(key && { Authorization: `Bearer ${key}` }) };
  for (let attempt = 1; ; attempt++) {
    const answer = await fetch(path, { ...options, headers });
    if ((answer.status === 429 || answer.status === 503) && attempt < ATTEMPTS) {
      const seconds = Number(answer.headers.get("Retry-After")) || 0;
      await new Promise((done) => setTimeout(done, 1000 * seconds + 300 * Math.random() * attempt));
      continue;
    }
    if (answer.ok) return answer;
    const told = await answer.json().catch(() => ({}));
    if (answer.status === 401) askForKey(key);
    throw new Problem(answer.status, told.title || answer.statusText, told.detail || "The service could not answer.");
  }
}

function askForKey(refused) {
  if (sessionStorage.getItem("csd-key") !== refused) return; // another one was given meanwhile
  sessionStorage.removeItem("csd-key");
  $("key-form").hidden = false;
}

const json = async (path, options) => (await ask(path, options)).json();
const address = (item) => encodeURIComponent(item).replaceAll(".", "%2E");

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function tell(error) {
  $("problem").textContent = error ? `${error.title || "No answer"}: ${error.message}` : "";
  $("problem").hidden = !error;
}

// --- images, a few at a time, as blobs, for a key goes with each request -------------------------------------------

const queue = [];
let fetching = 0;

function show(image, item) {
  queue.push([image, item]);
  next();
}

async function next() {
  if (fetching >= AT_ONCE || !queue.length) return;
  const [image, item] = queue.shift();
  fetching++;
  try {
    const blob = await (await ask(`/v1/thumbnails/${address(item)}`)).blob();
    if (image.isConnected) put(image, blob);
  } catch {
    image.alt = "no image";
  }
  fetching--;
  next();
}

function put(image, blob) {
  if (image.src) {
    URL.revokeObjectURL(image.src);
    shown.delete(image.src);
  }
  image.onload = () => image.classList.toggle("tiny", Math.max(image.naturalWidth, image.naturalHeight) < TINY);
  image.src = URL.createObjectURL(blob);
  shown.add(image.src);
}

function clear(list) {
  for (const image of list.querySelectorAll("img[src]")) {
    URL.revokeObjectURL(image.src);
    shown.delete(image.src);
  }
  list.replaceChildren();
}

// --- what is served ------------------------------------------------------------------------------------------------

async function showState() {
  const state = await json("/readyz");
  served = state.release;
  $("state").textContent = `Release ${state.release}, ${state.rows.toLocaleString("en")} items, model ${state.query_models.map((model) => model.slice(0, 12)).join(" and ")} (${state.variant})`;
  $("degraded").hidden = !state.refused;
  if (state.refused) $("degraded").textContent = `Release ${state.refused.release} was refused: ${state.refused.reason}`;
  const release = await json(`/v1/releases/${state.release}`);
  $("verdict").hidden = false;
  $("switch").hidden = state.release === 1; // there is none before
  const way = release.strategy === "none" ? "the first model" : `served by ${release.strategy}`;
  $("verdict").querySelector("summary").textContent = `${release.verdict.outcome}, ${way}`;
  $("reasons").replaceChildren(...release.verdict.reasons.map((reason) => element("li", { textContent: reason })));
  await Promise.all([showLabels(), showSamples()]);
}

async function showLabels() {
  const { labels } = await json("/v1/labels");
  $("labels").replaceChildren(
    ...labels.map(({ label, items }) => {
      const box = element("input", { type: "checkbox", value: label, checked: asked.labels.has(label) });
      box.addEventListener("change", () => {
        box.checked ? asked.labels.add(label) : asked.labels.delete(label);
        search();
      });
      return element("label", {}, box, ` ${label} (${items})`);
    }),
  );
  findLabels();
}

function findLabels() {
  const wanted = $("find").value.toLowerCase();
  for (const label of $("labels").children) label.hidden = !label.textContent.toLowerCase().includes(wanted);
}

async function showSamples() {
  const { items } = await json("/v1/items?limit=24");
  clear($("samples"));
  for (const { id, label, name, path } of items) {
    const image = element("img", { alt: "" });
    const title = path ? `${label}: ${path}` : label;
    const button = element("button", { type: "button", title, ariaLabel: `Search by ${name || "an item"} of ${label}` }, image);
    button.addEventListener("click", () => searchFrom(id, name));
    $("samples").append(element("li", {}, button));
    show(image, id);
  }
}

// --- search --------------------------------------------------------------------------------------------------------

function find(release) {
  if (asked.file) {
    const query = new URLSearchParams({ k: asked.k, release });
    for (const label of asked.labels) query.append("label", label);
    return json(`/v1/search?${query}`, {
      method: "POST",
      body: asked.file,
      headers: { "Content-Type": "application/octet-stream" },
    });
  }
  const filters = asked.labels.size ? { label: [...asked.labels] } : {};
  return json("/v1/search", {
    method: "POST",
    body: JSON.stringify({ item: asked.item, k: asked.k, filters, release }),
    headers: { "Content-Type": "application/json" },
  });
}

async function search() {
  $("chosen").textContent = asked.labels.size ? [...asked.labels].join(", ") : "all";
  if (!asked.file && !asked.item) return;
  const mine = ++turn;
  $("hits").setAttribute("aria-busy", "true");
  tell(null);
  try {
    const before = asked.release === "before";
    const [found, after] = await Promise.all([find(asked.release), before ? find("active") : null]);
    if (mine !== turn) return;
    showHits(found, after);
    const now = after || found;
    if (served !== null && now.release !== served) showState().catch(tell);
  } catch (error) {
    if (mine !== turn) return;
    clear($("hits"));
    $("count").textContent = "";
    tell(error);
  } finally {
    if (mine === turn) $("hits").setAttribute("aria-busy", "false");
  }
}

function showHits(found, after) {
  clear($("hits"));
  const ranks = after && new Map(after.hits.map((hit, rank) => [hit.id, rank]));
  found.hits.forEach((hit, rank) => $("hits").append(card(hit, rank, ranks, found.query_models.length > 1)));
  const how = found.exact ? "every item compared" : "through the index";
  let text = `${found.hits.length} neighbours from release ${found.release} (${how})`;
  if (after) {
    const before = new Set(found.hits.map((hit) => hit.id));
    text += `; since the upgrade ${after.hits.filter((hit) => !before.has(hit.id)).length} of them are others`;
  }
  $("count").textContent = text;
}

function card(hit, rank, ranks, merged) {
  const image = element("img", { alt: "" });
  const score = element("meter", { min: 0, max: 1, value: Math.max(0, hit.cosine), ariaLabel: "similarity" });
  const generation = hit.generation === null ? "an earlier model" : `generation ${hit.generation}`;
  const facts = element("span", { className: "facts" }, element("b", { textContent: hit.label }));
  if (hit.name) facts.append(element("bdi", { className: "name", dir: "ltr", textContent: hit.name, title: from(hit) }));
  facts.append(score);
  const similarity = `similarity ${hit.cosine.toFixed(3)}`;
  facts.append(`${merged ? `score ${hit.score.toFixed(3)}, ${similarity}` : hit.score.toFixed(3)}, ${generation}${hit.space === hit.embedded_by ? "" : ", adapted"}`);
  if (merged) facts.append(`, found by ${hit.found_by.slice(0, 8)}`);
  if (hit.origin === "live") facts.append(", written live");
  if (ranks) facts.append(element("br"), element("span", { className: "moved", textContent: moved(rank, ranks.get(hit.id)) }));
  const button = element("button", { type: "button", ariaLabel: `${rank + 1}. ${hit.label}, ${hit.name ? `${hit.name}, ` : ""}${similarity}, ${generation}; search from it` }, image, facts);
  button.addEventListener("click", () => searchFrom(hit.id, hit.name));
  show(image, hit.id);
  return element("li", {}, button);
}

function from(hit) {
  return hit.source ? `${hit.path} in ${hit.source}` : hit.path;
}

function moved(before, after) {
  if (after === undefined) return "gone after the upgrade";
  if (after === before) return "same place after it";
  return `${after < before ? "up" : "down"} to ${after + 1} after it`;
}

function showQuery(name) {
  $("query").hidden = false;
  $("query-name").textContent = name;
  $("query-image").alt = `The query: ${name}`;
}

function searchFrom(item, name, remember = true) {
  Object.assign(asked, { file: null, item });
  if (remember) history.pushState({ item, name }, "", `?item=${encodeURIComponent(item)}`);
  showQuery(name || `item ${item.slice(0, 24)}`);
  if (name === undefined) askName(item);
  show($("query-image"), item);
  search();
}

async function askName(item) {
  const { name } = await json(`/v1/items/${address(item)}`).catch(() => ({}));
  if (name && asked.item === item) showQuery(name);
}

function searchBy(file) {
  if (!file) return;
  Object.assign(asked, { file, item: null });
  history.pushState({}, "", location.pathname);
  showQuery(file.name || "pasted image");
  put($("query-image"), file);
  search();
}

// --- what people do ------------------------------------------------------------------------------------------------

$("file").addEventListener("change", () => searchBy($("file").files[0]));
$("k").addEventListener("change", () => ((asked.k = Number($("k").value)), search()));
$("all").addEventListener("click", () => {
  asked.labels.clear();
  for (const box of $("labels").querySelectorAll("input")) box.checked = false;
  search();
});
$("find").addEventListener("input", findLabels);
for (const choice of document.querySelectorAll("input[name=release]")) {
  choice.addEventListener("change", () => ((asked.release = choice.value), search()));
}
$("key-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  sessionStorage.setItem("csd-key", $("key").value.trim());
  $("key").value = "";
  $("key-form").hidden = true;
  const waiting = asked.file || asked.item; // refused for want of a key
  await begin();
  if (waiting) search();
});
addEventListener("dragover", (event) => (event.preventDefault(), $("drop").classList.add("over")));
addEventListener("dragleave", () => $("drop").classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  searchBy(event.dataTransfer.files[0]);
});
addEventListener("paste", (event) => searchBy([...event.clipboardData.files].find((file) => file.type.startsWith("image/"))));
addEventListener("popstate", fromAddress);

function fromAddress() {
  const item = new URLSearchParams(location.search).get("item");
  if (item) return searchFrom(item, undefined, false);
  turn++;
  Object.assign(asked, { file: null, item: null });
  $("query").hidden = true;
  clear($("hits"));
  $("count").textContent = "";
}

async function begin() {
  const key = sessionStorage.getItem("csd-key");
  tell(null);
  try {
    await showState();
    if (!asked.file && !asked.item) fromAddress(); // somebody may have asked already
  } catch (error) {
    $("state").textContent = "";
    tell(error.status === 401 && !key ? null : error); // the form says that a key is missing
  }
}

begin();
