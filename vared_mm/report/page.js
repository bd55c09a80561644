"use strict";

const collator = new Intl.Collator("en", { numeric: true });

// Numbers before text; what is missing comes last, whichever way the rest is sorted.
function keyOf(cell) {
  const value = cell.dataset.value;
  if (value === undefined) return { kind: 1, key: cell.textContent };
  return value === "" ? { kind: 2, key: 0 } : { kind: 0, key: Number(value) };
}

function compare(a, b, sign) {
  if (a.kind !== b.kind) return a.kind - b.kind;
  if (a.kind === 1) return sign * collator.compare(a.key, b.key);
  return a.key === b.key ? 0 : sign * (a.key < b.key ? -1 : 1);
}

function sortBy(header) {
  const way = header.ariaSort === "ascending" ? "descending" : "ascending";
  for (const other of header.parentElement.cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", way);
  const body = header.closest("table").tBodies[0];
  const rows = [...body.rows].map((row) => ({ row, ...keyOf(row.cells[header.cellIndex]) }));
  rows.sort((a, b) => compare(a, b, way === "ascending" ? 1 : -1));
  body.append(...rows.map(({ row }) => row));
}

// A row stays if it holds every word.
function filter(section, box) {
  const words = box.value.toLowerCase().split(/\s+/);
  const rows = [...section.querySelectorAll("tbody tr")];
  for (const row of rows) {
    const text = [...row.cells].map((cell) => cell.textContent.toLowerCase()).join("\n");
    row.hidden = !words.every((word) => text.includes(word));
  }
  const left = rows.filter((row) => !row.hidden).length;
  section.querySelector("output").value = `${left} of ${rows.length} rows`;
}

for (const button of document.querySelectorAll("thead button"))
  button.addEventListener("click", () => sortBy(button.parentElement));
for (const box of document.querySelectorAll("input")) {
  const section = box.closest("section");
  box.addEventListener("input", () => filter(section, box));
  filter(section, box);
}

// Paper is white, whatever the screen is.
const media = {
  "light dark": "screen and (prefers-color-scheme: dark)",
  light: "not all",
  dark: "screen",
};
const colours = document.getElementById("colours");

function paint() {
  document.documentElement.style.colorScheme = colours.value;
  for (const source of document.querySelectorAll("source")) source.media = media[colours.value];
}

colours.addEventListener("change", paint);
// A browser that comes back to the page may have kept the choice.
paint();
