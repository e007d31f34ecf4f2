// The page "Pods". Every text from outside is set as `textContent`; nothing is parsed as HTML.
// Paths are relative to the page, which Airflow mounts one level below its root.
"use strict";

const ROOT = new URL("..", document.baseURI);
const ROW_HEIGHT = 30;
const STALE_AFTER = 5000; // milliseconds without an event, of which there is one each second
const LOG_LINES = 1000; // that the page keeps
const HISTORY_PERIOD = 60000;

const byId = (id) => document.getElementById(id);

/** Returns a new element with a class and a text. */
function element(tag, text = "", className = "") {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.textContent = text;
  return made;
}

/** Sets a text only where it differs: an unchanged one costs no layout. */
function setText(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

// ---- The theme: Airflow keeps it in the storage that its pages share; otherwise the system's counts.

const systemTheme = matchMedia("(prefers-color-scheme: dark)");

function applyTheme() {
  let theme = "system";
  try {
    theme = localStorage.getItem("theme") ?? "system";
  } catch { /* a browser that refuses storage */ }
  if (theme !== "dark" && theme !== "light") theme = systemTheme.matches ? "dark" : "light";
  document.documentElement.dataset.theme = theme;
}

applyTheme();
systemTheme.addEventListener("change", applyTheme);
addEventListener("storage", applyTheme);

// ---- What the server has sent.

const pods = new Map(); // uid -> row as the table shows it
let watches = [];
let hidden = {};
let boardProblem = "";
let clockOffset = 0; // milliseconds that the server's clock is ahead
let lastEventAt = 0;

function now() {
  return Date.now() + clockOffset;
}

function duration(milliseconds) {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000));
  if (seconds < 60) return `${seconds}s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes}m${seconds % 60 ? `${seconds % 60}s` : ""}`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours}h${minutes % 60}m` : `${Math.floor(hours / 24)}d${hours % 24}h`;
}

function quantities(amounts) {
  return Object.entries(amounts).map(([name, amount]) => `${name} ${amount}`).join(", ");
}

const KINDS = { Running: "ok", Succeeded: "ok", Pending: "wait", Failed: "bad", Unknown: "bad" };

/** Returns a row: the pod, and what is computed once per change instead of once per frame. */
function makeRow({ place, pod }) {
  const { task } = pod;
  const index = task.map_index >= 0 ? ` [${task.map_index}]` : "";
  const label = `${task.dag_id}.${task.task_id}${index}`;
  const amounts = [pod.requests, pod.limits].map((kind) => [kind.cpu ?? "–", kind.memory ?? "–"]);
  const resources = pod.requests.cpu || pod.requests.memory || pod.limits.cpu || pod.limits.memory
    ? amounts.map((pair) => pair.join(" ")).join(" / ") : "";
  return {
    place, pod, label, resources,
    phase: pod.terminating ? "Terminating" : pod.phase,
    created: pod.created_at ? Date.parse(pod.created_at) : 0,
    text: [label, task.run_id, pod.namespace, pod.name, pod.node, pod.explanation].join("\n").toLowerCase(),
  };
}

function receive(event) {
  const data = JSON.parse(event.data);
  lastEventAt = performance.now();
  showConnection("live", "live");
  clockOffset = data.now * 1000 - Date.now();
  let changed = data.pods.length > 0 || data.removed.length > 0;
  if (event.type === "snapshot") {
    const present = new Set(data.pods.map((row) => row.pod.uid));
    for (const uid of pods.keys()) {
      if (!present.has(uid)) changed = pods.delete(uid) || changed;
    }
  }
  for (const uid of data.removed) pods.delete(uid);
  for (const row of data.pods) pods.set(row.pod.uid, makeRow(row));
  ({ watches, hidden, problem: boardProblem } = data);
  if (changed) arrangementIsStale = true;
  statusIsStale = true;
  schedule();
}

function connect() {
  const source = new EventSource("stream");
  source.addEventListener("snapshot", receive);
  source.addEventListener("change", receive);
  source.addEventListener("error", () => {
    // The browser opens an ended stream again by itself, but not one that was refused.
    if (source.readyState === EventSource.CLOSED) showConnection("lost", "refused: log in again and reload");
  });
}

function showConnection(state, text) {
  byId("connection").dataset.state = state;
  setText(byId("connection"), text);
}

// ---- Which rows are shown, and in which order.

const COLUMNS = [
  { name: "Task", key: (row) => row.label },
  { name: "Phase", key: (row) => row.phase },
  { name: "Age", key: (row) => -row.created },
  { name: "Node", key: (row) => row.pod.node },
  { name: "Waits for", key: (row) => row.pod.explanation },
  { name: "Restarts", key: (row) => row.pod.restarts },
  { name: "Namespace", key: (row) => row.pod.namespace },
  { name: "Requests / limits", key: (row) => row.resources },
];
const GROUPS = [
  { list: "by-phase", key: (row) => row.phase },
  { list: "by-dag", key: (row) => row.pod.task.dag_id },
  { list: "by-namespace", key: (row) => row.pod.namespace },
].map((group) => ({ ...group, chosen: null }));

let sort = { column: 2, descending: false };
let arranged = [];
let arrangementIsStale = true;
let statusIsStale = true;
let chosen = null; // the uid of the pod in the detail

function arrange() {
  const wanted = byId("filter").value.trim().toLowerCase();
  const { key } = COLUMNS[sort.column];
  const sign = sort.descending ? -1 : 1;
  arranged = [];
  for (const row of pods.values()) {
    if (wanted && !row.text.includes(wanted)) continue;
    if (GROUPS.some((group) => group.chosen !== null && group.key(row) !== group.chosen)) continue;
    arranged.push([key(row), row]);
  }
  arranged.sort(([a, rowA], [b, rowB]) => {
    if (a !== b) return a < b ? -sign : sign;
    return rowA.pod.uid < rowB.pod.uid ? -1 : 1;
  });
  arranged = arranged.map(([, row]) => row);
}

function showCounts() {
  for (const group of GROUPS) {
    const counts = new Map(group.chosen === null ? [] : [[group.chosen, 0]]);
    for (const row of pods.values()) counts.set(group.key(row), (counts.get(group.key(row)) ?? 0) + 1);
    const entries = [...counts].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1)).slice(0, 50);
    const list = byId(group.list);
    while (list.children.length > entries.length) list.lastChild.remove();
    entries.forEach(([name, count], place) => {
      const button = list.children[place]?.firstChild ?? addCount(list, group);
      button.dataset.name = name;
      button.title = name;
      button.setAttribute("aria-pressed", String(name === group.chosen));
      setText(button.firstChild, name);
      setText(button.lastChild, String(count));
    });
  }
}

function addCount(list, group) {
  const item = element("li");
  const button = element("button");
  button.type = "button";
  button.append(element("span"), element("b"));
  button.addEventListener("click", () => {
    group.chosen = group.chosen === button.dataset.name ? null : button.dataset.name;
    arrangementIsStale = true;
    schedule();
  });
  item.append(button);
  list.append(item);
  return button;
}

// ---- The table. Only the rows in sight exist.

const lines = []; // the elements of rows, used again for other pods

function makeLine() {
  const line = element("div", "", "row");
  line.setAttribute("role", "row");
  for (const className of ["task", "phase", "number", "muted", "explanation", "number", "muted", "muted"]) {
    const cell = element("span", "", className);
    cell.setAttribute("role", "cell");
    line.append(cell);
  }
  line.addEventListener("click", () => choose(line.dataset.uid));
  byId("rows").append(line);
  lines.push(line);
  return line;
}

function showRows() {
  const scroll = byId("scroll");
  const first = Math.max(0, Math.floor(scroll.scrollTop / ROW_HEIGHT) - 4);
  const count = Math.min(arranged.length - first, Math.ceil(scroll.clientHeight / ROW_HEIGHT) + 8);
  const height = `${arranged.length * ROW_HEIGHT}px`;
  if (byId("rows").style.height !== height) byId("rows").style.height = height;
  for (let place = 0; place < Math.max(count, lines.length); place += 1) {
    const row = place < count ? arranged[first + place] : undefined;
    if (row) showRow(lines[place] ?? makeLine(), row, first + place);
    else lines[place].hidden = true;
  }
  const nothing = arranged.length === 0;
  byId("empty").hidden = !nothing;
  if (nothing) setText(byId("empty"), emptyText());
  const total = arranged.length === pods.size ? `${pods.size} pods` : `${arranged.length} of ${pods.size} pods`;
  setText(byId("total"), total);
}

function showRow(line, row, place) {
  const { pod } = row;
  line.hidden = false;
  line.dataset.uid = pod.uid;
  line.setAttribute("aria-selected", String(pod.uid === chosen));
  const top = `${place * ROW_HEIGHT}px`;
  if (line.style.top !== top) line.style.top = top;
  const attempt = pod.attempt > 1 ? `, pod ${pod.attempt}` : "";
  const retry = pod.task.try_number > 1 || attempt ? ` (try ${pod.task.try_number}${attempt})` : "";
  const texts = [
    row.label + retry, row.phase, duration(now() - row.created), pod.node || "–",
    pod.explanation, pod.restarts ? String(pod.restarts) : "", pod.namespace, row.resources,
  ];
  texts.forEach((text, column) => setText(line.children[column], text));
  const kind = pod.verdict === "failed" || pod.verdict === "lost" ? "bad" : KINDS[row.phase] ?? "wait";
  line.children[1].dataset.kind = kind;
  if (line.children[0].title !== row.label) line.children[0].title = row.label;
  if (line.children[4].title !== pod.explanation) line.children[4].title = pod.explanation;
}

function emptyText() {
  if (!lastEventAt) return "Waiting for the server.";
  if (pods.size) return "No pod matches the filter.";
  if (watches.some((watch) => watch.state === "connecting" || watch.state === "syncing")) return "Reading the pods.";
  return "No living pods that you may see. The logs of ended tasks are on the tasks' own pages.";
}

function showHead() {
  COLUMNS.forEach((column, place) => {
    const button = byId("head").children[place] ?? addHeading(column, place);
    if (place === sort.column) button.setAttribute("aria-sort", sort.descending ? "descending" : "ascending");
    else button.removeAttribute("aria-sort");
  });
}

function addHeading(column, place) {
  const button = element("button", column.name);
  button.type = "button";
  button.addEventListener("click", () => {
    sort = { column: place, descending: sort.column === place && !sort.descending };
    arrangementIsStale = true;
    showHead();
    schedule();
  });
  byId("head").append(button);
  return button;
}

// ---- Watches and problems.

function showStatus() {
  const problems = [];
  if (boardProblem) problems.push(`${boardProblem}. Its administrator finds more in the API server's log.`);
  for (const watch of watches) {
    if (watch.state !== "failing") continue;
    const why = watch.problem || "Ask someone who may see this connection what is wrong with it";
    problems.push(`Connection ${watch.connection}, namespace ${watch.namespace}: ${why}`);
  }
  if (hidden.failing) problems.push("A cluster of a connection that you may not see cannot be watched.");
  const box = byId("problems");
  box.hidden = problems.length === 0;
  if (box.dataset.text !== problems.join("\n")) {
    box.dataset.text = problems.join("\n");
    box.replaceChildren(...problems.map((problem) => element("p", problem)));
  }
  const failing = watches.filter((watch) => watch.state === "failing").length;
  setText(byId("watch-summary"), `${watches.length}${failing ? `, ${failing} failing` : ", all well"}`);
  const body = byId("watches");
  while (body.children.length > watches.length) body.lastChild.remove();
  watches.forEach((watch, place) => {
    const line = body.children[place] ?? addWatch(body);
    const age = watch.last_event_at === null ? "none yet" : `${duration(now() - watch.last_event_at * 1000)} ago`;
    const texts = [watch.connection, watch.namespace, watch.state, watch.pods, age, watch.relists, watch.problem];
    texts.forEach((text, column) => setText(line.children[column], String(text)));
  });
}

