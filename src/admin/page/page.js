// The live page of one tamis worker: it listens to `events` (one JSON snapshot a second, the same as `status`) and draws.
// No library, no request to anywhere else, and no text of a document is ever read as markup.
"use strict";

const ROUTES = ["pass", "review", "fail", "dead-letter"];
const NAMES = { pass: "pass", review: "review", fail: "fail", "dead-letter": "dead letter" };
const SVG = "http://www.w3.org/2000/svg";
const byId = (id) => document.getElementById(id);
const fields = Object.fromEntries([...document.querySelectorAll("[data-f]")].map((node) => [node.dataset.f, node]));

let latest = null;      // the last snapshot
let heardAt = 0;        // when it came, by this machine's steady clock
let paused = false;
let cursor = null;      // the column of the rate chart that is being read, counted from its end
let drawnTables = 0;

// ── Small tools ──

function make(tag, attributes = {}, ...children) {
  const node = tag.startsWith("svg:") ? document.createElementNS(SVG, tag.slice(4)) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}
const put = (name, text) => { if (fields[name].textContent !== text) fields[name].textContent = text; };
const sum = (list) => list.reduce((a, b) => a + b, 0);
const thin = "\u202f";

/** A number with three digits that matter, thousands apart. */
function number(x) {
  if (x === null || x === undefined) return "–";
  const size = Math.abs(x);
  const digits = Number.isInteger(x) || size >= 100 ? 0 : size >= 10 ? 1 : 2;
  const [whole, fraction] = x.toFixed(digits).split(".");
  return whole.replace(/\B(?=(\d{3})+(?!\d))/g, thin) + (fraction ? "." + fraction : "");
}
function threshold(x) { return String(Number(x.toPrecision(6))); }
function value(x) { return Math.abs(x) >= 1000 ? number(Math.round(x)) : String(Number(x.toPrecision(3))); }
/** Documents a second: one digit behind the point is all that can be read. */
function pace(x) { return x >= 10 ? number(Math.round(x)) : x > 0 && x < 0.1 ? "<0.1" : x === 0 ? "0" : x.toFixed(1); }
const records = (n) => (n === 1 ? "1 record" : `${number(n)} records`);
function percent(share) {
  if (share === null || share === undefined) return "–";
  const x = share * 100;
  return (x > 0 && x < 10) || (x > 99 && x < 100) ? x.toFixed(1) + thin + "%" : x.toFixed(0) + thin + "%";
}
function duration(seconds) {
  if (seconds < 10) return seconds.toFixed(1) + " s";
  if (seconds < 60) return seconds.toFixed(0) + " s";
  if (seconds < 3600) return Math.floor(seconds / 60) + " min " + Math.floor(seconds % 60) + " s";
  if (seconds < 86400) return Math.floor(seconds / 3600) + " h " + Math.floor((seconds % 3600) / 60) + " min";
  return Math.floor(seconds / 86400) + " d " + Math.floor((seconds % 86400) / 3600) + " h";
}
/** A round number not below x, for the end of an axis. */
function nice(x) {
  if (x <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(x));
  return [1, 1.6, 2, 3, 4, 5, 6, 8, 10].map((step) => step * power).find((step) => step >= x * 0.9999);
}
/** Keeps a list of nodes by key, so that what stays is not made anew (and keeps its focus). */
function keyed(parent, items, key, create) {
  const known = new Map([...parent.children].map((node) => [node.dataset.key, node]));
  const nodes = items.map((item) => {
    const name = key(item);
    const node = known.get(name) ?? create(item);
    node.dataset.key = name;
    return node;
  });
  if (nodes.length !== parent.children.length || nodes.some((node, i) => parent.children[i] !== node)) parent.replaceChildren(...nodes);
  return nodes;
}

// ── Health ──

