"use strict";
// Light and dark, and the search: all on this page, nothing is fetched.

const root = document.documentElement;
const memory = {
  get(key) { try { return localStorage.getItem(key); } catch { return null; } },
  set(key, value) { try { localStorage.setItem(key, value); } catch { /* private window */ } },
};

function paint(theme) {
  root.dataset.theme = theme;
  const button = document.getElementById("theme");
  if (button) {
    button.textContent = theme === "dark" ? "Light" : "Dark";
    button.setAttribute("aria-label", `Change to ${theme === "dark" ? "light" : "dark"} mode`);
  }
}

const wishes = window.matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
paint(memory.get("theme") || wishes);

const LIMIT = 20; // results shown
const AROUND = 70; // characters of text on each side of what was found

function words(query) {
  return query.toLowerCase().split(/\s+/).filter((word) => word.length > 1);
}

// An entry counts if it has every word: much for one in the title, little for one in the text.
function score(entry, wanted) {
  const title = entry.title.toLowerCase();
  const text = entry.text.toLowerCase();
  let total = 0;
  for (const word of wanted) {
    const inTitle = title.includes(word);
    const inText = text.split(word).length - 1;
    if (!inTitle && !inText) return 0;
    total += (inTitle ? 20 : 0) + (title === `glossary: ${word}` ? 40 : 0) + Math.min(inText, 8);
  }
  return total;
}

function find(query) {
  const wanted = words(query);
  if (!wanted.length) return [];
  return window.SEARCH_INDEX
    .map((entry) => ({ entry, points: score(entry, wanted) }))
    .filter((found) => found.points > 0)
    .sort((a, b) => b.points - a.points);
}

function element(name, text) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  return made;
}

function snippet(text, word) {
  const at = Math.max(text.toLowerCase().indexOf(word), 0);
  const line = element("p");
  const start = Math.max(at - AROUND, 0);
  line.append((start ? "… " : "") + text.slice(start, at));
  line.append(element("mark", text.slice(at, at + word.length)));
  line.append(text.slice(at + word.length, at + word.length + AROUND) + " …");
  return line;
}

function showResults(query) {
  const box = document.getElementById("results");
  box.replaceChildren();
  box.hidden = !words(query).length;
  if (box.hidden) return;
  const found = find(query);
  const count = found.length === 1 ? "1 place" : `${found.length} places`;
  box.append(element("p", found.length ? `${count} with “${query.trim()}”` : `Nothing found for “${query.trim()}”`));
  const list = element("ol");
  for (const { entry } of found.slice(0, LIMIT)) {
    const item = element("li");
    const link = element("a", entry.title);
    link.href = entry.url;
    link.addEventListener("click", () => { box.hidden = true; });
    item.append(link, snippet(entry.text, words(query)[0]));
    list.append(item);
  }
  box.append(list);
}

document.addEventListener("DOMContentLoaded", () => {
  paint(root.dataset.theme);
  document.getElementById("theme").addEventListener("click", () => {
    const next = root.dataset.theme === "dark" ? "light" : "dark";
    memory.set("theme", next);
    paint(next);
  });
  const field = document.getElementById("query");
  field.addEventListener("input", () => showResults(field.value));
  field.form.addEventListener("submit", (event) => {
    event.preventDefault();
    document.querySelector("#results a")?.focus();
  });
  document.addEventListener("keydown", (event) => {
    const typing = ["INPUT", "TEXTAREA"].includes(document.activeElement.tagName);
    if (event.key === "/" && !typing) {
      event.preventDefault();
      field.focus();
    }
    if (event.key === "Escape") {
      field.value = "";
      showResults("");
      field.focus();
    }
  });
  if (window.innerWidth < 960) {
    for (const part of document.querySelectorAll(".menu details")) part.open = false;
  }
});