function addWatch(body) {
  const line = element("tr");
  for (let column = 0; column < 7; column += 1) line.append(element("td"));
  body.append(line);
  return line;
}

// ---- One pod: facts, links, log.

function airflowPaths({ dag_id, task_id, run_id, map_index, try_number }) {
  const mapped = map_index >= 0 ? `/mapped/${map_index}` : "";
  const [dag, run, task] = [dag_id, run_id, task_id].map(encodeURIComponent);
  return {
    Task: `dags/${dag}/tasks/${task}`,
    Log: `dags/${dag}/runs/${run}/tasks/${task}${mapped}?try_number=${try_number}`,
    Run: `dags/${dag}/runs/${run}`,
  };
}

/** Returns a link to a page of Airflow. The frame may not navigate Airflow's window, a link in that window may. */
function airflowLink(text, path) {
  const link = element("a", text);
  link.href = new URL(path, ROOT);
  link.addEventListener("click", (event) => {
    const frame = parent === window ? null : parent.document;
    if (!frame) return;
    event.preventDefault();
    const outer = frame.createElement("a");
    outer.href = link.href;
    if (event.ctrlKey || event.metaKey || event.shiftKey) outer.target = "_blank";
    frame.body.append(outer);
    outer.click();
    outer.remove();
  });
  return link;
}

