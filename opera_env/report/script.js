"use strict";
// Sorting: numbers by value, texts by alphabet; the second selection reverses the order.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const descending = head.getAttribute("aria-sort") !== "descending" && column > 0
      || column === 0 && head.getAttribute("aria-sort") === "ascending";
    const key = (row) => row.cells[column].dataset.value;
    const compare = (a, b) => {
      const x = Number(key(a)), y = Number(key(b));
      return key(a) === "" || key(b) === "" ? (key(a) === "") - (key(b) === "")
        : (Number.isNaN(x) || Number.isNaN(y) ? key(a).localeCompare(key(b)) : x - y) * (descending ? -1 : 1);
    };
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    table.tBodies[0].append(...[...table.tBodies[0].rows].sort(compare));
  }));
}
// A selection shows one of several blocks. A figure that was hidden has no size until then.
for (const select of document.querySelectorAll("select.switch")) {
  select.addEventListener("change", () => {
    for (const block of document.getElementsByClassName(select.dataset.target)) {
      block.hidden = block.dataset.index !== select.value;
      if (!block.hidden) block.querySelectorAll(".js-plotly-plot").forEach((plot) => Plotly.Plots.resize(plot));
    }
  });
}
for (const slider of document.querySelectorAll(".slider")) {
  const input = slider.querySelector("input");
  input.addEventListener("input", () => slider.style.setProperty("--cut", `${input.value}%`));
}
