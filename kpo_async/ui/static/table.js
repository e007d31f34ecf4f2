// The table and the counts above it: which rows are shown, in which order. Only the rows in sight exist.

import { byId, duration, element, setText } from "./dom.js";
import { schedule } from "./frame.js";
import { pair } from "./quantity.js";
import { hasBegun, known, now } from "./stream.js";

const ROW_HEIGHT = 30; // as in pods.css
const KINDS = { Running: "ok", Succeeded: "ok", Pending: "wait", Failed: "bad", Unknown: "bad" };
const COLUMNS = [
  { name: "Task", key: (row) => row.label },
  { name: "Phase", key: (row) => row.phase, style: "phase" },
  { name: "Age", key: (row) => -row.created, style: "number" },
  { name: "Node", key: (row) => row.pod.node, style: "muted" },
  { name: "Waits for", key: (row) => row.pod.explanation },
  { name: "Restarts", key: (row) => row.pod.restarts, style: "number" },
  { name: "Namespace", key: (row) => row.pod.namespace, style: "muted" },
  { name: "CPU", key: (row) => row.cpu, style: "number muted", hint: "requests / limits" },
  { name: "Memory", key: (row) => row.memory, style: "number muted", hint: "requests / limits" },
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
  byId("filter").addEventListener("input", () => {
    known.linked = null;
    arrangeAgain();
  });
  byId("show-all").addEventListener("click", showAll);
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

function showAll() {
  byId("filter").value = "";
  known.linked = null;
  for (const group of GROUPS) group.chosen = null;
  arrangeAgain();
  byId("filter").focus();
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
  line.id = `row-${lines.length}`;
  for (const { style } of COLUMNS) {
    const cell = element("span", "", style);
    cell.setAttribute("role", "gridcell");
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
  scroll.setAttribute("aria-rowcount", String(arranged.length + 1));
  markActive(scroll);
  const nothing = arranged.length === 0;
  byId("empty").hidden = !nothing;
  if (nothing) setText(byId("empty"), emptyText());
  const { size } = known.pods;
  const isFiltered = arranged.length !== size;
  setText(byId("total"), isFiltered ? `${arranged.length} of ${size} pods` : `${size} pods`);
  byId("show-all").hidden = !isFiltered && byId("filter").value === "";
}

/** Tells assistive technology which row is chosen, where it exists. */
function markActive(grid) {
  const line = lines.find(({ hidden, dataset }) => !hidden && dataset.uid === chosen);
  if (line) grid.setAttribute("aria-activedescendant", line.id);
  else grid.removeAttribute("aria-activedescendant");
}

function showRow(line, row, place) {
  const { pod } = row;
  line.hidden = false;
  line.dataset.uid = pod.uid;
  line.setAttribute("aria-rowindex", String(place + 2)); // the head is the first
  line.setAttribute("aria-selected", String(pod.uid === chosen));
  const top = `${place * ROW_HEIGHT}px`;
  if (line.style.top !== top) line.style.top = top;
  const attempt = pod.attempt > 1 ? `, pod ${pod.attempt}` : "";
  const retry = pod.task.try_number > 1 || attempt ? ` (try ${pod.task.try_number}${attempt})` : "";
  const texts = [
    row.label + retry, row.phase, duration(now() - row.created), pod.node || "–",
    pod.explanation, pod.restarts ? String(pod.restarts) : "", pod.namespace,
    pair(pod.requests.cpu, pod.limits.cpu), pair(pod.requests.memory, pod.limits.memory),
  ];
  texts.forEach((text, column) => setText(line.children[column], text));
  const kind = pod.verdict === "failed" || pod.verdict === "lost" ? "bad" : KINDS[row.phase] ?? "wait";
  line.children[1].dataset.kind = kind;
  for (const [column, title] of [[0, row.label], [3, pod.node], [4, pod.explanation], [6, pod.namespace]]) {
    if (line.children[column].title !== title) line.children[column].title = title;
  }
}

function emptyText() {
  if (!hasBegun()) return "Waiting for the server.";
  const { pods, watches, hidden, linked } = known;
  if ([...watches, ...Object.keys(hidden).map((state) => ({ state }))].some(isOpening)) return "Reading the pods.";
  if (linked) {
    return `Pod ${linked} is not on this page: it is gone or done, you may not see it, or its task has a cluster_hook, ` +
      "whose code does not run in the API server. The task's log has its lines.";
  }
  if (pods.size) return "No pod matches the filter.";
  if (known.problem) return "";
  if (!watches.length && !Object.keys(hidden).length) return "No task of this Airflow has created a pod yet.";
  if (watches.some(({ state }) => state === "failing")) return "No pods, as far as is known: see the problem above.";
  return "No living pods that you may see. The logs of ended tasks are on the tasks' own pages.";
}

function isOpening({ state }) {
  return state === "connecting" || state === "syncing";
}

function showHead() {
  COLUMNS.forEach((column, place) => {
    const heading = byId("head").children[place] ?? addHeading(column, place);
    const direction = sort.descending ? "descending" : "ascending";
    heading.setAttribute("aria-sort", place === sort.column ? direction : "none");
  });
}

function addHeading(column, place) {
  const heading = element("div", "", column.style?.includes("number") ? "number" : "");
  heading.setAttribute("role", "columnheader");
  const button = element("button", column.name);
  if (column.hint) button.title = column.hint;
  button.type = "button";
  button.addEventListener("click", () => {
    sort = { column: place, descending: sort.column === place && !sort.descending };
    showHead();
    arrangeAgain();
  });
  heading.append(button);
  byId("head").append(heading);
  return heading;
}

/** Moves the choice by the arrow keys, page keys, Home and End, and scrolls to it. */
function moveChoice(event) {
  const box = byId("scroll");
  const page = Math.max(1, Math.floor(box.clientHeight / ROW_HEIGHT) - 2);
  const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
  const step = steps[event.key];
  if (!step || !arranged.length || event.target !== box) return;
  event.preventDefault();
  const place = arranged.findIndex((row) => row.pod.uid === chosen);
  const next = Math.min(arranged.length - 1, Math.max(0, place + step));
  const top = next * ROW_HEIGHT; // below the head, which covers one row's height
  box.scrollTop = Math.max(Math.min(box.scrollTop, top), top + 2 * ROW_HEIGHT - box.clientHeight);
  onChoice(arranged[next].pod.uid);
}
