"use strict";
// One slide at a time: arrow keys, space, Page up and down, Home, End, or the buttons.

try { // as chosen on the other pages
  document.documentElement.dataset.theme = localStorage.getItem("theme") || "light";
} catch { /* private window */ }

const slides = [...document.querySelectorAll(".slide")];
const back = document.getElementById("back");
const next = document.getElementById("next");
let current = 0;

function show(number) {
  current = Math.min(Math.max(number, 0), slides.length - 1);
  slides.forEach((slide, i) => { slide.hidden = i !== current; });
  document.getElementById("place").textContent = `${current + 1} of ${slides.length}`;
  back.disabled = current === 0;
  next.disabled = current === slides.length - 1;
  history.replaceState(null, "", `#${current + 1}`);
  window.scrollTo(0, 0);
}

const moves = {
  ArrowRight: 1, ArrowDown: 1, PageDown: 1, " ": 1, ArrowLeft: -1, ArrowUp: -1, PageUp: -1,
  Home: -slides.length, End: slides.length,
};

document.addEventListener("keydown", (event) => {
  const pressing = ["BUTTON", "A", "SUMMARY"].includes(event.target.tagName) && event.key === " ";
  if (!(event.key in moves) || pressing || event.altKey || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  show(current + moves[event.key]);
});
back.addEventListener("click", () => show(current - 1));
next.addEventListener("click", () => show(current + 1));
window.addEventListener("hashchange", () => show(Number(location.hash.slice(1)) - 1));
back.hidden = next.hidden = false;
document.body.classList.add("paged");
show((Number(location.hash.slice(1)) || 1) - 1);
