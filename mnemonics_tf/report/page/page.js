"use strict";
// What the pointer, or a finger, is on says its figure.
const tip = document.getElementById("tip");
let pointer = null;
function show() {
  const under = pointer && document.elementFromPoint(pointer.x, pointer.y);
  const part = under && under.closest("[data-tip]");
  tip.hidden = !part;
  if (!part) return;
  tip.textContent = part.dataset.tip;
  const margin = 12, box = tip.getBoundingClientRect();
  const left = Math.min(pointer.x + margin, window.innerWidth - box.width - margin);
  const above = pointer.y - box.height - margin;
  tip.style.left = `${Math.max(margin, left)}px`;
  tip.style.top = `${above > 0 ? above : pointer.y + margin}px`;
}
for (const name of ["pointermove", "pointerdown"]) {
  document.addEventListener(name, (event) => { pointer = { x: event.clientX, y: event.clientY }; show(); });
}
document.addEventListener("scroll", show, { passive: true });

// Boxes above a figure show and hide its series.
for (const choice of document.querySelectorAll(".choice")) {
  const figure = choice.nextElementSibling;
  choice.addEventListener("change", (event) => {
    const series = event.target.value;
    for (const part of figure.querySelectorAll(`[data-series="${series}"]`)) part.classList.toggle("off", !event.target.checked);
  });
}

// Sections with phases show the one that is picked.
for (const select of document.querySelectorAll(".pick select")) {
  const section = select.closest("section");
  const pick = () => {
    for (const part of section.querySelectorAll("[data-phase]")) part.classList.toggle("off", part.dataset.phase !== select.value);
  };
  select.addEventListener("change", pick);
  pick();
}
