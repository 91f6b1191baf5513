"use strict";
// Sorting of tables, and downloads of tables as CSV and of figures as SVG and PNG.

const raw = (cell) => cell.dataset.v ?? cell.textContent;

function sort(header) {
  const table = header.closest("table"), body = table.tBodies[0];
  const column = header.cellIndex, down = header.getAttribute("aria-sort") === "ascending";
  const rows = [...body.rows].map((row) => {
    const value = raw(row.cells[column]), number = Number(value);
    return { row, value, number: value === "" || Number.isNaN(number) ? null : number };
  });
  const compare = (a, b) =>
    a.number !== null && b.number !== null ? a.number - b.number
    : a.number !== null ? -1 : b.number !== null ? 1
    : a.value.localeCompare(b.value, "en", { numeric: true });
  // What has no value stays at the end, whichever way the others go.
  const missing = (each) => each.value === "" || each.value === "–";
  rows.sort((a, b) => missing(a) - missing(b) || (down ? compare(b, a) : compare(a, b)));
  body.append(...rows.map(({ row }) => row));
  for (const other of header.parentElement.cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", down ? "descending" : "ascending");
}

function csv(table) {
  const quoted = (text) => /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  const head = [...table.tHead.rows[0].cells].map((cell) => quoted(cell.dataset.csv));
  const rows = [...table.tBodies[0].rows].map((row) => [...row.cells].map((cell) => quoted(raw(cell))));
  return [head, ...rows].map((row) => row.join(",") + "\n").join("");
}

// As a file of its own: light colours instead of the page's variables, on white.
function svg(id) {
  const text = new XMLSerializer().serializeToString(document.querySelector(`#${id} svg`));
  return text.replace(/var\(--[\w-]+, ?(#\w+)\)/g, "$1").replace('style="', 'style="background: #fff; ');
}

function png(id) {
  const scale = 3, image = new Image();
  return new Promise((resolve, reject) => {
    image.onload = () => {
      const canvas = document.createElement("canvas"), context = canvas.getContext("2d");
      [canvas.width, canvas.height] = [image.width * scale, image.height * scale];
      context.fillStyle = "#fff";
      context.fillRect(0, 0, canvas.width, canvas.height);
      context.drawImage(image, 0, 0, canvas.width, canvas.height);
      canvas.toBlob(resolve, "image/png");
    };
    image.onerror = () => reject(new Error(`${id} is not an image that this browser can draw`));
    image.src = `data:image/svg+xml,${encodeURIComponent(svg(id))}`;
  });
}

function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

addEventListener("click", async (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  const { csvOf, svgOf, pngOf } = button.dataset;
  if (csvOf) save(new Blob([csv(document.getElementById(csvOf))], { type: "text/csv" }), `${csvOf}.csv`);
  else if (svgOf) save(new Blob([svg(svgOf)], { type: "image/svg+xml" }), `${svgOf}.svg`);
  else if (pngOf) save(await png(pngOf), `${pngOf}.png`);
  else if (button.closest("th")) sort(button.closest("th"));
});

// A printed page shows what the screen folds away, but for the table of all cells.
const folded = () => document.querySelectorAll("details:not([open], .screen)");
let opened = [];
addEventListener("beforeprint", () => { opened = [...folded()]; for (const each of opened) each.open = true; });
addEventListener("afterprint", () => { for (const each of opened) each.open = false; });
