"use strict";
(() => {
  const DIRECTIONS = ["ascending", "descending", "none"];

  // Typographic minus signs are parsed. A bound such as "< 0.001" sorts before all numbers.
  const key = (cell) => {
    const text = cell?.dataset.value ?? cell?.textContent.trim() ?? "";
    if (text.startsWith("<")) return 0;
    const number = Number(text.replace("\u2212", "-").replace("\u00b1", ""));
    return text === "" || Number.isNaN(number) ? text : number;
  };

  const compare = (a, b) =>
    typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });

  const isMissing = (value) => ["", "\u2013", "not finite"].includes(value);

  const sorted = (rows, column, direction) => {
    if (direction === "none") return [...rows].sort((a, b) => a.place - b.place);
    const sign = direction === "ascending" ? 1 : -1;
    return [...rows].sort((a, b) => {
      const first = key(a.row.cells[column]);
      const second = key(b.row.cells[column]);
      if (isMissing(first) || isMissing(second)) return isMissing(first) - isMissing(second) || a.place - b.place;
      return sign * compare(first, second) || a.place - b.place;
    });
  };

  const makeSortable = (table) => {
    const headings = [...table.tHead.rows].at(-1).cells;
    const bodies = [...table.tBodies].map((body) => ({
      body,
      rows: [...body.rows].filter((row) => !row.classList.contains("metric")).map((row, place) => ({ row, place })),
    }));
    const sortBy = (heading, column) => {
      const now = DIRECTIONS.indexOf(heading.getAttribute("aria-sort") ?? "none");
      const direction = DIRECTIONS[(now + 1) % DIRECTIONS.length];
      for (const other of headings) other.removeAttribute("aria-sort");
      if (direction !== "none") heading.setAttribute("aria-sort", direction);
      for (const { body, rows } of bodies) body.append(...sorted(rows, column, direction).map(({ row }) => row));
    };
    [...headings].forEach((heading, column) => {
      if (heading.classList.contains("unsortable")) return;
      const button = document.createElement("button");
      button.type = "button";
      button.append(...heading.childNodes);
      button.addEventListener("click", () => sortBy(heading, column));
      heading.append(button);
    });
  };

  const addSearch = (section, number) => {
    const prompts = [...section.querySelectorAll("details.prompt")].map((element) => ({
      element,
      text: element.textContent.normalize("NFC").toLowerCase(),
      wasOpen: element.open,
    }));
    let searching = false;
    const box = document.createElement("div");
    box.className = "search";
    const label = document.createElement("label");
    const input = document.createElement("input");
    const found = document.createElement("output");
    label.textContent = "Search prompts and responses";
    input.type = "search";
    input.id = label.htmlFor = `search${number}`;
    found.htmlFor = input.id;
    input.addEventListener("input", () => {
      const wanted = input.value.trim().normalize("NFC").toLowerCase();
      if (wanted && !searching) for (const prompt of prompts) prompt.wasOpen = prompt.element.open;
      searching = wanted !== "";
      const matches = prompts.filter(({ text }) => text.includes(wanted));
      for (const prompt of prompts) {
        prompt.element.hidden = !matches.includes(prompt);
        prompt.element.open = wanted ? matches.includes(prompt) && matches.length <= 20 : prompt.wasOpen;
      }
      found.textContent = wanted ? `${matches.length} of ${prompts.length} match` : "";
    });
    box.append(label, input, found);
    section.querySelector(".prompts").before(box);
  };

  document.querySelectorAll("table.sortable").forEach(makeSortable);
  document.querySelectorAll("section.responses").forEach(addSearch);
})();
