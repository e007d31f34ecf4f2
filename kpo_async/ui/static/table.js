// The table and the counts above it: which rows are shown, in which order. Only the rows in sight exist.

import { byId, duration, element, setText } from "./dom.js";
import { schedule } from "./frame.js";
import { hasBegun, known, now } from "./stream.js";

const ROW_HEIGHT = 30; // as in pods.css
const KINDS = { Running: "ok", Succeeded: "ok", Pending: "wait", Failed: "bad", Unknown: "bad" };
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
let isStale = true;
let chosen = null; // the uid of the pod whose row is marked
let onChoice = () => {};

/** Shows the table's head. `choice(uid)` is called when a row is clicked or reached by a key. */
export function openTable(choice) {
  onChoice = choice;
  showHead();
  byId("filter").addEventListener("input", arrangeAgain);
  byId("scroll").addEventListener("scroll", schedule, { passive: true });
  byId("scroll").addEventListener("keydown", moveChoice);
  addEventListener("resize", schedule);
}

/** Draws what has changed. */
export function drawTable() {
  if (isStale) {
    arrange();
    showCounts();
    isStale = false;
  }
  showRows();
}

/** Marks the row of a pod, or none. */
export function markRow(uid) {
  chosen = uid;
  schedule();
}

/** Has the rows filtered and sorted again. */
export function arrangeAgain() {
  isStale = true;
  schedule();
}

function arrange() {
  const wanted = byId("filter").value.trim().toLowerCase();
  const { key } = COLUMNS[sort.column];
  const sign = sort.descending ? -1 : 1;
  arranged = [];
  for (const row of known.pods.values()) {
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
    for (const row of known.pods.values()) counts.set(group.key(row), (counts.get(group.key(row)) ?? 0) + 1);
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
    arrangeAgain();
  });
  item.append(button);
  list.append(item);
  return button;
}

// ---- Rows.

const lines = []; // the elements of rows, used again for other pods

function makeLine() {
  const line = element("div", "", "row");
  line.setAttribute("role", "row");
  for (const className of ["task", "phase", "number", "muted", "explanation", "number", "muted", "muted"]) {
    const cell = element("span", "", className);
    cell.setAttribute("role", "cell");
    line.append(cell);
  }
  line.addEventListener("click", () => onChoice(line.dataset.uid));
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
  const { size } = known.pods;
  setText(byId("total"), arranged.length === size ? `${size} pods` : `${arranged.length} of ${size} pods`);
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
  if (!hasBegun()) return "Waiting for the server.";
  if (known.pods.size) return "No pod matches the filter.";
  if (known.watches.some(({ state }) => state === "connecting" || state === "syncing")) return "Reading the pods.";
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
    showHead();
    arrangeAgain();
  });
  byId("head").append(button);
  return button;
}

/** Moves the choice up or down by the arrow keys, and scrolls to it. */
function moveChoice(event) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step || !arranged.length) return;
  event.preventDefault();
  const place = arranged.findIndex((row) => row.pod.uid === chosen);
  const next = Math.min(arranged.length - 1, Math.max(0, place + step));
  const box = byId("scroll");
  const top = next * ROW_HEIGHT;
  box.scrollTop = Math.max(Math.min(box.scrollTop, top), top + ROW_HEIGHT - box.clientHeight);
  onChoice(arranged[next].pod.uid);
}
