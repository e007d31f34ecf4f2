// How the watches fare, and what is wrong.

import { byId, duration, element, setText } from "./dom.js";
import { known, now } from "./stream.js";

const COLUMNS = 7; // of the table of watches

/** Draws the problems above the table and the watches below it. */
export function drawStatus() {
  const { watches, hidden, problem } = known;
  const problems = [];
  if (problem) problems.push(`${problem}. The API server's log says more.`);
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
    box.replaceChildren(...problems.map((text) => element("p", text)));
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
  for (let column = 0; column < COLUMNS; column += 1) line.append(element("td"));
  body.append(line);
  return line;
}
