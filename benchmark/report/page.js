// Tables sort by a click on a head: ascending, descending, as they came. By numbers, in brackets or not; cells without
// one come last, in the order of their text.
for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0];
  const asTheyCame = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    const key = (row) => {
      const text = row.cells[column].textContent;
      return [column === 0 ? Number.NaN : Number.parseFloat(text.replace(/^\(/, "")), text];
    };
    button.addEventListener("click", () => {
      const next = { ascending: "descending", descending: "none" }[head.ariaSort] ?? "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      const sign = next === "descending" ? -1 : 1;
      const rows = [...asTheyCame];
      if (next !== "none") {
        head.ariaSort = next;
        rows.sort((one, other) => {
          const [[a, text], [b, otherText]] = [key(one), key(other)];
          if (Number.isNaN(a) && Number.isNaN(b)) return sign * text.localeCompare(otherText);
          return Number.isNaN(a) - Number.isNaN(b) || sign * (a - b);
        });
      }
      body.append(...rows);
    });
  });
}

// What is wider than the page says so until it has been scrolled to its end, and can be reached by keys.
for (const frame of document.querySelectorAll(".frame")) {
  const inner = frame.querySelector(".scroll");
  const caption = frame.closest("figure")?.querySelector("figcaption") ?? frame.closest("section").querySelector("h2");
  const update = () => {
    const hidden = inner.scrollWidth - inner.clientWidth;
    frame.classList.toggle("wide", hidden > 1);
    inner.tabIndex = hidden > 1 ? 0 : -1;
    inner.role = hidden > 1 ? "region" : null;
    inner.ariaLabel = hidden > 1 ? caption.textContent : null;
    frame.classList.toggle("cut", hidden - inner.scrollLeft > 1);
  };
  inner.addEventListener("scroll", update, { passive: true });
  new ResizeObserver(update).observe(inner);
  frame.classList.add("ready");
}

// On paper nothing can be opened.
addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details")) details.open = true;
});
