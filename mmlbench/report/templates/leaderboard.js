"use strict";
(() => {
  const form = document.getElementById("filters"), dialog = document.getElementById("dialog");
  const body = document.getElementById("dialog-body"), said = document.getElementById("said");
  const boards = [...document.querySelectorAll("table.board")];
  const headline = form.elements.rule.value;
  const tables = new Map();
  const make = (name, text, facts = {}) => Object.assign(document.createElement(name), { textContent: text ?? "" }, facts);
  const titles = [...document.querySelectorAll("#overall table.board thead th")].map((head) => head.dataset.key);
  let state = {}, quiet = false, opened = null;

  // ---- the view as an address: #?dataset=...&sort=3.0.desc&row=... --------------------------------------------
  const read = () => Object.fromEntries(new URLSearchParams(location.hash.startsWith("#?") ? location.hash.slice(2) : ""));
  const write = () => {
    if (quiet) return;
    const parts = new URLSearchParams(Object.entries(state).filter(([, value]) => value !== ""));
    const hash = parts.size ? "#?" + parts : "#";
    history.replaceState(null, "", hash);
  };
  const set = (key, value) => { state[key] = value; write(); };

  // ---- filters -------------------------------------------------------------------------------------------------
  const value = (key) => form.elements[key].value;
  const folded = (text) => text.normalize("NFKC").toLowerCase().split(/\s+/).map((word) => word.replace(/[^\p{L}\p{N}]+/gu, "")).filter(Boolean);
  const words = new WeakMap();  // of a row, punctuation folded: dimml finds di_mml
  const found = (row) => {
    if (!words.has(row)) words.set(row, folded(row.dataset.find ?? row.dataset.words).join(" "));
    const asked = value("find").split(",").map(folded).filter((all) => all.length);  // a comma stands for or
    return !asked.length || asked.some((all) => all.every((word) => words.get(row).includes(word)));
  };
  const passes = (row) => (!value("family") || row.dataset.family === value("family")) && found(row);
  const chosen = (part) => (!value("dataset") || part.dataset.dataset === value("dataset"))
    && (!value("split") || part.dataset.split === undefined || part.dataset.split === value("split"));
  const keep = (row, board) => passes(row) && (board.dataset.name === "all"
    ? [...row.cells].some((cell) => cell.dataset.order) : row.dataset.rule === value("rule"));
  // Why a table is empty: rows that pass the other filters are there, but under other rules.
  const why_empty = (rows) => (rows.some(passes) && !rows.some((row) => row.dataset.rule === value("rule"))
    ? "Not computed under this rule." : "No method passes the filters.");
  const apply = () => {
    for (const part of document.querySelectorAll("[data-dataset]:not(table)")) part.hidden = !chosen(part);
    for (const [board, table] of tables) {
      if (board.dataset.name === "all") {
        for (const answer of document.querySelectorAll(".answer")) {
          const place = titles.indexOf(answer.dataset.title);
          if (place > 0) table.column(place).visible(!answer.hidden, false);
        }
      }
      table.settings()[0].language.zeroRecords = why_empty(table.rows().nodes().toArray());
      table.draw();
    }
    for (const part of document.querySelectorAll("section[data-dataset], #overall")) {
      const board = part.querySelector("table.board"), labels = new Map();
      for (const row of tables.get(board).rows().nodes().toArray()) labels.set(row.dataset.label, passes(row));
      for (const one of part.querySelectorAll("[data-label]")) {
        if (!one.closest("table.board") && !one.closest("details.one .body")) one.hidden = labels.get(one.dataset.label) === false;
      }
    }
    for (const one of document.querySelectorAll("[data-words]")) one.hidden = !found(one);
    document.body.classList.toggle("otherrule", value("rule") !== headline);
    document.body.classList.toggle("somedata", Boolean(value("dataset") || value("split")));
    const filters = [value("family"), value("find")].filter(Boolean).join(", ");
    for (const one of document.querySelectorAll(".epoch")) one.textContent = form.elements.rule.selectedOptions[0].textContent;
    for (const one of document.querySelectorAll(".filtered")) one.textContent = filters ? ` (only: ${filters})` : "";
    tell();
  };
  const tell = () => {
    let shown = 0, away = 0;
    for (const [board, table] of tables) {
      if (board.dataset.name !== "accuracy" || board.closest("section").hidden) continue;
      for (const row of table.rows({ search: "applied" }).nodes().toArray()) row.classList.contains("folded") ? away += 1 : shown += 1;
    }
    const rule = form.elements.rule.selectedOptions[0].textContent;
    const other = value("rule") === headline ? "" : ` Numbers of: ${rule}. Ranks and figures are not computed under this rule.`;
    said.textContent = `${shown} rows shown${away ? `, ${away} more folded into their families` : ""}.${other}`;
  };
  const keys = ["dataset", "split", "family", "rule", "find", ...(form.elements.rows ? ["rows"] : [])];
  for (const key of keys) {
    form.elements[key].addEventListener("input", () => {
      set(key, key === "rule" && value(key) === headline ? "" : value(key));
      if (key === "rows") turn([]);
      apply();
    });
  }
  addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (event.target.closest?.("input, select, textarea")) return;
    event.preventDefault();
    document.getElementById("filter-box").open = true;
    form.elements.find.focus();
  });

  // ---- large boards: families folded to their best row, which opens and folds them --------------------------------
  const turned = new Set();  // families that are not as the choice of rows says
  const turn = (families) => {
    turned.clear();
    for (const family of families) turned.add(family);
    set("turned", [...turned].map(encodeURIComponent).join("|"));
  };
  const unfolded = (family) => (value("rows") === "family") !== turned.has(family);
  // Who searches, or takes one family, sees every row that passes, in the order of the ranking.
  const grouped = () => Boolean(form.elements.rows) && value("rows") !== "rank" && !folded(value("find")).length && !value("family");
  const made_at = new WeakMap();  // of a row, as the table was made: the ranking
  const block = (row) => (row.dataset.always ? `label ${row.dataset.label}` : `family ${row.dataset.family}`);
  const lines = new Map(boards.map((board) => [board, new Map()]));  // of a board: family -> the line with its button
  const more = (board, family, members) => {
    let line = lines.get(board).get(family);
    if (!line) {
      line = make("tr", "", { className: "more" });
      const button = make("button", "", { type: "button" });
      button.addEventListener("click", () => {
        const top = button.getBoundingClientRect().top;
        turn(turned.has(family) ? [...turned].filter((one) => one !== family) : [...turned, family]);
        for (const board of tables.keys()) arrange(board);
        tell();
        button.focus({ preventScroll: true });
        scrollBy({ top: button.getBoundingClientRect().top - top, behavior: "instant" });
      });
      line.insertCell().append(button);
      lines.get(board).set(family, line);
    }
    const button = line.querySelector("button");
    line.cells[0].colSpan = board.tHead.rows[0].cells.length;
    const count = new Set(members.map((one) => one.dataset.label)).size;
    const best = members.filter((one) => one.classList.contains("first")).length;
    button.textContent = `${count} more: ${family}${best ? ` (${best} may be best)` : ""}`;
    button.setAttribute("aria-expanded", String(unfolded(family)));
    return line;
  };
  const arrange = (board) => {
    const body = board.tBodies[0], rows = [...body.rows].filter((row) => row.dataset.row);
    const leaders = new Map(), order = [], grouping = grouped();
    if (grouping) for (const row of [...rows].sort((a, b) => made_at.get(a) - made_at.get(b))) {
      if (!leaders.has(block(row))) leaders.set(block(row), row);
    }
    const of = (row) => leaders.get(block(row))?.dataset.label;
    const blocks = new Set(rows.filter((row) => of(row) === row.dataset.label).map(block));
    for (const key of blocks) {
      const mine = rows.filter((row) => block(row) === key), head = leaders.get(key);
      const leading = mine.filter((row) => row.dataset.label === head.dataset.label), members = mine.filter((row) => !leading.includes(row));
      order.push(...leading, ...(members.length ? [more(board, head.dataset.family, members)] : []), ...members);
    }
    for (const row of rows) {
      const member = grouping && of(row) !== row.dataset.label, ticked = row.querySelector("input:checked");
      row.classList.toggle("member", member);
      row.classList.toggle("folded", Boolean(member && !unfolded(row.dataset.family) && !ticked));
    }
    for (const line of body.querySelectorAll("tr.more")) if (!order.includes(line)) line.remove();
    if (order.some((row, k) => row !== body.rows[k])) body.append(...order);
  };
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(() => {
    state = {};
    turn([]);
    for (const [, table] of tables) table.order([]).draw();
    tick(new Set());
    apply();
  }));
  const copy = (text, button) => {
    const word = button.textContent;
    const tell = (done) => { button.textContent = done; setTimeout(() => { button.textContent = word; }, 1500); };
    if (!navigator.clipboard) { tell("Select and copy"); return; }
    navigator.clipboard.writeText(text).then(() => tell("Copied"), () => tell("Select and copy"));
  };
  document.getElementById("link").addEventListener("click", (event) => copy(location.href, event.currentTarget));

  // ---- tables: sorting and filtering by DataTables -------------------------------------------------------------
  const start = (board, place) => {
    const heads = [...board.tHead.rows[0].cells];
    for (const row of board.tBodies[0].rows) row.hidden = false;
    [...board.tBodies[0].rows].forEach((row, k) => made_at.set(row, k));
    const words = heads.flatMap((head, k) => (["method", "modality"].includes(head.dataset.key) ? [k] : []));
    const table = new DataTable(board, {
      paging: false, info: false, autoWidth: false, order: [],
      layout: { topStart: null, topEnd: null, bottomStart: null, bottomEnd: null },
      columnDefs: [{ targets: words, type: "string", orderSequence: ["asc", "desc", ""] }, { targets: "_all", type: "num", orderSequence: ["desc", "asc", ""] }],
      language: { zeroRecords: "No method passes the filters.", emptyTable: "Nothing here." },
    });
    table.search.fixed("filters", (text, data, k) => keep(table.row(k).node(), board));
    table.on("draw", () => arrange(board));
    table.on("order", () => {
      const order = table.order().filter((one) => one[1]);
      set("sort", order.length ? [place, order[0][0], order[0][1]].join(".") : "");
    });
    tables.set(board, table);
  };

  // ---- export of what is shown ---------------------------------------------------------------------------------
  const clean = (cell) => {
    const twin = cell.cloneNode(true);
    for (const node of twin.querySelectorAll("small, svg, .dt-column-order")) node.remove();
    return twin.textContent.trim().replace(/\s+/g, " ");
  };
  const rows = (board) => [...board.tBodies[0].rows].filter((row) => row.dataset.row && !row.classList.contains("folded"));
  const columns = (board) => [...board.tHead.rows[0].cells].map((cell, place) => ({ place, key: cell.dataset.key, cell }))
    .filter((column) => !column.cell.dataset.drawn);
  const quote = (text) => (/[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const number = (cell, key) => (cell.dataset.order === undefined || key === "rank" ? clean(cell) : cell.dataset.order);
  const csv = (board) => {
    const facts = ["dataset", "split", "recipe", "encoder"].filter((key) => board.dataset[key]);
    const own = columns(board), body = rows(board);
    const wide = new Set(own.filter((column) => body.some((row) => row.cells[column.place].dataset.low)));
    const tested = new Set(own.filter((column) => body.some((row) => row.cells[column.place].dataset.p)));
    const head = [...facts, "selection", "family", "row_id"];
    for (const column of own) {
      head.push(column.key, ...(wide.has(column) ? [column.key + "_low", column.key + "_high"] : []));
      if (tested.has(column)) head.push(column.key + "_p_adjusted");
    }
    const lines = body.map((row) => {
      const line = [...facts.map((key) => board.dataset[key]), row.dataset.rule, row.dataset.family, row.dataset.row];
      for (const column of own) {
        const cell = row.cells[column.place];
        line.push(column.key === "method" ? row.dataset.label : number(cell, column.key));
        if (wide.has(column)) line.push(cell.dataset.low ?? "", cell.dataset.high ?? "");
        if (tested.has(column)) line.push(cell.dataset.p ?? "");
      }
      return line;
    });
    return [head, ...lines].map((line) => line.map(quote).join(",")).join("\n") + "\n";
  };
  const SPECIAL = { "\\": "\\textbackslash{}", "&": "\\&", "%": "\\%", $: "\\$", "#": "\\#", _: "\\_", "{": "\\{", "}": "\\}",
    "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "<": "\\textless{}", ">": "\\textgreater{}", "\u00b1": "$\\pm$",
    "\u2212": "$-$", "\u2013": "--" };
  const tex = (text) => [...text].map((c) => SPECIAL[c] ?? (c.normalize("NFD")[0] < "\u007f" && c < "\u0180" ? c : "?")).join("")
    .replace(/^(?=[[*])/, "{}");
  const latex = (board) => {
    const own = columns(board), body = rows(board);
    const cells = (row) => own.map((column) => {
      const cell = row.cells[column.place], ends = [...cell.querySelectorAll("small")].map((one) => one.textContent);
      const range = cell.dataset.low && ends.length ? ` {\\footnotesize ${tex(ends.join(", "))}}` : "";
      const first = board.dataset.name === "accuracy" && row.classList.contains("first");
      const mark = column.key === "method" && first ? "$^{\\bullet}$" : "";
      const place = column.key === "rank" ? null : cell.querySelector(".place");
      const shown = place ? clean(cell).slice(place.textContent.length).trim() : clean(cell);
      const group = place ? `$^{(${tex(place.textContent)})}$` : "";
      return tex(column.key === "method" ? row.dataset.label : shown) + mark + group + range;
    }).join(" & ") + " \\\\";
    const where = [board.dataset.dataset, board.dataset.split].filter(Boolean).join(" / ") || "all data";
    const rule = board.dataset.name === "all" ? headline : value("rule");
    return ["% needs \\usepackage{booktabs}; intervals are two-part, at 95 % where the heading names no other level; p is Holm-corrected in its column; the dot, on boards of fewer than ten rows a rank from 1 on too, marks what may be the best",
      `\\begin{tabular}{l${"r".repeat(own.length - 1)}}`, "\\toprule",
      own.map((column) => tex(clean(column.cell))).join(" & ") + " \\\\", "\\midrule", ...body.map(cells), "\\bottomrule",
      "\\end{tabular}", `% ${where.replace(/[\r\n]/g, " ")}, epoch: ${rule}`, ""].join("\n");
  };
  const save = (name, text, type) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  };
  const tools = (board) => {
    const bar = document.createElement("div");
    bar.className = "tools";
    const name = [board.dataset.name, board.dataset.dataset, board.dataset.split].filter(Boolean).join("-");
    for (const [word, make, ending, type] of [["CSV", csv, "csv", "text/csv"], ["LaTeX", latex, "tex", "text/x-tex"]]) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = word;
      button.setAttribute("aria-label", `Save ${board.getAttribute("aria-label")} as ${word}`);
      button.addEventListener("click", () => {
        const away = tables.get(board).rows({ search: "applied" }).nodes().length - rows(board).length;
        save(`${name}${away ? "-folded" : ""}.${ending}`, make(board), type);
        if (away) said.textContent = `${rows(board).length} rows saved, as shown; not the ${away} that are folded into their families.`;
      });
      bar.append(button);
    }
    board.closest(".scroll").before(bar);
  };

  // ---- ticked methods side by side -----------------------------------------------------------------------------
  const signed = (x) => { const text = Math.abs(x).toFixed(1); return Number(text) === 0 ? text : (x > 0 ? "+" : "\u2212") + text; };
  const p_text = (p) => (p < 0.001 ? "<.001" : p < 0.9995 ? p.toFixed(3).replace(/^0/, "") : "1");
  // Holm's step-down, as mmlbench/stats/compare.py has it.
  const holm = (raw) => {
    const adjusted = new Array(raw.length), order = raw.map((_, k) => k).sort((a, b) => raw[a] - raw[b] || a - b);
    let most = 0;
    order.forEach((k, step) => { most = Math.max(most, raw[k] * (raw.length - step)); adjusted[k] = Math.min(1, most); });
    return adjusted;
  };
  // The ranks among the ticked labels alone, as mmlbench/stats/ranks.py has them: the pairs are corrected for their number.
  const compared = (data, ticked) => {
    const pairs = data.pairs.filter(([i, j]) => ticked.includes(data.labels[i]) && ticked.includes(data.labels[j]));
    const adjusted = holm(pairs.map((pair) => pair[5] ?? 1));
    const ranks = new Map(ticked.map((label) => [label, { low: 1, high: ticked.length }])), cells = new Map();
    pairs.forEach(([i, j, value, low, high], k) => {
      const [one, other] = [data.labels[i], data.labels[j]];
      if (value === null) return;
      const p = data.ranked ? adjusted[k] : null;
      cells.set(JSON.stringify([one, other]), { value, low, high, p });
      cells.set(JSON.stringify([other, one]), { value: -value, low: high === null ? null : -high, high: low === null ? null : -low, p });
      if (adjusted[k] < 0.05 && value) {
        ranks.get(value > 0 ? other : one).low += 1;
        ranks.get(value > 0 ? one : other).high -= 1;
      }
    });
    return { ranks, cells };
  };
  const show = (panel, board, data, ticked) => {
    panel.hidden = ticked.length < 2;
    panel.replaceChildren();
    if (panel.hidden) return;
    const { ranks, cells } = compared(data, ticked);
    const table = make("table"), head = table.createTHead().insertRow(), lines = table.createTBody();
    table.setAttribute("aria-label", "paired differences of the ticked methods");
    for (const word of ["method", `rank of ${ticked.length}`, "accuracy %", ...ticked.map((label) => `minus ${label}`)]) head.append(make("th", word, { scope: "col" }));
    for (const label of ticked) {
      const { low, high } = ranks.get(label), row = lines.insertRow();
      const ours = [...board.tBodies[0].rows].find((one) => one.dataset.label === label && one.dataset.rule === headline);
      row.dataset.label = label;
      row.append(make("th", label, { scope: "row" }), make("td", !data.ranked ? "not ranked" : low === high ? `${low}` : `${low}\u2013${high}`));
      row.append(make("td", ours ? clean(ours.cells[2]) : ""));
      for (const other of ticked) {
        const found = cells.get(JSON.stringify([label, other])), cell = row.insertCell();
        if (!found) continue;
        cell.append(signed(found.value));
        const ends = found.low === null ? [] : [`[${signed(found.low)}, ${signed(found.high)}]`];
        for (const word of [...ends, ...(found.p === null ? [] : [`p ${p_text(found.p)}`])]) cell.append(make("small", word));
      }
    }
    const about = `Compared: ${ticked.length} methods. Row minus column in points, with the 95 % interval of this one comparison; p and ranks are corrected for these ${ticked.length * (ticked.length - 1) / 2} pairs alone (Holm).`;
    panel.append(in_scroll(table), make("p", `${about} Choosing methods after a look at the results makes p too small.`, { className: "soft" }));
  };
  const compares = [];
  const tray = document.getElementById("tray"), beside = document.getElementById("beside");
  const ticked = () => [...new Set(compares.flatMap((one) => one.boxes).filter((box) => box.checked).map((box) => box.dataset.label))];
  // A tick is of a method on all data: what is ticked in one answer is ticked in each.
  const tick = (labels) => {
    for (const { boxes, draw } of compares) {
      for (const box of boxes) box.checked = labels.has(box.dataset.label);
      draw();
    }
    const chosen = ticked(), first = (label) => compares.flatMap((one) => one.boxes).find((box) => box.dataset.label === label);
    set("compare", chosen.map((label) => first(label).value).join("."));
    const button = (text, act, facts = {}) => {
      const made = make("button", text, { type: "button", ...facts });
      made.addEventListener("click", act);
      return made;
    };
    const without = (label) => {
      tick(new Set(chosen.filter((one) => one !== label)));
      (tray.querySelector("button") ?? form.elements.find).focus();
    };
    tray.hidden = !chosen.length;
    tray.replaceChildren(make("span", chosen.length === 1 ? "1 method ticked; tick another to compare" : `${chosen.length} methods ticked`, { role: "status" }),
      ...chosen.map((label) => button(`${label} \u2715`, () => without(label), { className: "chip", ariaLabel: `Untick ${label}` })),
      ...(chosen.length > 1 ? [button("Side by side", side_by_side, { id: "side-by-side" })] : []),
      button("Untick all", () => { tick(new Set()); form.elements.find.focus(); }));
  };
  for (const answer of document.querySelectorAll(".answer")) {
    if (!answer.dataset.pairs) continue;
    const data = JSON.parse(answer.dataset.pairs), board = answer.querySelector("table.board"), panel = answer.querySelector(".compare");
    const boxes = [];
    for (const row of board.tBodies[0].rows) {
      if (row.dataset.rule !== headline || !data.labels.includes(row.dataset.label)) continue;
      const box = make("input", "", { type: "checkbox", value: row.dataset.row });
      box.setAttribute("aria-label", `Compare ${row.dataset.label}`);
      box.dataset.label = row.dataset.label;
      box.addEventListener("click", (event) => event.stopPropagation());
      box.addEventListener("change", () => {
        const labels = new Set(ticked());
        box.checked ? labels.add(box.dataset.label) : labels.delete(box.dataset.label);
        tick(labels);
      });
      row.cells[0].prepend(box);
      boxes.push(box);
    }
    const chosen = () => boxes.filter((one) => one.checked).map((one) => one.dataset.label);
    compares.push({ answer, board, data, boxes, chosen, draw: () => show(panel, board, data, chosen()) });
  }
  // What the tables say of the ticked methods on one dataset: a line for each column, a column for each method.
  const facts_of = (answer, labels) => {
    const table = make("table"), head = table.createTHead().insertRow(), body = table.createTBody();
    table.setAttribute("aria-label", `the ticked methods on ${answer.dataset.title}`);
    for (const word of ["", ...labels]) head.append(make("th", word, { scope: "col" }));
    const section = [...document.querySelectorAll("section[data-dataset]")]
      .find((one) => answer.querySelector("h2 a").hash === `#${one.id}`);
    for (const board of [answer.querySelector("table.board"), section.querySelector("table.board[data-name=competition_gap]")]) {
      if (!board) continue;
      const all = tables.get(board).rows().nodes().toArray().filter((row) => row.dataset.rule === headline);
      const heads = columns(board).filter((one) => !["method", "modality"].includes(one.key));
      for (const modality of new Set(all.map((row) => row.dataset.modality))) for (const { place: at, cell } of heads) {
        const row = body.insertRow();
        row.append(make("th", [modality, clean(cell)].filter(Boolean).join(": "), { scope: "row" }));
        for (const label of labels) {
          const mine = all.find((one) => one.dataset.label === label && one.dataset.modality === modality);
          const shown = mine ? mine.cells[at].cloneNode(true) : make("td", "");
          shown.removeAttribute("title");
          row.append(shown);
        }
      }
    }
    return table;
  };
  const in_scroll = (table) => {
    const scroll = make("div", "", { className: "scroll", tabIndex: 0, role: "region" });
    scroll.setAttribute("aria-label", table.getAttribute("aria-label"));
    scroll.append(table);
    return scroll;
  };
  const side_by_side = () => {
    const body = document.getElementById("beside-body"), labels = ticked();
    document.getElementById("beside-title").textContent = `Side by side: ${labels.join(", ")}`;
    body.replaceChildren(...[...document.querySelectorAll(".answer")].filter((answer) => !answer.hidden).flatMap((answer) => {
      const one = compares.find((other) => other.answer === answer), panel = make("div", "", { className: "compare" });
      if (one) show(panel, one.board, one.data, one.chosen());
      const parts = [make("h3", answer.dataset.title), in_scroll(facts_of(answer, labels))];
      if (panel.childElementCount) return [...parts, make("h4", "Paired differences"), ...panel.children];
      return [...parts, make("p", "No paired differences on the page here: they are in pairwise.csv.", { className: "soft" })];
    }));
    beside.showModal();
    body.scrollTop = 0;
  };
  beside.addEventListener("click", (event) => { if (event.target === beside) beside.close(); });
  beside.addEventListener("close", () => document.getElementById("side-by-side")?.focus());
  document.getElementById("beside-close").addEventListener("click", () => beside.close());

  // ---- a row's details -----------------------------------------------------------------------------------------
  const close = () => {
    if (!opened) return;
    const { home, from } = opened;
    opened = null;
    home.append(...body.childNodes);
    set("row", "");
    if (from?.isConnected) from.focus();
  };
  const open = (id, from) => {
    const one = document.getElementById("row-" + id);
    if (!one || one.tagName !== "DETAILS") return false;
    if (opened) close();
    const home = one.querySelector(".body");
    document.getElementById("dialog-title").textContent = one.dataset.title;
    body.append(...home.childNodes);
    opened = { home, from };
    if (!dialog.open) dialog.showModal();
    body.scrollTop = 0;
    set("row", id);
    return true;
  };
  dialog.addEventListener("close", close);
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  document.getElementById("close").addEventListener("click", () => dialog.close());
  for (const board of boards) {
    board.tBodies[0].addEventListener("click", (event) => {
      const row = event.target.closest("tr[data-row]");
      if (!row || String(getSelection())) return;
      if (open(row.dataset.row, row.querySelector("th a"))) event.preventDefault();
    });
  }
  for (const code of document.querySelectorAll("code.copy")) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Copy";
    button.addEventListener("click", () => copy(code.textContent, button));
    code.after(" ", button);
  }

  // ---- start, and addresses ------------------------------------------------------------------------------------
  const restore = () => {
    quiet = true;
    state = read();
    for (const key of keys.filter((one) => one !== "rule")) form.elements[key].value = state[key] ?? "";
    form.elements.rule.value = state.rule || headline;
    for (const key of keys.filter((one) => one !== "find")) {
      if (form.elements[key].selectedIndex < 0) { form.elements[key].selectedIndex = 0; delete state[key]; }
    }
    const [place, column, direction] = (state.sort ?? "").split(".");
    const wanted = boards[place];
    for (const [board, table] of tables) {
      const fits = board === wanted && ["asc", "desc"].includes(direction) && Number(column) < table.columns().count();
      table.order(fits ? [[Number(column), direction]] : []);
    }
    const wanted_boxes = new Set((state.compare ?? "").split("."));
    tick(new Set(compares.flatMap((one) => one.boxes).filter((box) => wanted_boxes.has(box.value)).map((box) => box.dataset.label)));
    const families = new Set([...form.elements.family.options].map((one) => one.value));
    turn((state.turned ?? "").split("|").map((one) => { try { return decodeURIComponent(one); } catch { return ""; } }).filter((one) => one && families.has(one)));
    apply();
    const row = state.row;
    if (!row && dialog.open) dialog.close();
    if (row) open(row, null);
    quiet = false;
  };
  DataTable.ext.errMode = "throw";
  boards.forEach(start);
  boards.forEach(tools);
  // The heading of a tall table stays in sight: at the edge of the window, or of its own frame where it is too wide for the page.
  const frames = new ResizeObserver((entries) => {
    for (const { target } of entries) target.classList.toggle("fits", target.querySelector("table").offsetWidth <= target.clientWidth);
  });
  for (const frame of document.querySelectorAll(".scroll.tall")) frames.observe(frame);
  document.documentElement.classList.add("script");
  form.hidden = false;
  const box = document.getElementById("filter-box"), narrow = matchMedia("(max-width: 40rem)");
  const fold = () => { box.open = !narrow.matches; };
  box.hidden = false;
  narrow.addEventListener("change", fold);
  fold();
  restore();
  addEventListener("hashchange", () => { if (location.hash.startsWith("#?") || !location.hash) restore(); });
})();
