"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const value = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.s === undefined ? cell.textContent : Number(cell.dataset.s);
  };
  table.querySelectorAll("thead button").forEach((button, column) => {
    button.addEventListener("click", () => {
      const head = button.closest("th");
      const down = head.getAttribute("aria-sort") !== "descending";
      table.querySelectorAll("th[aria-sort]").forEach((th) => th.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = Array.from(body.rows, (row) => [value(row, column), row]);
      rows.sort(([a], [b]) => (typeof a === "string" ? b.localeCompare(a) : b - a));
      if (!down) rows.reverse();
      body.append(...rows.map(([, row]) => row));
    });
  });
  const search = table.closest("details").querySelector("input");
  search.closest("p").hidden = false;
  search.addEventListener("input", () => {
    const wanted = search.value.toLowerCase();
    for (const row of body.rows) {
      row.hidden = !row.cells[0].textContent.toLowerCase().includes(wanted);
    }
  });
}
