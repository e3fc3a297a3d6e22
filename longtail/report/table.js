"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const value = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.s === undefined ? cell.textContent : Number(cell.dataset.s);
  };
  const compare = (a, b) => (typeof a === "string" ? a.localeCompare(b) : a - b);
  table.querySelectorAll("thead button").forEach((button, column) => {
    button.addEventListener("click", () => {
      const rows = Array.from(body.rows, (row) => [value(row, column), row]);
      if (rows.length === 0) return;
      const head = button.closest("th");
      const first = typeof rows[0][0] === "string" ? "ascending" : "descending";
      const other = first === "ascending" ? "descending" : "ascending";
      const order = head.getAttribute("aria-sort") === first ? other : first;
      table.querySelectorAll("th[aria-sort]").forEach((th) => th.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      rows.sort(([a], [b]) => sign * compare(a, b));
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
