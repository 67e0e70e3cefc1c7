
"use strict";
// Every table sorts by a click on a column's title. An address that ends in
// #sort=TABLE,COLUMN,ascending (columns count from 1) opens the page sorted.
(() => {
  const MISSING = /^(|–|none|not run|nan)$/i;
  // A number before anything else: 0.343 [0.310, 0.371], +0.2, 1,128, <0.001, 30 %
  const NUMBER = /^<?([+-]?[\d,]*\.?\d+(?:e[+-]?\d+)?)(?=$|[\s%[])/i;
  const original = new Map();

  function number(text) {
    const value = Number(NUMBER.exec(text)[1].replaceAll(",", ""));
    return text.startsWith("<") ? value - 1e-9 : value;
  }

  function keys(rows, column) {
    const texts = rows.map((row) => row.cells[column].textContent.trim());
    const numeric = texts.every((text) => MISSING.test(text) || NUMBER.test(text));
    return texts.map((text) => (MISSING.test(text) ? null : numeric ? number(text) : text));
  }

  function compare(a, b) {
    if (typeof a === "number") return a - b;
    return a.localeCompare(b, "en", { numeric: true });
  }

  function sort(table, column, order) {
    const rows = original.get(table);
    const by = keys(rows, column);
    const sign = order === "descending" ? -1 : 1;
    const places = rows.map((_, place) => place).sort((i, j) => {
      if (by[i] === null || by[j] === null) return (by[i] === null) - (by[j] === null);
      return sign * compare(by[i], by[j]);
    });
    table.tBodies[0].append(...places.map((place) => rows[place]));
    [...table.tHead.rows[0].cells].forEach((th, place) => {
      if (place === column) th.setAttribute("aria-sort", order);
      else th.removeAttribute("aria-sort");
    });
  }

  function follow() {
    const found = /^#sort=([\w-]+),(\d+),(ascending|descending)$/.exec(location.hash);
    const table = found && document.getElementById(found[1]);
    const column = found && Number(found[2]) - 1;
    if (!original.has(table) || !table.tHead.rows[0].cells[column]) return;
    for (let box = table.closest("details"); box; box = box.parentElement.closest("details")) {
      box.open = true;
    }
    sort(table, column, found[3]);
    table.closest(".scroll").scrollIntoView();
  }

  for (const table of document.querySelectorAll("table")) {
    original.set(table, [...table.tBodies[0].rows]);
    [...table.tHead.rows[0].cells].forEach((th, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...th.childNodes);
      th.append(button);
      button.addEventListener("click", () => {
        const order = th.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
        sort(table, column, order);
        history.replaceState(null, "", `#sort=${table.id},${column + 1},${order}`);
      });
    });
  }
  addEventListener("hashchange", follow);
  follow();
})();