function choose(uid) {
  chosen = uid;
  const row = pods.get(uid);
  byId("detail").hidden = !row;
  if (row) {
    const { pod } = row;
    const links = Object.entries(airflowPaths(pod.task));
    byId("detail-links").replaceChildren(...links.map(([name, path]) => airflowLink(name, path)));
    byId("container").replaceChildren(...pod.containers.map((name) => new Option(name, name, name === pod.base)));
    byId("container").value = pod.base;
    followLog(row);
  } else {
    stopLog();
  }
  statusIsStale = true;
  schedule();
}

function showDetail() {
  const row = pods.get(chosen);
  if (!row) return;
  const { pod } = row;
  setText(byId("detail-name"), `${pod.namespace}/${pod.name}`);
  const facts = {
    Task: row.label,
    Run: pod.task.run_id,
    Try: `${pod.task.try_number}${pod.attempt > 1 ? `, pod ${pod.attempt} of it` : ""}`,
    Phase: row.phase,
    "Waits for": pod.explanation,
    Node: pod.node,
    Created: pod.created_at ?? "",
    Started: pod.started_at ?? "",
    Restarts: String(pod.restarts),
    Requests: quantities(pod.requests),
    Limits: quantities(pod.limits),
  };
  const known = Object.entries(facts).filter(([, fact]) => fact);
  const list = byId("detail-facts");
  while (list.children.length > known.length * 2) list.lastChild.remove();
  while (list.children.length < known.length * 2) list.append(element("dt"), element("dd"));
  known.forEach(([name, fact], place) => {
    setText(list.children[2 * place], name);
    setText(list.children[2 * place + 1], fact);
  });
  // A container that starts while the pod is looked at.
  const names = [...byId("container").options].map((option) => option.value);
  for (const name of pod.containers) {
    if (names.includes(name)) continue;
    byId("container").append(new Option(name, name));
    if (name === pod.base) byId("container").value = name;
    if (!log) followLog(row);
  }
}

