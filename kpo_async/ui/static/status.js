// How the watches fare, and what is wrong.

import { byId, duration, element, setText } from "./dom.js";
import { known, now } from "./stream.js";

const COLUMNS = 7; // of the table of watches
const NUMBERS = new Set([3, 4, 5]);

/** Draws the problems above the table and the watches below it. */
export function drawStatus() {
  const { watches, hidden, problem, hooked } = known;
  const problems = [];
  if (problem) problems.push(`${problem}. The API server's log says more.`);
  for (const watch of watches) {
    if (watch.state !== "failing") continue;
    const why = watch.problem || "Ask someone who may see this connection what is wrong with it";
    problems.push(`Connection ${watch.connection}, namespace ${watch.namespace}: ${why}`);
  }
  if (hidden.failing) problems.push("A cluster cannot be watched. Those who may see its connection find the reason on this page.");
  const box = byId("problems");
  box.hidden = problems.length === 0;
  if (box.dataset.text !== problems.join("\n")) {
    box.dataset.text = problems.join("\n");
    box.replaceChildren(...problems.map((text) => element("p", text)));
  }
  const failing = watches.filter((watch) => watch.state === "failing").length;
  const health = failing ? `, ${failing} failing` : ", all well";
  setText(byId("watch-summary"), watches.length ? `${watches.length}${health}` : "none that you may see");
  showHooked(hooked);
  const body = byId("watches");
  while (body.children.length > watches.length) body.lastChild.remove();
  watches.forEach((watch, place) => {
    const line = body.children[place] ?? addWatch(body);
    const age = watch.last_event_at === null ? "none yet" : `${duration(now() - watch.last_event_at * 1000)} ago`;
    const texts = [watch.connection, watch.namespace, watch.state, watch.pods, age, watch.relists, watch.problem];
    texts.forEach((text, column) => setText(line.children[column], String(text)));
  });
}

/** Says which pods the page may lack, because only workers and triggerers know their clusters. */
function showHooked(hooked) {
  const dags = Object.keys(hooked).sort();
  const number = Object.values(hooked).reduce((total, tasks) => total + tasks, 0);
  byId("hooked").hidden = number === 0;
  const tasks = number === 1 ? "1 deferred task has" : `${number} deferred tasks have`;
  setText(
    byId("hooked"),
    `${tasks} a cluster_hook (DAG ${dags.join(", ")}), whose code does not run in the API server: their pods are here ` +
      "only if a connection of another task leads to their namespace. The tasks' own logs have their lines.",
  );
}

function addWatch(body) {
  const line = element("tr");
  for (let column = 0; column < COLUMNS; column += 1) line.append(element("td", "", NUMBERS.has(column) ? "number" : ""));
  body.append(line);
  return line;
}
