// Everything here is comfort: without it the page shows the same numbers, labels and tables.
(() => {
  const root = document.documentElement;
  const tip = document.getElementById("tip");
  const owner = ".legend [data-series], tr[data-series]"; // what else stands for one variant
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];

  // Tooltips: the browser's own, for which a mark's <title> is, would come late and twice.
  const texts = new Map();
  all(".mark, .box").forEach((mark) => {
    const title = mark.querySelector("title");
    texts.set(mark, title.textContent);
    title.remove();
    mark.setAttribute("aria-label", texts.get(mark));
  });
  function show(mark, x, y) {
    tip.textContent = texts.get(mark);
    tip.hidden = false;
    const { width, height } = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(8, Math.min(x + 14, innerWidth - width - 8))}px`;
    tip.style.top = `${y + 18 + height > innerHeight ? Math.max(8, y - height - 12) : y + 18}px`;
  }
  function hide() {
    tip.hidden = true;
    light(null);
    at(null);
  }
  function under(event) { // of marks that lie on each other the one whose middle is nearest
    if (!event.target.closest?.(".mark, .box")) return null;
    const far = (mark) => {
      const box = mark.getBoundingClientRect();
      return Math.hypot(box.left + box.width / 2 - event.clientX, box.top + box.height / 2 - event.clientY);
    };
    const found = document.elementsFromPoint(event.clientX, event.clientY).map((each) => each.closest(".mark, .box"));
    return [...new Set(found)].filter(Boolean).reduce((a, b) => (far(b) < far(a) ? b : a));
  }
  function at(mark) {
    all(".mark.at").forEach((other) => other.classList.toggle("at", other === mark));
    if (mark) mark.classList.add("at");
  }
  document.addEventListener("pointermove", (event) => {
    const mark = under(event);
    at(mark);
    light((mark ?? event.target.closest?.(owner))?.dataset.series ?? null);
    if (mark) show(mark, event.clientX, event.clientY);
    else tip.hidden = true;
  });
  document.addEventListener("pointerdown", (event) => {
    const mark = under(event);
    if (mark) show(mark, event.clientX, event.clientY);
    else hide();
  });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
  for (const moved of ["wheel", "pointercancel"]) document.addEventListener(moved, hide, { passive: true });

  // The keyboard: a figure takes the focus once, the arrows walk over its marks.
  all(".chart svg").forEach((svg) => {
    svg.tabIndex = 0;
    let place = -1;
    svg.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      const marks = all(".mark:not(.off)", svg);
      if (!step || !marks.length) return;
      event.preventDefault();
      place = (place + step + marks.length) % marks.length;
      const mark = marks[place];
      const box = mark.getBoundingClientRect();
      at(mark);
      light(mark.dataset.series ?? null);
      show(mark, box.left + box.width / 2, box.top + box.height / 2);
    });
    svg.addEventListener("blur", hide);
  });

  // One variant at a time stands out, in all figures and tables; the legend also takes it out of the figures.
  let lit = null;
  function light(number) {
    if (number === lit) return;
    lit = number;
    all(".chart [data-series], .legend [data-series]").forEach((each) => {
      each.classList.toggle("dim", number != null && each.dataset.series !== number);
    });
    all("tr[data-series]").forEach((row) => row.classList.toggle("lit", number != null && row.dataset.series === number));
  }
  root.addEventListener("pointerleave", hide);
  all(".legend button").forEach((button) => {
    button.addEventListener("focus", () => { if (button.matches(":focus-visible")) light(button.dataset.series); });
    button.addEventListener("blur", () => light(null));
    button.addEventListener("click", () => {
      const shown = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", shown);
      all(".chart [data-series]").forEach((each) => {
        if (each.dataset.series === button.dataset.series) each.classList.toggle("off", !shown);
      });
    });
  });

  // Tables: a click on a heading sorts by its column, another the other way round.
  const key = (row, column) => {
    const cell = row.cells[column];
    if (cell.dataset.value !== undefined) return Number(cell.dataset.value);
    const text = cell.textContent.trim();
    const number = Number(text.replace("−", "-").replace(/[\s,]/g, ""));
    return text !== "" && !Number.isNaN(number) ? number : text.toLowerCase();
  };
  const order = (a, b) =>
    typeof a === typeof b ? (a > b ? 1 : a < b ? -1 : 0) : typeof a === "number" ? -1 : 1;
  all("table").forEach((table) => {
    const body = table.tBodies[0];
    if (body.rows.length < 3) return;
    all("thead tr:last-child th", table).forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const up = head.getAttribute("aria-sort") !== "ascending";
        all("thead th[aria-sort]", table).forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        const rows = [...body.rows].sort((a, b) => (up ? 1 : -1) * order(key(a, column), key(b, column)));
        body.append(...rows);
      });
    });
  });

  // Light and dark: the system's choice until this button is pressed.
  const button = document.createElement("button");
  const dark = () => (root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const label = () => { button.textContent = dark() ? "Light page" : "Dark page"; };
  button.type = "button";
  button.className = "theme";
  button.addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; label(); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", label);
  label();
  (matchMedia("(min-width: 64rem)").matches ? document.querySelector(".side") : document.querySelector("header")).append(button);
})();
