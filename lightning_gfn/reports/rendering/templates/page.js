"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const make = (tag, text, className) => {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = text;
    if (className) element.className = className;
    return element;
  };

  // Plots: hide and show methods, choose drawings.
  for (const button of document.querySelectorAll(".legend button")) {
    button.addEventListener("click", () => {
      const on = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(on));
      for (const part of document.querySelectorAll(".method.m" + button.dataset.method)) part.classList.toggle("off", !on);
    });
  }
  for (const figure of document.querySelectorAll("figure")) {
    const selects = [...figure.querySelectorAll(".choices select")];
    if (!selects.length) continue;
    const choose = () => {
      const key = selects.map((select) => select.value).join("|");
      let found = false;
      for (const drawing of figure.querySelectorAll(".drawing")) {
        drawing.hidden = drawing.dataset.key !== key;
        found = found || !drawing.hidden;
      }
      figure.querySelector(".absent").hidden = found;
    };
    for (const select of selects) select.addEventListener("change", choose);
    choose();
  }

  // Tables: a click on a header sorts up, down, and back as it was; equal rows keep their order.
  const ABSENT = new Set(["", "–", "no overlap"]);
  const figureIn = (text) => {
    const match = /^(<\s*)?([+−-]?[\d,]*\.?\d+(?:e[+-]?\d+)?)/.exec(text);
    if (!match) return NaN;
    const value = Number(match[2].replaceAll(",", "").replace("−", "-"));
    return match[1] ? value - 1e-12 : value;
  };
  const textOf = (row, column) => row.cells[column].textContent.trim();
  const sorted = (rows, column, direction) => {
    const known = rows.filter((row) => !ABSENT.has(textOf(row, column)));
    const figures = column > 0 && known.every((row) => !Number.isNaN(figureIn(textOf(row, column))));
    const compare = (a, b) => figures
      ? figureIn(textOf(a, column)) - figureIn(textOf(b, column))
      : textOf(a, column).localeCompare(textOf(b, column), undefined, { numeric: true });
    known.sort((a, b) => direction * compare(a, b));
    return [...known, ...rows.filter((row) => ABSENT.has(textOf(row, column)))];
  };
  for (const table of document.querySelectorAll("table")) {
    const body = table.tBodies[0];
    const asItWas = [...body.rows];
    if (asItWas.length < 2) continue;
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = make("button", head.textContent, "sort");
      button.type = "button";
      button.title = "Sort";
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const now = head.getAttribute("aria-sort");
        const next = { ascending: "descending", descending: null }[now] ?? (now ? null : "ascending");
        for (const other of heads) other.removeAttribute("aria-sort");
        if (next) head.setAttribute("aria-sort", next);
        body.append(...(next ? sorted([...body.rows], column, next === "ascending" ? 1 : -1) : asItWas));
      });
    });
  }

  // Samples.
  const data = JSON.parse(byId("samples").textContent);
  if (!data) return;
  const seeds = [...new Set(data.problems.flatMap((p) => Object.values(p.runs).flatMap((run) => Object.keys(run))))];
  const fields = [...new Set(data.problems.flatMap((p) => Object.keys(p.metadata)))];
  const cellOf = (problem, method, seed) => problem.runs[method][seed];
  const cells = (problem, seed) => data.methods.map((name) => cellOf(problem, name, seed)).filter(Boolean);
  const filters = [
    ["all problems", () => true],
    ["methods differ most (2 or more)", (p, seed) => {
      const counts = cells(p, seed).map((cell) => cell.distinct.length);
      return counts.length > 0 && Math.max(...counts) - Math.min(...counts) >= 2;
    }],
    ["some method finds no solution", (p, seed) => cells(p, seed).some((cell) => cell.right === 0)],
    ["no method finds a solution", (p, seed) => cells(p, seed).every((cell) => cell.right === 0)],
  ];
  for (const field of fields) {
    const values = [...new Set(data.problems.map((p) => String(p.metadata[field])))].sort();
    for (const value of values) filters.push([field + " = " + value, (p) => String(p.metadata[field]) === value]);
  }
  const state = { query: "", filter: 0, seed: seeds[0], group: -1, problem: null };

  const option = (select, value, text) => {
    const element = make("option", text);
    element.value = value;
    select.append(element);
  };
  filters.forEach(([text], index) => option(byId("filter"), String(index), text));
  if (data.classes.length) {
    byId("group").hidden = false;
    option(byId("group"), "-1", "distinct solutions");
    data.classes.forEach((name, index) => option(byId("group"), String(index), "grouped by " + name.replaceAll("_", " ")));
  }
  seeds.forEach((seed) => option(byId("seed"), seed, seed === "None" ? "unseeded run" : "seed " + seed));

  const texts = new Map();
  const haystack = (problem) => {
    if (!texts.has(problem.id)) {
      const solutions = Object.values(problem.runs).flatMap((run) =>
        Object.values(run).flatMap((cell) => [...cell.distinct, ...cell.wrong].map(([text]) => text)));
      texts.set(problem.id, [problem.id, problem.prompt, problem.answer, ...solutions].join("\n").toLowerCase());
    }
    return texts.get(problem.id);
  };
  const visible = () => data.problems.filter((problem) =>
    filters[state.filter][1](problem, state.seed) && haystack(problem).includes(state.query.toLowerCase()));

  const block = (text) => {
    const element = make("pre");
    const query = state.query.toLowerCase();
    let rest = text;
    while (query) {
      const at = rest.toLowerCase().indexOf(query);
      if (at < 0) break;
      element.append(rest.slice(0, at), make("mark", rest.slice(at, at + query.length)));
      rest = rest.slice(at + query.length);
    }
    element.append(rest);
    return element;
  };
  // Classes of a problem's solutions by one map: the most frequent over all methods first, each with its colour.
  const classesOf = (problem, map) => {
    const counts = new Map();
    for (const cell of cells(problem, state.seed)) {
      for (const [, count, labels] of cell.classed) counts.set(labels[map], (counts.get(labels[map]) ?? 0) + count);
    }
    return [...counts.keys()].sort((a, b) => (a === null) - (b === null) || counts.get(b) - counts.get(a));
  };
  const tag = (label, classes) => {
    const text = label === null ? "no class" : label || "none of its kind";
    const element = make("span", text, label === null ? "tag none" : "tag c" + (classes.indexOf(label) % 8));
    element.title = text;
    return element;
  };
  const solution = ([text, count], className, mark) => {
    const element = make("div", undefined, className);
    if (count > 1) element.append(make("span", "×" + count, "times"));
    if (mark) element.append(mark, make("br"));
    element.append(block(text));
    return element;
  };
  const tagged = (problem, cell) => {
    if (!data.classes.length || cell.unjudged) return cell.distinct.map((found) => solution(found, "solution"));
    const map = Math.max(state.group, 0);
    const classes = classesOf(problem, map);
    if (state.group < 0) {
      const labels = new Map(cell.classed.map(([text, , found]) => [text, found[map]]));
      return cell.distinct.map((found) => solution(found, "solution", tag(labels.get(found[0]), classes)));
    }
    return classes.flatMap((label) => {
      const members = cell.classed.filter(([, , labels]) => labels[map] === label);
      if (!members.length) return [];
      const head = make("div", undefined, "kind");
      const total = members.reduce((sum, [, count]) => sum + count, 0);
      head.append(tag(label, classes), make("span", total + " of " + cell.right));
      return [head, ...members.map((found) => solution(found, "solution", tag(label, classes)))];
    });
  };
  const column = (problem, name, index) => {
    const element = make("div", undefined, "column c" + (index % 8));
    const title = make("h4", name);
    element.append(title);
    const cell = cellOf(problem, name, state.seed);
    if (!cell) {
      element.append(make("p", "no run with this seed", "note"));
      return element;
    }
    const share = cell.unjudged ? cell.n + " samples, " : cell.right + " of " + cell.n + " right, ";
    title.append(make("span", share + cell.distinct.length + " distinct", "share"));
    element.append(...tagged(problem, cell));
    if (cell.wrong.length) {
      const fold = make("details");
      fold.append(make("summary", cell.n - cell.right + " wrong"));
      for (const found of cell.wrong) fold.append(solution(found, "solution wrong"));
      element.append(fold);
    }
    return element;
  };

  const showProblem = (problem) => {
    const box = byId("problem");
    const columns = byId("columns");
    box.replaceChildren();
    columns.replaceChildren();
    if (!problem) return;
    const facts = Object.entries(problem.metadata).map(([name, value]) => name + " = " + value);
    box.append(make("p", [problem.id, ...facts].join(" · "), "note"), block(problem.prompt));
    box.append(make("p", "Reference answer: " + problem.answer, "note"));
    data.methods.forEach((name, index) => columns.append(column(problem, name, index)));
  };
  const show = () => {
    const found = visible();
    if (!found.some((problem) => problem.id === state.problem)) state.problem = found.length ? found[0].id : null;
    byId("count").textContent = found.length + " of " + data.problems.length + " problems; distinct solutions by method";
    byId("problems").removeAttribute("aria-activedescendant");
    byId("problems").replaceChildren(...found.map((problem, index) => {
      const item = make("li", problem.prompt.split("\n")[0].slice(0, 90));
      const counts = data.methods.map((name) => cellOf(problem, name, state.seed)?.distinct.length ?? "–");
      item.append(make("div", counts.join(" / "), "found"));
      item.id = "problem" + index;
      item.setAttribute("role", "option");
      item.setAttribute("aria-selected", String(problem.id === state.problem));
      if (problem.id === state.problem) byId("problems").setAttribute("aria-activedescendant", item.id);
      item.addEventListener("click", () => {
        state.problem = problem.id;
        show();
      });
      return item;
    }));
    showProblem(found.find((problem) => problem.id === state.problem));
  };
  const step = (by) => {
    const found = visible();
    if (!found.length) return;
    const at = found.findIndex((problem) => problem.id === state.problem);
    state.problem = found[Math.min(Math.max(at + by, 0), found.length - 1)].id;
    show();
    byId("problems").querySelector('[aria-selected="true"]').scrollIntoView({ block: "nearest" });
  };
  byId("search").addEventListener("input", (event) => {
    state.query = event.target.value;
    show();
  });
  byId("filter").addEventListener("change", (event) => {
    state.filter = Number(event.target.value);
    show();
  });
  byId("seed").addEventListener("change", (event) => {
    state.seed = event.target.value;
    show();
  });
  byId("group").addEventListener("change", (event) => {
    state.group = Number(event.target.value);
    show();
  });
  const STEPS = { ArrowUp: -1, ArrowDown: 1, PageUp: -10, PageDown: 10, Home: -Infinity, End: Infinity };
  const onKey = (event) => {
    const by = STEPS[event.key];
    if (by === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.target !== byId("problems") && !event.key.startsWith("Arrow")) return;  // they move the cursor there
    event.preventDefault();
    step(by);
  };
  byId("problems").addEventListener("keydown", onKey);
  byId("search").addEventListener("keydown", onKey);
  byId("previous").addEventListener("click", () => step(-1));
  byId("next").addEventListener("click", () => step(1));

  // A link can name what to show: #samples?search=…&filter=…&seed=…&group=…&problem=…
  const wish = new URLSearchParams(location.hash.split("?")[1] || "");
  if (wish.has("search")) state.query = byId("search").value = wish.get("search");
  const filter = filters.findIndex(([text]) => text === wish.get("filter"));
  if (filter >= 0) byId("filter").value = String(state.filter = filter);
  if (seeds.includes(wish.get("seed"))) byId("seed").value = state.seed = wish.get("seed");
  const group = data.classes.indexOf(wish.get("group"));
  if (group >= 0) byId("group").value = String(state.group = group);
  if (wish.has("problem")) state.problem = wish.get("problem");
  show();
})();