function health(s) {
  const [kind, words] = !s.live ? ["bad", "stuck: " + s.stuck_because]
    : s.draining ? ["wait", "draining"]
    : s.ready ? ["good", "ready"]
    : ["wait", "not ready: " + s.waiting_for];
  const pill = byId("state");
  if (fields.state.textContent !== words) byId("spoken").textContent = "The worker is " + words;
  pill.classList.remove("good", "bad", "wait", "beating");
  void pill.offsetWidth;
  pill.classList.add(kind, "beating");
  put("state", words);
  put("uptime", " · up " + duration(s.uptime_ms / 1000));
  put("guarantee", s.guarantee || "–");
  put("partitions", s.partitions.count === 1 ? s.partitions.list[0] : String(s.partitions.count));
  put("brokers", s.brokers_up === null ? "none used" : s.brokers_up + " connected");
  fields.brokers.classList.toggle("bad", s.brokers_up === 0);
  put("provider", s.provider ? (s.devices > 1 ? s.devices + " × " : "") + (s.provider === "cpu" ? "CPU" : s.provider) : "loading the model");
  put("cache", s.now.cache_bypassed ? "bypassed: it failed" : s.now.cache_hit_rate === null ? "idle" : percent(s.now.cache_hit_rate) + " hits");
  fields.cache.classList.toggle("bad", s.now.cache_bypassed);
  const now = s.started_at_ms + s.uptime_ms;
  put("commit", s.last_commit_at_ms === null ? "none yet" : duration(Math.max(0, now - s.last_commit_at_ms) / 1000) + " ago");
  put("policy", s.policy || "–");
}

function cards(s) {
  const total = sum(Object.values(s.now.per_second));
  put("rate", pace(total));
  put("rate_note", number(sum(Object.values(s.documents))) + " since the start");
  put("kept", percent(s.now.keep_rate));
  put("lag", s.lag.records === null ? "–" : number(s.lag.records));
  put("lag_note", s.lag.records === null ? "the source has no end to see" : s.lag.records === 0 ? "caught up" : (s.lag.records === 1 ? "record, " : "records, the oldest ") + duration(s.lag.seconds));
  put("flight", number(s.in_flight));
  put("flight_note", s.in_flight === 0 ? "nothing open" : "the oldest " + duration(s.oldest_open_ms / 1000));
  // A pass counts when it ends, so a second may hold a little more than itself.
  put("busy", percent(Math.min(1, s.now.device_busy / Math.max(1, s.devices))));
  put("busy_note", number(Math.round(s.now.tokens_per_second)) + " tokens a second");
  document.title = pace(total) + "/s · " + percent(s.now.keep_rate) + " kept · " + s.pipeline;
}

// ── Rates ──

const COLUMNS = 120;

function rates(s) {
  const box = byId("rates");
  const width = Math.max(240, box.clientWidth), height = width < 500 ? 170 : 220;
  const left = 40, top = 8, bottom = 24, inner = width - left - 4, tall = height - top - bottom;
  const counts = s.history.documents, seconds = s.history.slot_seconds, length = counts.pass.length;
  const total = (i) => sum(ROUTES.map((route) => counts[route][i])) / seconds;
  const high = nice(Math.max(0.2, ...Array.from({ length }, (_, i) => total(i))));
  const x = (fromEnd) => left + inner * (1 - (fromEnd + 1) / COLUMNS), y = (rate) => top + tall * (1 - rate / high);
  const column = inner / COLUMNS, gap = column > 5 ? 1 : 0.4;
  const paths = Object.fromEntries(ROUTES.map((route) => [route, ""]));
  for (let i = 0; i < length; i++) {
    let below = 0;
    for (const route of ROUTES) {
      const rate = counts[route][i] / seconds;
      if (rate === 0) continue;
      const [x0, x1] = [x(length - 1 - i) + gap / 2, x(length - 1 - i) + column - gap / 2];
      paths[route] += `M${x0.toFixed(1)} ${y(below).toFixed(1)}H${x1.toFixed(1)}V${y(below + rate).toFixed(1)}H${x0.toFixed(1)}Z`;
      below += rate;
    }
  }
  const svg = make("svg:svg", { viewBox: `0 0 ${width} ${height}`, height, "aria-hidden": "true" });
  for (const part of [0, 0.5, 1]) {
    svg.append(make("svg:line", { x1: left, x2: width - 4, y1: y(high * part), y2: y(high * part), class: part ? "rule" : "base" }));
    svg.append(make("svg:text", { x: left - 8, y: y(high * part) + 4, "text-anchor": "end" }, value(high * part)));
  }
  for (const [minutes, words] of [[10, "10 min ago"], [5, "5 min ago"], [0, "now"]]) {
    const at = left + inner * (1 - minutes / 10);
    svg.append(make("svg:text", { x: at, y: height - 6, "text-anchor": minutes === 10 ? "start" : minutes ? "middle" : "end" }, words));
  }
  for (const route of ROUTES) if (paths[route]) svg.append(make("svg:path", { d: paths[route], class: "f-" + route }));
  if (cursor !== null) {
    const at = x(cursor) + column / 2;
    svg.append(make("svg:line", { x1: at, x2: at, y1: top, y2: top + tall, class: "cursor" }));
  }
  box.replaceChildren(svg);
  box.setAttribute("aria-label", `Documents a second over ten minutes, at most ${value(high)}; now ` +
    ROUTES.map((route) => `${NAMES[route]} ${pace(s.now.per_second[route])}`).join(", "));
  readout(counts, seconds, length);
  legend(s);
}