let log = null;

function stopLog() {
  log?.close();
  log = null;
}

function followLog(row) {
  stopLog();
  byId("log").replaceChildren();
  const container = byId("container").value;
  if (!container) {
    setText(byId("log-state"), "no container has started yet");
    return;
  }
  setText(byId("log-state"), "reading");
  const { place, pod } = row;
  const source = log = new EventSource(`log?${new URLSearchParams({ place, name: pod.name, uid: pod.uid, container })}`);
  source.addEventListener("tail", (event) => {
    byId("log").replaceChildren();
    appendLog(JSON.parse(event.data).lines);
    setText(byId("log-state"), "live");
  });
  source.addEventListener("more", (event) => appendLog(JSON.parse(event.data).lines));
  source.addEventListener("end", (event) => {
    setText(byId("log-state"), JSON.parse(event.data).reason);
    source.close();
  });
  source.addEventListener("error", () => {
    if (source.readyState === EventSource.CLOSED) {
      setText(byId("log-state"), "refused: the pod is gone, or you may not read this DAG's logs");
    }
  });
}

function appendLog(texts) {
  const box = byId("log");
  const atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
  box.append(...texts.map((text) => element("div", text || " ")));
  while (box.children.length > LOG_LINES) box.firstChild.remove();
  if (atEnd) box.scrollTop = box.scrollHeight;
}

