"use strict";
// Draws the charts, shows the pictures of a model on hover, goes to its row on a click, sorts tables.

const text = (value) => {
  const span = document.createElement("span");
  span.textContent = String(value);
  return span.innerHTML;
};

// The name of a model and its strips of pictures, taken from its row.
const model = (section, id) => {
  const row = document.getElementById(id);
  if (!row) return { name: "", strips: [] };
  const images = [...row.querySelectorAll("img")];
  const original = document.getElementById(`originals-${section}`);
  return {
    name: row.querySelector("code").textContent,
    strips: original && images.length ? [original, ...images] : [],
  };
};

const line = (key, html) => `<tr><td class="key">${text(key)}</td><td>${html}</td></tr>`;

const tooltip = (section) => (value) => {
  const { name, strips } = model(section, value.row);
  const facts = Object.entries(value).filter(([key, value]) => key !== "row" && value !== null);
  const lines = [
    ...facts.map(([key, number]) => line(key, text(number))),
    ...strips.map((image) => line(image.alt, `<img src="${image.src}">`)),
  ];
  return `<b>${text(name)}</b><table>${lines.join("")}</table>`;
};

const goTo = (id) => {
  const row = document.getElementById(id);
  if (!row) return;
  row.closest("details").open = true;
  location.hash = id;
  row.scrollIntoView({ block: "center" });
};

// On a narrow screen, charts take its width and their legend goes below.
const fit = (chart) => {
  const room = document.body.clientWidth - 100;
  if (room > 760) return chart;
  for (const part of chart.vconcat) part.width = Math.max(room, 200);
  chart.config = { ...chart.config, legend: { orient: "bottom", direction: "vertical" } };
  return chart;
};

for (const [section, chart] of Object.entries(CHARTS)) {
  vegaEmbed(`#chart-${section}`, fit(chart), {
    renderer: "svg",
    actions: { export: true, source: false, compiled: false, editor: false },
    bind: `#toggles-${section}`,
    tooltip: { formatTooltip: tooltip(section) },
  }).then(({ view }) => {
    view.addEventListener("click", (event, item) => {
      if (item && item.datum && item.datum.row) goTo(item.datum.row);
    });
    document.getElementById(`chart-${section}`).dataset.drawn = "yes";
  });
}

const key = (cell) => {
  const value = cell.dataset.value;
  if (value === undefined) return cell.textContent.trim();
  return value === "" ? -Infinity : Number(value);
};

for (const heading of document.querySelectorAll("table.sortable th")) {
  heading.tabIndex = 0;
  const sort = () => {
    const body = heading.closest("table").tBodies[0];
    const place = heading.cellIndex;
    const down = heading.getAttribute("aria-sort") === "ascending";
    for (const other of heading.parentElement.cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", down ? "descending" : "ascending");
    const sign = down ? -1 : 1;
    [...body.rows]
      .sort((a, b) => {
        const [x, y] = [key(a.cells[place]), key(b.cells[place])];
        return sign * (typeof x === "number" ? x - y : x.localeCompare(y));
      })
      .forEach((row) => body.append(row));
  };
  heading.addEventListener("click", sort);
  heading.addEventListener("keydown", (event) => event.key === "Enter" && sort());
}
