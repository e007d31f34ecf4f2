// One pod: facts, links, and its log.

import { byId, element, setText } from "./dom.js";
import { shown } from "./quantity.js";
import { known } from "./stream.js";

const ROOT = new URL("..", document.baseURI); // Airflow's root: it mounts this page one level below
const LOG_LINES = 1000; // that the page keeps

function airflowPaths({ dag_id, task_id, run_id, map_index, try_number }) {
  const mapped = map_index >= 0 ? `/mapped/${map_index}` : "";
  const [dag, run, task] = [dag_id, run_id, task_id].map(encodeURIComponent);
  return {
    Task: `dags/${dag}/tasks/${task}`,
    Log: `dags/${dag}/runs/${run}/tasks/${task}${mapped}?try_number=${try_number}`,
    Run: `dags/${dag}/runs/${run}`,
  };
}

/** Returns the pod's URL in the deployment's own dashboard, empty without one. */
function dashboardUrl({ namespace, name }) {
  const url = known.dashboard.replaceAll("{namespace}", encodeURIComponent(namespace));
  return url && url.replaceAll("{name}", encodeURIComponent(name));
}

/** Returns a link. The frame may neither navigate Airflow's window nor open another, a link in that window may. */
function outerLink(text, url, isForeign) {
  const link = element("a", text);
  link.href = url;
  if (isForeign) Object.assign(link, { target: "_blank", rel: "noopener" });
  link.addEventListener("click", (event) => {
    const frame = parent === window ? null : parent.document;
    if (!frame) return;
    event.preventDefault();
    const outer = frame.createElement("a");
    Object.assign(outer, { href: link.href, target: link.target, rel: link.rel });
    if (event.ctrlKey || event.metaKey || event.shiftKey) outer.target = "_blank";
    frame.body.append(outer);
    outer.click();
    outer.remove();
  });
  return link;
}

function quantities(amounts) {
  return Object.entries(amounts).map(([name, amount]) => `${name} ${shown(amount)}`).join(", ");
}

function moment(text) {
  return text ? text.replace("T", " ").replace("Z", " UTC") : "";
}

const LOG_PAUSE = 200; // milliseconds without another choice until a log is read: the keys pass many pods

let chosen = null; // the uid of the pod
let waiting = 0; // the timer of that pause

/** Opens the pod with this uid, or closes the detail. */
export function openDetail(uid) {
  chosen = uid;
  const row = known.pods.get(uid);
  byId("detail").hidden = !row;
  if (row) {
    const { pod } = row;
    const links = Object.entries(airflowPaths(pod.task)).map(([name, path]) => outerLink(name, new URL(path, ROOT)));
    const dashboard = dashboardUrl(pod);
    if (dashboard) links.push(outerLink("Dashboard", dashboard, true));
    byId("detail-links").replaceChildren(...links);
    byId("container").replaceChildren(...pod.containers.map((name) => new Option(name, name, name === pod.base)));
    byId("container").value = pod.base;
    stopLog();
    showNote("");
    setText(byId("log-state"), "reading");
    byId("detail").scrollIntoView({ block: "nearest" }); // below the counts in a narrow window
    waiting = setTimeout(() => followLog(row), LOG_PAUSE);
  } else {
    stopLog();
  }
}

/** Draws the facts about the pod that is open. */
export function drawDetail() {
  const row = known.pods.get(chosen);
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
    Created: moment(pod.created_at),
    Started: moment(pod.started_at),
    Restarts: String(pod.restarts),
    Requests: quantities(pod.requests),
    Limits: quantities(pod.limits),
  };
  const shown = Object.entries(facts).filter(([, fact]) => fact);
  const list = byId("detail-facts");
  while (list.children.length > shown.length * 2) list.lastChild.remove();
  while (list.children.length < shown.length * 2) list.append(element("dt"), element("dd"));
  shown.forEach(([name, fact], place) => {
    setText(list.children[2 * place], name);
    setText(list.children[2 * place + 1], fact);
  });
  byId("container-choice").hidden = pod.containers.length === 0;
  // A container that starts while the pod is looked at.
  const names = [...byId("container").options].map((option) => option.value);
  for (const name of pod.containers) {
    if (names.includes(name)) continue;
    byId("container").append(new Option(name, name));
    if (name === pod.base) byId("container").value = name;
    if (!log && !waiting) followLog(row);
  }
}

let log = null;

function stopLog() {
  clearTimeout(waiting);
  waiting = 0;
  log?.close();
  log = null;
  byId("log").replaceChildren();
}

/** Shows why there is no log, or no more of it. */
function showNote(text) {
  byId("log-note").hidden = !text;
  setText(byId("log-note"), text);
}

function followLog(row) {
  stopLog();
  showNote("");
  const container = byId("container").value;
  if (!container) {
    setText(byId("log-state"), "");
    showNote("No container has started yet.");
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
    setText(byId("log-state"), "");
    showNote(JSON.parse(event.data).reason);
    source.close();
  });
  source.addEventListener("error", () => {
    if (source.readyState === EventSource.CLOSED) {
      setText(byId("log-state"), "");
      showNote("Airflow refused: the pod is gone, or you may not read this DAG's logs.");
    }
  });
}

byId("container").addEventListener("change", () => {
  const row = known.pods.get(chosen);
  if (row) followLog(row);
});

function appendLog(texts) {
  const box = byId("log");
  const atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
  box.append(...texts.map((text) => element("div", text || " ")));
  while (box.children.length > LOG_LINES) box.firstChild.remove();
  if (atEnd) box.scrollTop = box.scrollHeight;
}