function legend(s) {
  const items = keyed(byId("legend"), ROUTES, (route) => route, (route) =>
    make("li", {}, make("span", { class: "key k-" + route, "aria-hidden": "true" }), make("span")));
  items.forEach((item, i) => { item.lastChild.textContent = `${NAMES[ROUTES[i]]} ${pace(s.now.per_second[ROUTES[i]])}/s`; });
}

function readout(counts, seconds, length) {
  const i = cursor === null ? -1 : length - 1 - cursor;
  const words = cursor === null ? "Each column is five seconds; point at one, or use the arrow keys." : i < 0 ? "before the start"
    : (cursor === 0 ? "Now" : ago(cursor * seconds)) + ": " + ROUTES.map((route) => `${NAMES[route]} ${pace(counts[route][i] / seconds)}/s`).join(" · ");
  if (byId("readout").textContent !== words) byId("readout").textContent = words;
}

function ratesTable(s) {
  const table = byId("rates-table"), counts = s.history.documents, each = 60 / s.history.slot_seconds;
  table.tHead.replaceChildren(make("tr", {}, make("th", { scope: "col" }, "Minutes ago"), ...ROUTES.map((route) => make("th", { scope: "col" }, NAMES[route]))));
  const rows = [];
  for (let end = counts.pass.length, ago = 0; end > 0; end -= each, ago++) {
    const cells = ROUTES.map((route) => make("td", {}, pace(sum(counts[route].slice(Math.max(0, end - each), end)) / 60)));
    rows.push(make("tr", {}, make("th", { scope: "row" }, String(ago)), ...cells));
  }
  table.tBodies[0].replaceChildren(...rows);
}

// ── Scores ──

/** What the rules of one signal decide about a value: the worst of them, without overrides for languages and sources. */
function decided(rules, x) {
  let worst = "pass";
  for (const rule of rules) {
    if ((rule.max !== null && x > rule.max) || (rule.min !== null && x < rule.min)) return "fail";
    if ((rule.review_above !== null && x > rule.review_above) || (rule.review_below !== null && x < rule.review_below)) worst = "review";
  }
  return worst;
}

function bounds(rules) {
  const found = [];
  for (const rule of rules) {
    for (const name of ["min", "review_below", "review_above", "max"]) {
      if (rule[name] !== null) found.push({ at: rule[name], name: name.replace("_", " "), rule: rule.rule, review: name.startsWith("review") });
    }
  }
  return found.sort((a, b) => a.at - b.at);
}

function scores(s) {
  byId("scores-section").hidden = s.scores.length === 0;
  const cards = keyed(byId("scores"), s.scores, (h) => h.signal, (h) => make("figure", { class: "mini" },
    make("div", { class: "row" }, make("h3", { class: "mono" }, h.signal), make("span", { class: "soft" })),
    make("div", { class: "chart", role: "img" }), make("p", { class: "soft" }), make("table", { class: "visually-hidden" }, make("caption"), make("tbody"))));
  cards.forEach((card, i) => histogram(card, s.scores[i]));
}

