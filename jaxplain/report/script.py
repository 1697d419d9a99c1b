"""The script of an interactive page, and the policy that admits it and nothing else.

A page without examples to sort has no script, and neither has one that was written without it. Everything is in the
page before the script runs: it makes buttons of the heads, shows the filters, and reads values off the maps.
"""

from __future__ import annotations

import base64
import hashlib

from jaxplain.report.foreign import POLICY

SCRIPT = """"use strict";
(() => {
const make = (tag, parent, text, more) => {
  const made = Object.assign(document.createElement(tag), more);
  if (text) made.textContent = text;
  if (parent) parent.append(made);
  return made;
};
const written = value => (value > 0 ? "+" : "") + Number(value.toPrecision(3));

// A map's values: 16 bits of each cell in red and green, times the end of its scale.
const known = new WeakMap();
const cells = map => {
  if (!known.has(map)) {
    const [width, height] = [map.naturalWidth, map.naturalHeight];
    const canvas = Object.assign(document.createElement("canvas"), {width, height});
    const context = canvas.getContext("2d", {willReadFrequently: true});
    context.drawImage(map, 0, 0);
    known.set(map, {width, height, data: context.getImageData(0, 0, width, height).data});
  }
  return known.get(map);
};
const at = (map, across, down) => {
  const {width, height, data} = cells(map);
  const clip = (share, size) => Math.max(0, Math.min(size - 1, Math.floor(share * size)));
  const [column, row] = [clip(across, width), clip(down, height)];
  const place = 4 * (row * width + column);
  return {row, column, width, height,
    value: (256 * data[place] + data[place + 1] - 32768) / 32767 * Number(map.dataset.end)};
};
const share = (event, map) => {
  const box = map.getBoundingClientRect();
  return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
};

const tip = make("div", document.body, "", {className: "tip", hidden: true});
tip.setAttribute("aria-hidden", "true");
document.addEventListener("pointermove", event => {
  const map = event.target.closest ? event.target.closest(".map") : null;
  tip.hidden = !map || !map.complete || !map.naturalWidth;
  if (tip.hidden) return;
  const found = at(map, ...share(event, map));
  tip.textContent = `row ${found.row + 1}, column ${found.column + 1}: ${written(found.value)}`;
  tip.style.left = Math.max(0, Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 4)) + "px";
  tip.style.top = Math.max(0, event.clientY - 34) + "px";
});

// One example from near: its maps large, and the value of the cell that two number fields name.
const dialog = make("dialog", document.body);
dialog.setAttribute("aria-labelledby", "near");
const title = make("h3", dialog, "", {id: "near"}), line = make("p", dialog), words = make("p", dialog);
const views = make("div", dialog, "", {className: "views"});
const field = name => make("input", make("label", line, name + " "), "", {type: "number", min: 1, value: 1});
const down = field("row"), across = field("column");
const said = make("output", words);
said.setAttribute("aria-live", "polite");
make("button", line, "close", {type: "button", onclick: () => dialog.close()});
let shown = [];
const say = () => {
  if (!shown.length) return;
  const place = [(across.value - 0.5) / across.max, (down.value - 0.5) / down.max];
  said.textContent = shown.map(({map, mark}) => {
    const found = at(map, ...place);
    Object.assign(mark.style, {
      left: 100 * found.column / found.width + "%", width: 100 / found.width + "%",
      top: 100 * found.row / found.height + "%", height: 100 / found.height + "%"});
    return `${map.dataset.method} ${written(found.value)}`;
  }).join(", ");
};
down.oninput = across.oninput = say;
const near = async row => {
  const maps = [...row.querySelectorAll(".map")].filter(map => map.getClientRects().length);
  await Promise.all(maps.map(map => map.decode()));
  title.textContent = "example " + row.cells[0].textContent;
  views.replaceChildren();
  shown = maps.map(map => {
    const figure = make("figure", views), frame = make("div", figure, "", {className: "frame"});
    const copy = map.cloneNode();
    copy.loading = "eager";
    copy.style.filter = getComputedStyle(map).filter;
    frame.append(copy);
    frame.onclick = event => {
      const [x, y] = share(event, copy);
      across.value = Math.min(across.max, Math.floor(x * across.max) + 1);
      down.value = Math.min(down.max, Math.floor(y * down.max) + 1);
      say();
    };
    make("figcaption", figure, map.dataset.method);
    return {map, mark: make("i", frame)};
  });
  across.max = Math.max(...maps.map(map => map.naturalWidth));
  down.max = Math.max(...maps.map(map => map.naturalHeight));
  across.value = Math.min(across.value, across.max);
  down.value = Math.min(down.value, down.max);
  dialog.showModal();
  say();
};

for (const gallery of document.querySelectorAll(".gallery")) {
  const body = gallery.querySelector("tbody"), rows = [...body.rows], count = gallery.querySelector("output");
  const keys = new Map(rows.map(row => [row, row.dataset.keys.split(" ").map(Number)]));
  const key = (row, column) => keys.get(row)[column];
  const filters = [...gallery.querySelectorAll("[data-by]")];
  let order = "";
  const tests = {
    class: (row, value) => row.dataset.class === value,
    right: (row, value) => row.dataset.right === value,
    least: (row, value, column) => key(row, column) >= Number(value),
    most: (row, value, column) => key(row, column) <= Number(value),
    size: (row, value, column) => Math.abs(key(row, column)) <= Number(value),
  };
  const tools = gallery.querySelector(".filters");
  const tell = () => {
    if (!tools) return;
    const left = rows.filter(row => !row.hidden).length;
    count.textContent = `${left} of ${rows.length} examples${order}`;
  };
  const filter = () => {
    for (const row of rows)
      row.hidden = !filters.every(f => !f.value || tests[f.dataset.by](row, f.value, f.dataset.column));
    tell();
  };
  for (const control of filters) control.addEventListener("input", filter);
  if (tools) {
    tools.hidden = false;
    tools.querySelector("button").onclick = () => {
      for (const control of filters) control.value = "";
      filter();
    };
  }

  const heads = [...gallery.querySelectorAll("th[data-first]")];
  for (const head of heads) {
    const button = make("button", null, head.textContent, {type: "button"});
    head.replaceChildren(button);
    head.setAttribute("aria-sort", "none");
    button.onclick = () => {
      const was = head.getAttribute("aria-sort"), column = Number(head.dataset.column);
      const way = was === "none" ? head.dataset.first : was === "ascending" ? "descending" : "ascending";
      for (const other of heads) other.setAttribute("aria-sort", other === head ? way : "none");
      const sign = way === "ascending" ? 1 : -1;
      const places = new Map(rows.map((row, place) => [row, place]));
      const sorted = [...rows].sort((a, b) => {
        const [x, y] = [key(a, column), key(b, column)];
        return isNaN(x) - isNaN(y) || (isNaN(x) ? 0 : sign * (x - y)) || places.get(a) - places.get(b);
      });
      body.append(...sorted);
      order = `, by ${button.textContent}, ${way}`;
      tell();
    };
  }
  for (const row of rows) {
    if (!row.querySelector(".map")) continue;
    const head = row.cells[0], button = make("button", null, head.textContent, {type: "button", className: "near"});
    button.setAttribute("aria-haspopup", "dialog");
    button.title = "look at its values";
    head.replaceChildren(button);
    button.onclick = () => near(row);
    for (const map of row.querySelectorAll(".map")) map.onclick = () => near(row);
  }
  tell();
}
})();
"""

_DIGEST = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode("ascii")

POLICY_OF_SCRIPT = POLICY.replace("base-uri", f"script-src 'sha256-{_DIGEST}'; base-uri")
"""The page's policy with this one script by its hash; a handler or any other script is still forbidden."""
