// One frame for any number of changes.

let draw = () => {};
let scheduled = false;

/** Sets what draws the page. */
export function onFrame(callback) {
  draw = callback;
}

/** Has the page drawn with the next frame. */
export function schedule() {
  if (scheduled) return;
  scheduled = true;
  requestAnimationFrame(() => {
    scheduled = false;
    draw();
  });
}
