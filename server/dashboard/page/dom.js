// Elements from data. Text is only ever set as text: what a model, a caller or a tenant wrote cannot become markup.

export const byId = (id) => document.getElementById(id);

/** An element; `attributes` may hold `class`, `data-…`, `aria-…`. Children are nodes or text; null is left out. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) made.setAttribute(key, value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

/** A table's head and body anew; each column has `title` and `cell(row)`, and `number` if it is to stand right. */
export function fillTable(table, columns, rows, empty) {
  const head = columns.map((column) =>
    element("th", { scope: "col", class: cellClass(column) }, column.title),
  );
  const body = rows.map((row) =>
    element("tr", row.isOwn ? { class: "own" } : {}, columns.map((column, index) =>
      element(index === 0 ? "th" : "td", { scope: index === 0 ? "row" : null, class: cellClass(column) }, column.cell(row)),
    )),
  );
  if (rows.length === 0) {
    body.push(element("tr", {}, element("td", { colspan: String(columns.length), class: "faint" }, empty)));
  }
  table.replaceChildren(element("thead", {}, element("tr", {}, head)), element("tbody", {}, body));
}

function cellClass(column) {
  return [column.number ? "number" : "", column.minor ? "minor" : ""].join(" ").trim() || null;
}

/** What is not known, with the reason where one is told. */
export function unknown(reason) {
  return element("span", { class: "unknown" }, "not known", reason ? element("span", { class: "why" }, reason) : null);
}

export function badge(text, kind) {
  return element("span", { class: "badge", "data-kind": kind }, text);
}

/** Whether energy was read from hardware, in words and not in colour alone. */
export function meterBadge(measured, source) {
  if (source === null || source === undefined) return badge("not metered", "none");
  return measured ? badge(`measured, ${source}`, "measured") : badge("estimated", "estimated");
}