function histogram(card, h) {
  const [head, box, note, table] = card.children, all = sum(h.bins) + h.below + h.above;
  head.lastChild.textContent = all === 1 ? "1 document" : number(all) + " documents";
  note.textContent = h.rules.map((rule) => rule.rule + (rule.overrides ? ` (${rule.overrides} with bounds of their own)` : "")).join(", ");
  if (h.from === null) { box.replaceChildren(make("p", { class: "empty" }, "No document had this signal yet.")); return; }
  const width = Math.max(220, box.clientWidth), marks = bounds(h.rules), edge = h.to - h.from;
  const top = 8 + 17 * marks.length, tall = 110, height = top + tall + 24, high = Math.max(1, ...h.bins);
  const x = (v) => (width * (v - h.from)) / edge, step = edge / h.bins.length;
  const svg = make("svg:svg", { viewBox: `0 0 ${width} ${height}`, height, "aria-hidden": "true" });
  const paths = {};
  h.bins.forEach((count, i) => {
    if (count === 0) return;
    const from = h.from + i * step, kind = decided(h.rules, from + step / 2);
    const y = top + tall * (1 - count / high);
    paths[kind] = (paths[kind] ?? "") + `M${(x(from) + 0.5).toFixed(1)} ${top + tall}V${y.toFixed(1)}H${(x(from + step) - 0.5).toFixed(1)}V${top + tall}Z`;
  });
  for (const [kind, d] of Object.entries(paths)) svg.append(make("svg:path", { d, class: "f-" + kind }));
  svg.append(make("svg:line", { x1: 0, x2: width, y1: top + tall, y2: top + tall, class: "base" }));
  svg.append(make("svg:text", { x: 0, y: height - 7 }, value(h.from)), make("svg:text", { x: width, y: height - 7, "text-anchor": "end" }, value(h.to)));
  marks.forEach((mark, i) => {
    const at = x(mark.at), y = 12 + 17 * i, right = at > width * 0.6;
    svg.append(make("svg:line", { x1: at, x2: at, y1: y - 9, y2: top + tall, class: mark.review ? "bound review" : "bound" }));
    svg.append(make("svg:text", { x: right ? at - 6 : at + 6, y, "text-anchor": right ? "end" : "start", class: "strong" },
      `${mark.name} ${threshold(mark.at)}` + (h.rules.length > 1 ? ` (${mark.rule})` : "")));
  });
  const beyond = [h.below && `← ${number(h.below)} below`, h.above && `${number(h.above)} above →`].filter(Boolean).join(" · ");
  if (beyond) svg.append(make("svg:text", { x: width / 2, y: height - 7, "text-anchor": "middle" }, beyond));
  box.replaceChildren(svg);
  box.setAttribute("aria-label", `Histogram of ${h.signal}, ${all} documents from ${value(h.from)} to ${value(h.to)}; thresholds: ` +
    (marks.map((mark) => `${mark.name} ${threshold(mark.at)} of rule ${mark.rule}`).join(", ") || "none"));
  if (drawnTables === 0) {
    table.caption.textContent = `${h.signal}: documents by value`;
    table.tBodies[0].replaceChildren(...h.bins.flatMap((count, i) => count === 0 ? [] : [make("tr", {},
      make("th", { scope: "row" }, `${value(h.from + i * step)} to ${value(h.from + (i + 1) * step)}`), make("td", {}, String(count)))]));
  }
}

// ── Languages ──

function languages(s) {
  byId("languages-section").hidden = s.languages.length === 0;
  const cards = keyed(byId("languages"), s.languages, (l) => l.language, (l) => make("figure", { class: "mini" },
    make("div", { class: "row" }, make("h3", {}, languageName(l.language)), make("b")), make("div", { class: "chart", role: "img" }), make("p", { class: "soft" })));
  cards.forEach((card, i) => keepRate(card, s.languages[i]));
}

const names = (() => { try { return new Intl.DisplayNames(["en"], { type: "language" }); } catch { return null; } })();
function languageName(code) {
  if (code === "none") return "no tag";
  if (code === "other") return "other languages";
  return names ? `${names.of(code)} (${code})` : code;
}

