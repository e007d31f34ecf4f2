// The page "Pods": puts its parts together. Paths are relative to the page, wherever Airflow mounts it.
//
//   stream.js   what the server has sent          table.js     rows, counts, filter, order
//   frame.js    one frame for many changes        detail.js    one pod: facts, links, log
//   status.js   watches and problems              history.js   the last hour
//   theme.js    light or dark, as Airflow         dom.js       elements and texts
//   quantity.js cores and bytes

import { byId } from "./dom.js";
import { drawDetail, openDetail } from "./detail.js";
import { onFrame, schedule } from "./frame.js";
import { showHistory } from "./history.js";
import { drawStatus } from "./status.js";
import { checkConnection, connect, known } from "./stream.js";
import { arrangeAgain, drawTable, markRow, openTable } from "./table.js";

const HISTORY_PERIOD = 60000; // milliseconds

known.linked = linkedPod();

/** Returns `namespace/name` of a task's link, `?pod=...`, in the address of Airflow's page or of this one. */
function linkedPod() {
  for (const view of [window, parent]) {
    try {
      const found = new URLSearchParams(view.location.search).get("pod");
      if (found) return found;
    } catch { /* a parent of another origin */ }
  }
  return null;
}

/** Opens the linked pod once it is known. */
function openLinked() {
  const { linked, pods } = known;
  for (const { pod } of linked ? pods.values() : []) {
    if (`${pod.namespace}/${pod.name}` !== linked) continue;
    known.linked = null;
    choose(pod.uid);
    return;
  }
}

function choose(uid) {
  openDetail(uid);
  markRow(uid);
}

onFrame(() => {
  openLinked();
  drawTable();
  drawStatus();
  drawDetail();
});
openTable(choose);
byId("close").addEventListener("click", () => {
  choose(null);
  byId("scroll").focus();
});
addEventListener("keydown", (event) => {
  if (event.key === "Escape") choose(null);
  if (event.key !== "/" || event.target.matches("input, select") || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  byId("filter").focus();
});
if (known.linked) byId("filter").value = known.linked.slice(known.linked.indexOf("/") + 1);

connect((rowsChanged) => (rowsChanged ? arrangeAgain() : schedule()));
setInterval(() => {
  checkConnection();
  schedule();
}, 1000);
showHistory();
setInterval(showHistory, HISTORY_PERIOD);
