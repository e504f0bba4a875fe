"use strict";
// What the pointer, or a finger, is on says its figure.
const tip = document.getElementById("tip");
function show(event) {
  const part = event.target.closest("[data-tip]");
  tip.hidden = !part;
  if (!part) return;
  tip.textContent = part.dataset.tip;
  const margin = 12, box = tip.getBoundingClientRect();
  const left = Math.min(event.clientX + margin, window.innerWidth - box.width - margin);
  const above = event.clientY - box.height - margin;
  tip.style.left = `${Math.max(margin, left)}px`;
  tip.style.top = `${above > 0 ? above : event.clientY + margin}px`;
}
for (const name of ["pointermove", "pointerdown"]) document.addEventListener(name, show);
document.addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });

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