function keepRate(card, l) {
  const [head, box, note] = card.children, kept = sum(l.kept), judged = sum(l.judged);
  head.lastChild.textContent = percent(kept / judged);
  note.textContent = `${number(kept)} of ${number(judged)} kept`;
  const width = Math.max(120, box.clientWidth), height = 48, length = l.judged.length;
  const x = (i) => width - 4 - ((width - 46) * (length - 1 - i)) / Math.max(9, length - 1), y = (share) => 3 + (height - 6) * (1 - share);
  const svg = make("svg:svg", { viewBox: `0 0 ${width} ${height}`, height, "aria-hidden": "true" });
  for (const share of [0, 1]) svg.append(make("svg:line", { x1: 0, x2: width, y1: y(share), y2: y(share), class: "rule" }));
  svg.append(make("svg:text", { x: 0, y: 13 }, "100%"), make("svg:text", { x: 0, y: height - 5 }, "0"));
  const points = l.judged.flatMap((n, i) => n === 0 ? [] : [[x(i), y(l.kept[i] / n)]]);
  const path = points.map(([px, py], i) => `${i ? "L" : "M"}${px.toFixed(1)} ${py.toFixed(1)}`).join("");
  if (points.length > 1) svg.append(make("svg:path", { d: `${path}V${y(0)}H${points[0][0].toFixed(1)}Z`, class: "area" }), make("svg:path", { d: path, class: "line" }));
  const [px, py] = points[points.length - 1] ?? [null];
  if (px !== null) svg.append(make("svg:circle", { cx: px, cy: py, r: 3, class: "point" }));
  box.replaceChildren(svg);
  box.setAttribute("aria-label", `Share kept, minute by minute: ` + l.judged.map((n, i) => n === 0 ? "none judged" : percent(l.kept[i] / n)).slice(-10).join(", "));
}

// ── Rejects ──

/** A reason in words: "pll.nll_token 5.13 > 4.2 (fluent)". */
function reason(r) {
  const signs = { max: ">", min: "<", review_above: ">", review_below: "<" };
  const bound = Object.keys(signs).find((name) => r[name] !== undefined);
  if (!bound) return `${r.signal} is missing (${r.rule})`;
  // As many digits as it takes to see that the bound was crossed.
  const digits = [3, 4, 5, 6, 9, 12, 17].find((n) => Number(r.value.toPrecision(n)) !== r[bound]) ?? 17;
  return `${r.signal} ${Number(r.value.toPrecision(digits))} ${signs[bound]} ${threshold(r[bound])} (${r.rule})`;
}

function rejects(s) {
  const body = byId("rejects"), now = s.started_at_ms + s.uptime_ms;
  byId("rejects-note").textContent = s.rejects.length === 0 ? "" : s.rejects.some((r) => r.text !== undefined) ? "" : "texts are shown with admin.show_text = true";
  if (s.rejects.length === 0) {
    body.replaceChildren(make("tr", {}, make("td", { colspan: 4, class: "empty" }, "Everything has passed so far.")));
    return;
  }
  const rows = keyed(body, s.rejects, (r) => r.source + "@" + r.at_ms, (r) => {
    const why = r.error ? [make("div", { class: "why" }, "could not be judged: " + r.error)] : r.reasons.map((one) => make("div", { class: "why" }, reason(one)));
    const what = [make("div", { class: "mono" }, r.id ?? r.source), make("div", { class: "soft" }, (r.id ? r.source : "") + (r.language ? (r.id ? " · " : "") + r.language : ""))];
    if (r.text !== undefined) what.push(make("blockquote", {}, r.text));
    return make("tr", {}, make("td", {}, make("time", { datetime: new Date(r.at_ms).toISOString() })),
      make("td", {}, make("span", { class: "tag" }, make("span", { class: "key k-" + r.route, "aria-hidden": "true" }), NAMES[r.route])),
      make("td", {}, ...why), make("td", {}, ...what));
  });
  rows.forEach((row, i) => { row.querySelector("time").textContent = ago(Math.max(0, now - s.rejects[i].at_ms) / 1000); });
}
function ago(seconds) {
  if (seconds < 2) return "now";
  return (seconds < 60 ? Math.floor(seconds) + " s" : seconds < 3600 ? Math.floor(seconds / 60) + " min" : duration(seconds)) + " ago";
}