// ---- The last hour.

const SVG = "http://www.w3.org/2000/svg";

async function showHistory() {
  const response = await fetch("history");
  if (!response.ok) {
    setText(byId("history-caption"), "The last hour is not known: Airflow did not answer.");
    return;
  }
  const { living, succeeded, failed } = await response.json();
  const top = Math.max(1, ...living, ...succeeded.map((number, minute) => number + failed[minute]));
  const bars = [];
  const bar = (className, minute, from, size, width) => {
    if (!size) return;
    const made = document.createElementNS(SVG, "rect");
    const height = (size / top) * 60;
    const place = { class: className, x: minute * 5 + (5 - width) / 2, y: 64 - (from / top) * 60 - height, width, height };
    for (const [name, value] of Object.entries(place)) made.setAttribute(name, String(value));
    bars.push(made);
  };
  living.forEach((number, minute) => {
    bar("living", minute, 0, number, 5);
    bar("succeeded", minute, 0, succeeded[minute], 2);
    bar("failed", minute, succeeded[minute], failed[minute], 2);
  });
  byId("chart").replaceChildren(...bars);
  const sum = (numbers) => numbers.reduce((total, number) => total + number, 0);
  setText(
    byId("history-caption"),
    `Tasks with a pod (Airflow's database): at most ${Math.max(...living)} at once, ` +
      `${sum(succeeded)} succeeded, ${sum(failed)} failed`,
  );
}

// ---- One frame for any number of changes.

let scheduled = false;

function schedule() {
  if (scheduled) return;
  scheduled = true;
  requestAnimationFrame(draw);
}

function draw() {
  scheduled = false;
  if (arrangementIsStale) {
    arrange();
    showCounts();
    arrangementIsStale = false;
    openLinked();
  }
  showRows();
  if (statusIsStale) {
    showStatus();
    showDetail();
    statusIsStale = false;
  }
}

// A task's link to its pod: `?pod=namespace/name`, in the address of Airflow's page or in that of this one.

function linkedPod() {
  for (const view of [window, parent]) {
    try {
      const found = new URLSearchParams(view.location.search).get("pod");
      if (found) return found;
    } catch { /* a parent of another origin */ }
  }
  return null;
}

let linked = linkedPod();
if (linked) byId("filter").value = linked.slice(linked.indexOf("/") + 1);

/** Opens the linked pod once it is known. */
function openLinked() {
  if (!linked) return;
  for (const row of pods.values()) {
    if (`${row.pod.namespace}/${row.pod.name}` !== linked) continue;
    linked = null;
    choose(row.pod.uid);
    return;
  }
}

byId("filter").addEventListener("input", () => { arrangementIsStale = true; schedule(); });
byId("scroll").addEventListener("scroll", schedule, { passive: true });
byId("scroll").addEventListener("keydown", (event) => {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step || !arranged.length) return;
  event.preventDefault();
  const place = arranged.findIndex((row) => row.pod.uid === chosen);
  const next = Math.min(arranged.length - 1, Math.max(0, place + step));
  const top = next * ROW_HEIGHT;
  const box = byId("scroll");
  box.scrollTop = Math.max(Math.min(box.scrollTop, top), top + ROW_HEIGHT - box.clientHeight);
  choose(arranged[next].pod.uid);
});
addEventListener("keydown", (event) => { if (event.key === "Escape") choose(null); });
byId("close").addEventListener("click", () => choose(null));
byId("container").addEventListener("change", () => { const row = pods.get(chosen); if (row) followLog(row); });
addEventListener("resize", schedule);
setInterval(() => {
  if (lastEventAt && performance.now() - lastEventAt > STALE_AFTER) showConnection("lost", "the server is silent");
  schedule();
}, 1000);
setInterval(showHistory, HISTORY_PERIOD);

showHead();
connect();
showHistory();
