// The last hour, from Airflow's database.

import { byId, setText } from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";

/** Draws a bar for each minute, and the sums in words. */
export async function showHistory() {
  const response = await fetch("history").catch(() => null); // a server that restarts
  if (!response?.ok) {
    showCaption("The last hour is not known: Airflow did not answer.");
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
  showCaption(
    `Tasks with a pod: at most ${Math.max(...living)} at once`,
    `${sum(succeeded)} succeeded`,
    `${sum(failed)} failed`,
  );
}

function showCaption(...texts) {
  [...byId("history-caption").children].forEach((part, place) => setText(part, texts[place] ?? ""));
}