// ── Details ──

function details(s) {
  const reload = s.reload && `${s.reload.outcome}, ${ago(Math.max(0, s.started_at_ms + s.uptime_ms - s.reload.at_ms) / 1000)}` + (s.reload.why ? `: ${s.reload.why}` : "");
  const facts = [["Model", s.model_warm ? "warm" : "loading"], ["Scorer", s.scorer || "not known yet"], ["Rows waiting for the device", number(s.now.device_backlog)],
    ["Last progress", duration(s.since_progress_ms / 1000) + " ago"], ["Deletions forwarded", number(s.tombstones)], ["Last reload", reload || "none"],
    ...s.models.flatMap((model) => model.devices.map((one) => [`Passes of ${model.name} on ${one.device}`, `${number(one.passes)}, in ${duration(one.busy_ms / 1000)}`])),
    ...ROUTES.map((route) => ["Delivered: " + NAMES[route], number(s.documents[route])])];
  const rows = keyed(byId("worker"), facts, (fact) => fact[0], (fact) => make("tr", {}, make("th", { scope: "row" }, fact[0]), make("td")));
  rows.forEach((row, i) => { row.lastChild.textContent = facts[i][1]; });
  const lanes = s.lag.partitions.slice(0, 12);
  const lagRows = keyed(byId("lanes"), lanes, (lane) => lane.partition, (lane) => make("tr", {}, make("th", { scope: "row", class: "mono" }, lane.partition), make("td")));
  lagRows.forEach((row, i) => { row.lastChild.textContent = lanes[i].records === null ? "not known" : records(lanes[i].records) + (lanes[i].records ? `, the oldest ${duration(lanes[i].seconds)}` : ""); });
}

// ── Life ──

function draw() {
  if (!latest) return;
  byId("live").hidden = false;
  byId("pause").hidden = false;
  health(latest); cards(latest); rates(latest); scores(latest); languages(latest); rejects(latest); details(latest);
  if (drawnTables === 0) ratesTable(latest);
  drawnTables = (drawnTables + 1) % 10;
}

function listen() {
  const events = new EventSource("events");
  events.onmessage = (event) => {
    heardAt = performance.now();
    if (paused) return;
    latest = JSON.parse(event.data);
    draw();
  };
  // The browser tries again by itself unless it was refused outright.
  events.onerror = () => { if (events.readyState === EventSource.CLOSED) setTimeout(listen, 3000); };
}

function watchConnection() {
  const silent = (performance.now() - heardAt) / 1000, banner = byId("stale");
  const words = silent < 5 ? "" : latest === null ? "No numbers yet; trying to reach the worker." : `Connection lost: these numbers are ${duration(Math.floor(silent / 5) * 5)} old. Trying again.`;
  if (banner.textContent !== words) banner.textContent = words;
  banner.hidden = words === "";
}

byId("pause").addEventListener("click", () => {
  paused = !paused;
  byId("pause").setAttribute("aria-pressed", String(paused));
  byId("pause").textContent = paused ? "Go on" : "Pause";
});
byId("rates").addEventListener("keydown", (event) => {
  const step = { ArrowLeft: 1, ArrowRight: -1 }[event.key];
  if (event.key === "Escape") cursor = null;
  else if (step === undefined) return;
  else cursor = Math.min(COLUMNS - 1, Math.max(0, (cursor ?? (step > 0 ? -1 : 1)) + step));
  event.preventDefault();
  draw();
});
byId("rates").addEventListener("pointermove", (event) => {
  const box = byId("rates").getBoundingClientRect(), share = (event.clientX - box.left - 40) / (box.width - 44);
  cursor = Math.min(COLUMNS - 1, Math.max(0, COLUMNS - 1 - Math.floor(share * COLUMNS)));
  draw();
});
for (const leave of ["pointerleave", "blur"]) byId("rates").addEventListener(leave, () => { cursor = null; draw(); });
addEventListener("resize", draw);
setInterval(watchConnection, 1000);
heardAt = performance.now();
listen();
