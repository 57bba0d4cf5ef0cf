// Draws /stats.json every second. No library, no inline style: the page's policy allows neither.
"use strict";

const EVERY_MS = 1000;
const PATIENCE_MS = 4000;
const SVG = "http://www.w3.org/2000/svg";
const at = (id) => document.getElementById(id);

// ---- making elements

function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (key === "class") made.className = value;
    else made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== undefined && child !== null));
  return made;
}

function drawing(name, properties, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(properties)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// Each state has a shape of its own, for those who cannot tell the colours apart.
const SHAPES = {
  up: ["M2.5 7.5 5.8 11 11.5 3.5"],
  down: ["M3 3l8 8", "M11 3l-8 8"],
  draining: ["M7 2v9", "M3.5 7.5 7 11l3.5-3.5"],
  maintenance: ["M5 2.5v9", "M9 2.5v9"],
  ejected: ["M7 2 12.5 12h-11z", "M7 6v2.6"],
  excluded: ["M2.5 5h9", "M2.5 9h9", "M10 2 4 12"],
  unknown: ["M4.6 5a2.4 2.4 0 1 1 3.6 2.1c-.8.5-1.2.9-1.2 1.8", "M7 11.6v.1"],
};

function stateMark(state) {
  const lines = (SHAPES[state] || SHAPES.unknown).map((d) => drawing("path", { d }));
  return element("span", { class: "state" }, drawing("svg", { viewBox: "0 0 14 14", "aria-hidden": "true" }, ...lines), state);
}

function spark(points, kind, label) {
  const [width, height] = [120, 32];
  const svg = drawing("svg", {
    class: `spark ${kind}`, viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img", "aria-label": label,
  });
  if (!points || points.length < 2) return svg;
  const top = Math.max(...points, 1e-9);
  const flat = Math.max(...points) <= 0;
  const x = (index) => width - (points.length - 1 - index) * (width / 119);
  const y = (value) => (flat ? height - 1 : height - 1 - (value / top) * (height - 4));
  const curve = points.map((value, index) => `${index ? "L" : "M"}${x(index).toFixed(1)} ${y(value).toFixed(1)}`).join("");
  svg.append(drawing("path", { class: "area", d: `${curve}L${width} ${height}L${x(0).toFixed(1)} ${height}Z` }));
  svg.append(drawing("path", { class: "curve", d: curve }));
  return svg;
}

// ---- figures for people

function count(value) {
  if (value < 10000) return String(value);
  for (const [size, letter] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (value >= size) return `${(value / size).toFixed(value / size < 100 ? 1 : 0)}${letter}`;
  }
  return String(value);
}
const exact = (value) => value.toLocaleString("en").replaceAll(",", "\u202f");
function bytes(value) {
  for (const [size, unit] of [[2 ** 40, "TiB"], [2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"]]) {
    if (value >= size) return `${(value / size).toFixed(1)} ${unit}`;
  }
  return `${value} B`;
}
function ms(value) {
  if (value === null || value === undefined) return "–";
  if (value < 1) return value.toFixed(2);
  if (value < 10) return value.toFixed(1);
  return value < 10000 ? String(Math.round(value)) : `${(value / 1000).toFixed(1)}k`;
}
function span(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}
function share(part, whole) {
  if (!whole || !part) return "0 %";
  const percent = (100 * part) / whole;
  return percent < 0.01 ? "< 0.01 %" : `${percent.toFixed(percent < 1 ? 2 : 1)} %`;
}
const words = (text) => text.replaceAll("_", " ").replaceAll("-", " ");

// ---- the parts of the page

function tile(title, figure, unit, note, picture, level) {
  const value = typeof figure === "string" ? element("p", { class: "figure" }, figure, unit ? element("span", { class: "unit" }, unit) : "") : figure;
  return element("article", { class: picture ? "tile wide" : "tile", "data-level": level }, element("h2", {}, title), value, element("p", { class: "note" }, note), picture);
}

function tiles(stats) {
  const { totals, recent, history, connections } = stats;
  const trio = element("div", { class: "trio" }, ...[["p50", recent.p50_ms], ["p95", recent.p95_ms], ["p99", recent.p99_ms]].map(([name, value]) =>
    element("div", {}, element("p", { class: "figure" }, ms(value), element("span", { class: "unit" }, "ms")), element("small", {}, name))));
  const errorShare = recent.requests ? recent.errors / recent.requests : 0;
  at("tiles").replaceChildren(
    tile("Requests", count(recent.requests_per_s), "/s", `${exact(totals.requests)} in all, peak ${count(recent.requests_per_s_max)}/s`, spark(history.requests, "rate", "Requests a second over the last two minutes")),
    tile("Latency", trio, "", "from head to end, the last minute", spark(history.p95_ms, "latency", "95th percentile of each second over the last two minutes")),
    tile("Errors", share(recent.errors, recent.requests), "", `${exact(recent.errors)} in the last minute, ${exact(totals.errors)} in all`, spark(history.errors, "errors", "Errors a second over the last two minutes"), errorShare >= 0.01 ? "bad" : undefined),
    tile("In flight", count(totals.in_flight), "", `${exact(totals.queued)} queued`),
    tile("Client connections", count(connections.open), "", `${exact(connections.accepted)} accepted`),
    tile("Retries", exact(sum(totals.retries)), "", totals.retries_refused_by_budget ? `${exact(totals.retries_refused_by_budget)} refused by the budget` : "none refused by the budget"),
    tile("Traffic", bytes(totals.bytes_out), "", `sent; ${bytes(totals.bytes_in)} received, bodies only`),
  );
}

const sum = (map) => Object.values(map).reduce((total, value) => total + value, 0);

const COLUMNS = [
  ["Backend", "left"], ["State", "left"], ["Weight", ""], ["In flight", ""], ["Requests", ""], ["Errors", ""],
  ["p50 ms", ""], ["p95 ms", ""], ["p99 ms", ""], ["Pinned", ""],
];

let known = new Map();

function row(pool, backend) {
  const cell = (label, kind, ...content) => element("td", { "data-label": label, class: kind }, ...content);
  const meter = element("span", { class: "meter", "aria-hidden": "true" }, element("i"));
  meter.firstChild.style.width = `${Math.min(100, (100 * backend.in_flight) / Math.max(1, backend.limit))}%`;
  const recent = backend.recent;
  const key = `${pool.name} ${backend.name} ${backend.address}`;
  const changed = known.has(key) && known.get(key) !== backend.state;
  known.set(key, backend.state);
  return element("tr", { "data-state": backend.state, "data-backend": backend.name, class: changed ? "changed" : undefined },
    element("th", { scope: "row", class: "left" }, element("span", { class: "name" }, backend.name), element("span", { class: "address" }, backend.address)),
    cell("State", "left status", stateMark(backend.state), element("span", { class: "since" }, element("span", { class: "hidden" }, "for "), span(backend.since_s)),
      backend.why ? element("span", { class: "why" }, backend.until_s === null || backend.until_s === undefined ? backend.why : `${backend.why}; back in ${span(backend.until_s)}`) : undefined),
    cell("Weight", "", String(backend.weight)),
    cell("In flight", "", element("span", {}, exact(backend.in_flight)), meter, element("span", { class: "hidden" }, ` of ${backend.limit}`)),
    cell("Requests", "requests", element("span", {}, count(backend.requests)), element("span", { class: "sub" }, ` ${count(recent.requests_per_s)}/s`),
      spark(backend.history.requests, "rate", `Requests a second at ${backend.name}`)),
    cell("Errors", recent.errors ? "hot" : "", exact(backend.errors)),
    cell("p50 ms", "", ms(recent.p50_ms)), cell("p95 ms", "", ms(recent.p95_ms)), cell("p99 ms", "", ms(recent.p99_ms)),
    cell("Pinned", "", backend.pinned === null ? "–" : exact(backend.pinned)),
  );
}

function poolSection(pool, several) {
  const up = pool.backends.filter((backend) => backend.state === "up").length;
  const all = pool.backends.length;
  const level = up === 0 ? "bad" : up < all ? "warn" : "ok";
  const how = [words(pool.algorithm), pool.sticky === "off" ? "not sticky" : `sticky by ${pool.sticky}${pool.sticky === "cookie" ? " (pinned: estimate)" : ""}`];
  how.push(`${exact(pool.queue)} of ${exact(pool.queue_max)} queued`);
  if (pool.panicking) how.push("panicking: requests go to sick backends too");
  const heading = element("h2", { id: `pool-${pool.name}` }, element("span", {}, "pool "), pool.name);
  const head = element("header", {}, heading, element("p", { class: "tally", "data-level": level }, `${up} of ${all} up`), element("p", { class: "how" }, how.join(" · ")));
  const body = all === 0
    ? element("p", { class: "empty" }, "No backend is known: discovery has found nobody yet.")
    : element("div", { class: "scroll", tabindex: "0", role: "region", "aria-labelledby": `pool-${pool.name}` }, element("table", {},
      element("thead", {}, element("tr", {}, ...COLUMNS.map(([name, kind]) => element("th", { scope: "col", class: kind }, name)))),
      element("tbody", {}, ...pool.backends.map((backend) => row(pool, backend)))));
  return element("section", { class: "pool", "data-pool": pool.name }, head, body);
}

function facts(title, map, ...before) {
  const rows = Object.entries(map).filter(([, value]) => value > 0).sort((a, b) => b[1] - a[1]);
  const list = rows.length
    ? element("dl", {}, ...rows.flatMap(([name, value]) => [element("dt", {}, words(name)), element("dd", {}, exact(value))]))
    : element("p", { class: "none" }, "none");
  return element("article", { class: "facts" }, element("h2", {}, title), ...before, list);
}

function answers(map) {
  const total = sum(map);
  const bar = element("div", { class: "bar", "aria-hidden": "true" });
  const list = element("dl");
  for (const [name, value] of Object.entries(map)) {
    if (!value) continue;
    const piece = element("i", { class: `c${name}` });
    piece.style.width = `${(100 * value) / total}%`;
    bar.append(piece);
    list.append(element("dt", {}, element("span", { class: `key c${name}`, "aria-hidden": "true" }), name), element("dd", {}, exact(value)));
  }
  return element("article", { class: "facts" }, element("h2", {}, "Answers of backends"), bar, total ? list : element("p", { class: "none" }, "none"));
}

function breakdown(stats) {
  const { totals, connections, protocols } = stats;
  at("breakdown").replaceChildren(
    answers(totals.answers),
    facts("Answers of the balancer's own", totals.own_answers),
    facts("Retries, by what failed", totals.retries),
    facts("Sticky cookies", { ...totals.cookies, "given out": totals.cookies_issued }),
    facts("Protocols", protocols),
    facts("Connections cut by a deadline", connections.cut),
  );
}

// Redrawing what has the keyboard's focus would take it away.
function verdict(stats) {
  const backends = stats.pools.flatMap((pool) => pool.backends);
  const out = backends.filter((backend) => backend.state !== "up");
  const dead = stats.pools.filter((pool) => !pool.backends.some((backend) => backend.state === "up"));
  let [level, text] = ["ok", `all ${backends.length} backends up`];
  if (stats.status === "draining") [level, text] = ["warn", "this balancer is draining"];
  else if (dead.length) [level, text] = ["bad", dead.length === stats.pools.length ? "no backend is healthy" : `pool ${dead[0].name} has no healthy backend`];
  else if (out.length === 1) [level, text] = ["warn", `${out[0].name} is ${out[0].state}`];
  else if (out.length) [level, text] = ["warn", `${out.length} of ${backends.length} backends are not up`];
  const line = at("verdict");
  line.dataset.level = level;
  if (line.textContent !== text) line.textContent = text;
  document.title = `${level === "ok" ? "" : "! "}${stats.instance} · ${text}`;
}

function draw(stats) {
  at("instance").textContent = stats.instance;
  at("facts").textContent = `lb ${stats.version} · up ${span(stats.uptime_s)} · ${stats.workers} ${stats.workers === 1 ? "worker" : "workers"} · ${stats.reloads} ${stats.reloads === 1 ? "reload" : "reloads"} · ${stats.drops} log lines dropped`.replace(" · 0 log lines dropped", "");
  verdict(stats);
  tiles(stats);
  const focused = document.activeElement?.closest?.("[data-pool]")?.dataset.pool;
  const scrolled = new Map([...document.querySelectorAll("[data-pool]")].map((pool) => [pool.dataset.pool, pool.querySelector(".scroll")?.scrollLeft]));
  at("pools").replaceChildren(...stats.pools.map((pool) => poolSection(pool)));
  for (const pool of document.querySelectorAll("[data-pool]")) {
    const region = pool.querySelector(".scroll");
    if (!region) continue;
    region.scrollLeft = scrolled.get(pool.dataset.pool) || 0;
    if (pool.dataset.pool === focused) region.focus({ preventScroll: true });
  }
  breakdown(stats);
}

// ---- asking

let paused = false;
let heard = 0;

function alive(state, text) {
  at("live").dataset.live = state;
  at("live-text").textContent = text;
}

async function ask() {
  try {
    const answer = await fetch("/stats.json", { cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    const stats = await answer.json();
    heard = Date.now();
    draw(stats);
    alive("yes", "live");
  } catch {
    // A balancer that restarts is no error of this page; it says since when it hears nothing.
    alive("lost", heard ? `no answer for ${span((Date.now() - heard) / 1000)}` : "no answer");
  }
}

async function rounds() {
  for (;;) {
    if (!paused && !document.hidden) await ask();
    await new Promise((resume) => setTimeout(resume, EVERY_MS));
  }
}

// ---- what people press

function theme(choice) {
  if (choice === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = choice;
  for (const button of document.querySelectorAll("[data-theme-choice]")) {
    button.setAttribute("aria-pressed", String(button.dataset.themeChoice === choice));
  }
}

for (const button of document.querySelectorAll("[data-theme-choice]")) {
  button.addEventListener("click", () => {
    theme(button.dataset.themeChoice);
    try { localStorage.setItem("theme", button.dataset.themeChoice); } catch { /* a private window keeps nothing */ }
  });
}
at("pause").addEventListener("click", () => {
  paused = !paused;
  at("pause").setAttribute("aria-pressed", String(paused));
  at("pause").textContent = paused ? "Resume" : "Pause";
  if (paused) alive("no", "paused");
});

let kept = null;
try { kept = localStorage.getItem("theme"); } catch { /* as above */ }
theme(["light", "dark"].includes(kept) ? kept : "auto");
rounds();
