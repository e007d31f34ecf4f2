// What the server has sent. `kpo_async/ui/stream.py` describes the events.

import { byId, setText } from "./dom.js";
import { amount } from "./quantity.js";

const STALE_AFTER = 5000; // milliseconds without an event, of which there is one each second

/** What is known. Listeners of `connect` are called after each change. */
export const known = {
  pods: new Map(), // uid -> row
  watches: [],
  hidden: {}, // how many watches the user may not know of, by state
  problem: "",
  hooked: {}, // how many deferred tasks have a cluster_hook, by DAG
  dashboard: "", // the URL of a pod in the deployment's dashboard, with {namespace} and {name}
  linked: null, // `namespace/name` of the pod that a link asks for, until it is found
};

let clockOffset = 0; // milliseconds that the server's clock is ahead
let lastEventAt = 0;

/** Returns the server's time in milliseconds. */
export function now() {
  return Date.now() + clockOffset;
}

/** Whether the server has sent anything. */
export function hasBegun() {
  return lastEventAt > 0;
}

/** Returns a row: the pod, and what is computed once per change instead of once per frame. */
function makeRow({ place, pod }) {
  const { task } = pod;
  const index = task.map_index >= 0 ? ` [${task.map_index}]` : "";
  const label = `${task.dag_id}.${task.task_id}${index}`;
  const words = [label, task.run_id, pod.namespace, pod.name, pod.node, pod.explanation];
  return {
    place,
    pod,
    label,
    phase: pod.terminating ? "Terminating" : pod.phase,
    created: pod.created_at ? Date.parse(pod.created_at) : 0,
    cpu: amount(pod.requests.cpu ?? pod.limits.cpu),
    memory: amount(pod.requests.memory ?? pod.limits.memory),
    text: words.join("\n").toLowerCase(),
  };
}

/** Opens the stream. `changed(rowsChanged)` is called after each event. */
export function connect(changed) {
  const source = new EventSource("stream");
  const receive = (event) => changed(take(event.type, JSON.parse(event.data)));
  source.addEventListener("snapshot", receive);
  source.addEventListener("change", receive);
  source.addEventListener("error", () => {
    // The browser opens an ended stream again by itself, but not one that was refused.
    if (source.readyState === EventSource.CLOSED) showConnection("lost", "refused: log in again and reload");
  });
}

/** Takes an event in, and returns whether a row is new, changed or gone. */
function take(name, data) {
  const { pods } = known;
  lastEventAt = performance.now();
  clockOffset = data.now * 1000 - Date.now();
  const gone = new Set(data.removed);
  if (name === "snapshot") {
    const present = new Set(data.pods.map((row) => row.pod.uid));
    for (const uid of pods.keys()) if (!present.has(uid)) gone.add(uid);
  }
  for (const uid of gone) pods.delete(uid);
  for (const row of data.pods) pods.set(row.pod.uid, makeRow(row));
  for (const part of ["watches", "hidden", "problem", "hooked", "dashboard"]) known[part] = data[part];
  showConnection("live", "live");
  return gone.size > 0 || data.pods.length > 0;
}

/** Shows that the stream is silent, if it is. */
export function checkConnection() {
  if (lastEventAt && performance.now() - lastEventAt > STALE_AFTER) showConnection("lost", "the server is silent");
}

function showConnection(state, text) {
  byId("connection").dataset.state = state;
  setText(byId("connection"), text);
}
