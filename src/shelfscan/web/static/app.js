// The page: fetches, keeps what is chosen, redraws what changed. The server tells of changes; nothing is polled.
"use strict";

const $ = (id) => document.getElementById(id);
const state = { run: "", store: null, mission: null, map: null, bins: new Map(), plans: new Map(), findings: [], sync: null, gondola: "", bin: "", filter: "", seen: {}, detail: null };

const TYPES = {
  out_of_stock: ["Out of stock", "out"], low: ["Low", "low"], misplaced: ["Misplaced", "foreign"], wrong_price: ["Wrong price", "price"],
  missing_tag: ["Tag missing", "price"], damaged: ["Damaged", "foreign"], near_expiry: ["Near expiry", "low"], turned: ["Turned", "foreign"],
  fallen: ["Fallen", "foreign"], pushed_back: ["Pushed back", "low"],
  wrong_facings: ["Wrong facings", "foreign"], overstocked: ["Overstocked", "low"], foreign: ["Not in the gallery", "foreign"],
  stale_planogram: ["Planogram out of date", "price"], dimension_mismatch: ["Wrong size in the catalogue", "price"],
  layout_drift: ["Shelf elsewhere than planned", "price"], lens_smear: ["Lens smeared", "foreign"], defocus: ["Camera not sharp", "foreign"],
  camera_turned: ["Camera turned", "foreign"], calibration_drift: ["Calibration has drifted", "foreign"], lamp_out: ["Lamp out", "foreign"],
  new_packaging: ["New packaging", "price"], detector_weak: ["Fewer products found", "foreign"],
};
const OUTCOMES = {
  equal: "Agree", posted: "Posted", held: "Held for a person", recount: "To be recounted", ignored: "Left alone", pending: "Waiting to be sent",
  rejected: "Refused", conflict: "Stock moved meanwhile",
};

function el(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name === "class") element.className = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat().filter((c) => c !== null && c !== undefined && c !== ""));
  return element;
}

function fill(id, ...children) { $(id).replaceChildren(...children.flat().filter((c) => c !== null)); }

async function get(path) {
  const answer = await fetch(path + (state.run ? `${path.includes("?") ? "&" : "?"}run=${encodeURIComponent(state.run)}` : ""));
  if (answer.status === 404) return null;
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}

// ---- loading ------------------------------------------------------------------------------------------------------

let busy = Promise.resolve();
/** Changes are worked off one after the other; `seen` says what is on the page already. */
function changed(versions) { busy = busy.then(() => load(versions)).catch(offline); return busy; }

async function load(versions) {
  if (versions.run !== state.seen.run) {
    await loadRuns(versions.run);
    Object.assign(state, { seen: {}, store: null, map: null, bins: new Map(), findings: [], sync: null, gondola: "", bin: "", detail: null });
  }
  if (!versions.run) {
    state.mission = await get("/api/mission");
    state.seen = versions;
    return render();
  }
  const was = state.seen;
  if (!state.store) {
    state.store = await get("/api/store");
    state.plans = new Map((state.store ? state.store.gondolas : []).flatMap((g) => g.bins.map((b) => [b.bin_id, { ...b, gondola_id: g.gondola_id }])));
  }
  if (versions.mission !== was.mission || !state.mission) state.mission = await get("/api/mission");
  if (versions.stock_map !== was.stock_map || versions.mission !== was.mission || !state.map) {
    state.map = await get("/api/stock_map");
    state.bins = new Map((state.map ? state.map.bins : []).map((b) => [b.bin_id, b]));
    state.findings = (await get("/api/findings")) || [];
  }
  if (versions.sync !== was.sync || !state.sync) state.sync = await get("/api/sync");
  state.seen = versions;
  if (state.store && !state.gondola) state.gondola = firstGondola();
  if (state.bin) state.detail = await get(`/api/bins/${encodeURIComponent(state.bin)}`);
  render();
}

function firstGondola() {
  const wanted = state.plans.get(location.hash.slice(1));
  if (wanted) { state.bin = wanted.bin_id; return wanted.gondola_id; }
  return state.store.gondolas.length ? state.store.gondolas[0].gondola_id : "";
}

async function loadRuns(current) {
  const runs = (await get("/api/runs")) || [];
  const box = $("run");
  box.replaceChildren(...runs.map((r) => el("option", { value: r.run, selected: r.run === (state.run || current) }, `${r.run}${r.ended ? "" : " (going on)"}`)));
  box.parentElement.hidden = runs.length < 2;
}

let events = null;
function follow() {
  if (events) events.close();
  events = new EventSource("/api/events" + (state.run ? `?run=${encodeURIComponent(state.run)}` : ""));
  events.addEventListener("change", (e) => { document.body.classList.remove("offline"); changed(JSON.parse(e.data)); });
  events.onerror = offline;
}

function offline() {
  document.body.classList.add("offline");
  chip("No connection to the server", "bad");
}

// ---- choosing -----------------------------------------------------------------------------------------------------

async function choose(gondola, bin, focus) {
  if (gondola) state.gondola = gondola;
  if (bin) {
    state.bin = bin;
    history.replaceState(null, "", `#${encodeURIComponent(bin)}`);
    const plan = state.plans.get(bin);
    if (plan) state.gondola = plan.gondola_id;
    state.detail = await get(`/api/bins/${encodeURIComponent(bin)}`);
  }
  renderMap();
  renderFace(focus);
  renderDetail();
  renderActs();
}

// ---- rendering ----------------------------------------------------------------------------------------------------

const STATES = {
  no_run: ["No run yet", "calm"], waiting: ["Waiting for the mission", "calm"], running: ["Running", "live"], paused: ["Paused", "warn"],
  done: ["Done", "good"], cancelled: ["Cancelled", "warn"], failed: ["Failed", "bad"], ledger_gone: ["Ledger gone", "bad"],
};
const PHASES = { undocking: "leaving the dock", driving: "driving", capturing: "looking", waiting: "working on pictures", docking: "going home", paused: "paused", idle: "" };

function chip(text, kind) { $("state").textContent = text; $("state").className = `chip ${kind}`; }

function render() {
  const m = state.mission;
  const [text, kind] = STATES[m.state] || [m.state, "calm"];
  const phase = m.state === "running" ? PHASES[m.phase] : "";
  chip(text + (phase ? `: ${phase}` : "") + (m.degraded && kind !== "bad" ? " · degraded" : ""), m.degraded && kind !== "bad" ? "warn" : kind);
  $("site").textContent = m.site || "shelfscan";
  document.title = m.site ? `${m.site} – ${text} – shelfscan` : "shelfscan";
  renderCourse(m);
  fill("problems", m.problems.map((p) => el("p", {}, p)));
  $("problems").hidden = !m.problems.length;
  const nothing = m.state === "no_run" || !state.map;
  $("empty").hidden = !nothing;
  $("main").hidden = nothing;
  if (nothing) {
    $("empty-title").textContent = m.state === "no_run" ? "No run yet" : "Nothing counted yet";
    $("empty-text").textContent = m.state === "no_run" ? "Start one with “shelfscan run” or “shelfscan demo”. This page shows it as soon as it begins."
      : m.problems.length ? "The stock map cannot be made; see above." : "The mission has not begun. This page follows it by itself.";
    return;
  }
  renderFigures();
  renderMap();
  renderFace(false);
  renderDetail();
  renderActs();
  renderSync();
  $("files-panel").hidden = !m.files.length;
  fill("files", m.files.map((f) => el("li", {}, el("a", { href: `/runs/${encodeURIComponent(m.run)}/${f}`, target: "_blank", rel: "noopener" }, f))));
}

function renderCourse(m) {
  const share = m.viewpoints_total ? m.viewpoints_done / m.viewpoints_total : 0;
  $("bar").parentElement.hidden = !m.viewpoints_total;
  $("bar").setAttribute("aria-valuenow", String(Math.round(share * 100)));
  $("bar-fill").style.width = `${share * 100}%`;
  const parts = [`${m.viewpoints_done} of ${m.viewpoints_total} viewpoints`];
  if (m.viewpoints_failed) parts.push(`${m.viewpoints_failed} given up`);
  if (m.interruptions) parts.push(`resumed ${m.interruptions}×`);
  $("course-text").textContent = parts.join(", ");
}

function renderFigures() {
  const s = state.map.summary;
  const figure = (value, text, name, note) => el("div", { class: `figure ${name}` }, el("b", {}, String(value)), el("span", {}, text), note ? el("small", {}, note) : null);
  const reasons = Object.entries(s.unseen_reasons).map(([r, n]) => `${n} ${REASONS[r] || r}`).join(", ");
  const sync = state.sync || { counts: {} };
  fill("figures",
    figure(`${s.counted}`, `of ${s.bins} bins counted`, "ok", s.bins ? `${(100 * s.counted / s.bins).toFixed(1)} %` : ""),
    figure(s.unseen - s.pending, "not seen", "unseen", reasons || (s.pending ? `${s.pending} still to come` : "")),
    figure(s.out_of_stock, "out of stock", "out"),
    figure(s.low, "low", "low"),
    figure(s.misplaced, "with misplaced goods", "foreign"),
    figure(sync.counts.held || 0, "held for a person", "held", sync.state === "none" ? "no sync yet" : ""));
}

function renderMap() {
  if (!state.store) return fill("map", el("p", { class: "hint" }, "The store's layout cannot be read."));
  const box = $("map");
  const focused = document.activeElement && document.activeElement.dataset ? document.activeElement.dataset.gondola : "";
  box.replaceChildren(drawMap(state.store, state.bins, state.mission, state, box.clientWidth || 600, 215, (g, b) => choose(g, b, false)));
  if (focused) { const again = box.querySelector(`[data-gondola="${CSS.escape(focused)}"]`); if (again) again.focus({ preventScroll: true }); }
}

function renderFace(focus) {
  const box = $("face");
  if (!state.store) return fill("face", binTable());
  const gondola = state.store.gondolas.find((g) => g.gondola_id === state.gondola);
  fill("faces", state.store.gondolas.length > 12 ? gondolaBox() : state.store.gondolas.map((g) =>
    el("button", { type: "button", "aria-pressed": String(g.gondola_id === state.gondola), onclick: () => choose(g.gondola_id, "", false) }, g.gondola_id)));
  if (!gondola) return box.replaceChildren();
  const had = focus || (document.activeElement && document.activeElement.closest && document.activeElement.closest("#face"));
  const left = box.scrollLeft;
  box.replaceChildren(drawFace(gondola, state.bins, state.bin, (box.clientWidth || 600) - 8, (b) => choose("", b, true)));
  box.scrollLeft = left;
  const chosen = box.querySelector(`[data-bin="${CSS.escape(state.bin || "-")}"]`);
  if (!chosen) return;
  if (had) chosen.focus({ preventScroll: true });
  const a = chosen.getBoundingClientRect(), b = box.getBoundingClientRect();
  if (a.left < b.left || a.right > b.right) box.scrollLeft += a.left - b.left - b.width / 2 + a.width / 2;
}

function gondolaBox() {
  return el("select", { "aria-label": "Gondola face", onchange: (e) => choose(e.target.value, "", false) },
    state.store.gondolas.map((g) => el("option", { value: g.gondola_id, selected: g.gondola_id === state.gondola }, g.gondola_id)));
}

/** Without a layout there is still the list. */
function binTable() {
  return el("ul", { class: "plain" }, state.map.bins.map((b) => el("li", {}, el("button", { type: "button", "data-bin": b.bin_id, onclick: () => choose("", b.bin_id, false) },
    `${b.bin_id}: ${signOf(b).words}${b.status === "UNSEEN" ? "" : `, ${number(b.units)} units`}`))));
}

function row(name, ...value) { return [el("dt", {}, name), el("dd", {}, ...value)]; }

function renderDetail() {
  const d = state.detail;
  if (!d) {
    $("detail-title").textContent = "Bin";
    return fill("detail-body", el("p", { class: "hint" }, state.bin ? "Nothing is known of this bin yet." : "Choose a bin on the shelves, the map or in the list below."));
  }
  const b = d.bin, sign = signOf(b), seen = b.status !== "UNSEEN";
  $("detail-title").textContent = d.product ? d.product.name : b.sku;
  const price = d.product ? d.product.price.toFixed(2) : "";
  fill("detail-body",
    el("p", { class: "sub" }, el("span", { class: `tagged ${sign.name}` }, sign.letter ? `${sign.letter} ` : "", sign.words), b.misplaced ? el("span", { class: "tagged foreign" }, "◥ Misplaced goods") : null,
      el("span", {}, `${b.bin_id} · ${b.sku}`)),
    pictures(d),
    el("dl", {},
      seen ? row("Counted", el("strong", {}, `${number(b.units)} units`), ` (95 %: ${b.units_low}–${b.units_high})`, d.plan ? ` of ${d.plan.capacity_units} when full` : "")
        : row("Counted", b.pending ? "not looked at yet" : `not seen: ${REASONS[b.reason] || b.reason || "not known why"}; this does not mean empty`),
      seen ? row("Facings", `${b.facings}`, d.plan ? ` of ${d.plan.facings_wide * d.plan.facings_high} planned` : "") : null,
      row("Sure", seen || b.confidence ? `${(100 * b.confidence).toFixed(0)} %` : "–"),
      row("Last look", b.observed_at ? `${b.observed_at.slice(0, 16).replace("T", " ")} UTC (${age(b.observed_at)})` : "never"),
      row("Price tag", b.tag_price || "not read", price ? ` · catalogue ${price}` : ""),
      d.wms ? row("WMS", `${number(d.wms.on_hand)} on hand`, d.wms.scope === "site" ? " in the whole store" : "", d.wms.backroom ? `, ${number(d.wms.backroom)} in the back` : "") : null,
      d.sync ? row("Sync", `${OUTCOMES[d.sync.outcome] || d.sync.outcome}${d.sync.reason ? `: ${d.sync.reason}` : ""}`) : null),
    d.findings.length ? el("ul", { class: "found" }, d.findings.map((f) => el("li", {}, el("strong", {}, kindOf(f.type)[0]), f.suggestion ? `: ${f.suggestion}` : "", ` (${(100 * f.confidence).toFixed(0)} % sure${f.alarm === false ? ", to check" : ""})`))) : null,
    looks(d));
}

function kindOf(type) { return TYPES[type] || [type.replaceAll("_", " "), "price"]; }

function pictures(d) {
  const shots = d.evidence_urls.map((u, n) => el("figure", {}, el("a", { href: u, target: "_blank", rel: "noopener" }, el("img", { src: u, alt: `The shelf at ${d.bin.bin_id}, look ${n + 1}`, class: "evidence", width: 200, height: 130 })), n ? null : el("figcaption", {}, "As seen")));
  const known = d.product && d.product.pictures.length ? [el("figure", { class: "ref" }, el("img", { src: d.product.pictures[0], alt: `${d.product.name}, reference picture`, width: 90, height: 130 }), el("figcaption", {}, "Planned"))] : [];
  if (!shots.length) shots.push(el("p", { class: "nopic" }, "No picture of this bin."));
  return el("div", { class: "pictures" }, shots.slice(0, 1), known);
}

function looks(d) {
  if (!d.looks.length) return null;
  return el("details", {}, el("summary", {}, `${d.looks.length} look${d.looks.length === 1 ? "" : "s"}`), el("div", { class: "scroll" }, el("table", {},
    el("thead", {}, el("tr", {}, ["When (UTC)", "From", "Seen", "Hidden", ""].map((t) => el("th", { scope: "col" }, t)))),
    el("tbody", {}, d.looks.map((l) => el("tr", {}, el("td", {}, l.at.slice(11, 19)), el("td", {}, l.viewpoint_id), el("td", {}, `${Math.round(100 * l.seen)} %`), el("td", {}, `${Math.round(100 * l.blocked)} %`),
      el("td", {}, l.evidence ? el("a", { href: `/evidence/${l.evidence.split("/").map(encodeURIComponent).join("/")}?run=${encodeURIComponent(state.mission.run)}`, target: "_blank", rel: "noopener" }, "picture") : ""))))))); 
}

function age(iso) {
  const s = Math.max(0, (Date.now() - Date.parse(iso)) / 1000);
  if (s < 90) return "just now";
  if (s < 5400) return `${Math.round(s / 60)} min ago`;
  if (s < 172800) return `${Math.round(s / 3600)} h ago`;
  return `${Math.round(s / 86400)} days ago`;
}

function renderActs() {
  const unseen = state.map.bins.filter((b) => b.status === "UNSEEN" && !b.pending).map((b) => ({ type: "unseen", bin_id: b.bin_id, name: (state.plans.get(b.bin_id) || {}).name || b.sku, why: REASONS[b.reason] || b.reason, value: 0 }));
  const all = [...state.findings, ...unseen];
  const counts = {};
  for (const f of all) counts[f.type] = (counts[f.type] || 0) + 1;
  const name = (t) => (t === "unseen" ? "Not seen" : kindOf(t)[0]);
  const box = $("act-filter");
  box.replaceChildren(el("option", { value: "", selected: !state.filter }, `all (${all.length})`), ...Object.keys(counts).map((t) => el("option", { value: t, selected: t === state.filter }, `${name(t)} (${counts[t]})`)));
  const shown = all.filter((f) => !state.filter || f.type === state.filter);
  const top = $("acts").scrollTop;
  fill("acts", shown.length ? shown.slice(0, 200).map(act) : el("li", { class: "hint" }, "Nothing."));
  $("acts").scrollTop = top;
}

function act(f) {
  const [text, kind] = f.type === "unseen" ? ["Not seen", "unseen"] : kindOf(f.type);
  const note = f.type === "unseen" ? f.why : [f.units !== null && f.capacity_units ? `${number(f.units)} of ${f.capacity_units}` : "", `${Math.round(100 * f.confidence)} % sure`, f.alarm === false ? "to check" : ""].filter(Boolean).join(", ");
  return el("li", {}, el("button", { type: "button", class: f.bin_id === state.bin ? "chosen" : "", onclick: () => choose("", f.bin_id, false) },
    el("span", { class: `tagged ${kind}` }, text), el("span", { class: "what" }, el("b", {}, f.name || f.bin_id), el("small", {}, `${f.bin_id} · ${note}`))));
}

function renderSync() {
  const s = state.sync;
  if (!s || s.state === "none") return fill("sync", el("p", { class: "hint" }, state.mission.state === "running" ? "Not synced yet: that comes once the mission has ended." : "Not synced. “shelfscan sync” does it."));
  const counts = Object.entries(s.counts).filter(([, n]) => n > 0);
  const open = s.lines.filter((l) => l.outcome !== "equal" && l.outcome !== "posted");
  fill("sync",
    el("p", { class: s.state === "degraded" ? "bad-text" : "" }, `${s.wms || "WMS"}: ${s.text || s.state}`),
    counts.length ? el("ul", { class: "counts" }, counts.map(([k, n]) => el("li", {}, el("b", {}, String(n)), ` ${OUTCOMES[k] || k}`))) : null,
    open.length ? el("div", { class: "scroll" }, el("table", {},
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Where"), el("th", { scope: "col", class: "n" }, "Counted"), el("th", { scope: "col", class: "n" }, "WMS"), el("th", { scope: "col" }, "What happens"))),
      el("tbody", {}, open.slice(0, 100).map((l) => el("tr", {},
        el("td", {}, l.bin_id ? el("button", { type: "button", class: "link", onclick: () => choose("", l.bin_id, false) }, l.location_code) : l.location_code, el("small", {}, l.name || l.sku)),
        el("td", { class: "n" }, number(l.counted)), el("td", { class: "n" }, number(l.on_hand)),
        el("td", {}, OUTCOMES[l.outcome] || l.outcome, l.reason ? el("small", {}, l.reason) : null)))))) : null,
    open.length > 100 ? el("p", { class: "hint" }, `${open.length - 100} more: shelfscan review list`) : null,
    signalTable(s.signals || []), taskTable(s.tasks || []));
}

const SIGNALS = { refill: "Refill from the backroom", reorder: "Reorder", phantom_inventory: "Only on the books", shrinkage: "Missing without a sale" };

const place = (x) => el("td", {}, x.bin_id ? el("button", { type: "button", class: "link", onclick: () => choose("", x.bin_id, false) }, x.location_code) : x.location_code, x.sku ? el("small", {}, x.sku) : null);

function signalTable(signals) {
  if (!signals.length) return null;
  return el("details", { open: "" }, el("summary", {}, `${signals.length} suggestions`), el("div", { class: "scroll" }, el("table", {},
    el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "What"), el("th", { scope: "col" }, "Where"), el("th", { scope: "col", class: "n" }, "Worth"), el("th", { scope: "col" }, "Why"))),
    el("tbody", {}, signals.slice(0, 50).map((x) => el("tr", {}, el("td", {}, SIGNALS[x.kind] || x.kind), place(x),
      el("td", { class: "n" }, x.value === null ? "" : x.value.toFixed(2)), el("td", {}, x.text, x.confidence === null ? null : el("small", {}, `${Math.round(100 * x.confidence)} % sure`))))))),
    signals.length > 50 ? el("p", { class: "hint" }, `${signals.length - 50} more: shelfscan sync --json`) : null);
}

function taskTable(tasks) {
  if (!tasks.length) return null;
  const open = tasks.filter((t) => t.state !== "closed");
  return el("details", open.length ? { open: "" } : {}, el("summary", {}, `Counts asked for: ${tasks.length - open.length} done, ${open.length} open`),
    el("div", { class: "scroll" }, el("table", {},
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Task"), el("th", { scope: "col" }, "Where"), el("th", { scope: "col" }, "State"))),
      el("tbody", {}, [...open, ...tasks.filter((t) => t.state === "closed")].slice(0, 100).map((t) => el("tr", {}, el("td", {}, t.ref), place(t), el("td", {}, t.state === "closed" ? "done" : "open", el("small", {}, t.text))))))));
}

function legend() {
  const item = (s) => el("li", {}, el("span", { class: `key ${s.name}`, "aria-hidden": "true" }, s.letter || "" ), s.words);
  fill("legend", [SIGNS.OK, SIGNS.LOW, SIGNS.OUT_OF_STOCK, SIGNS.UNSEEN, SIGNS.WAIT].map(item), el("li", {}, el("span", { class: "key foreign", "aria-hidden": "true" }, "◥"), "Misplaced"));
  fill("map-legend", [["done", "Stop done"], ["todo", "To do"], ["failed", "Given up"]].map(([k, t]) => el("li", {}, el("span", { class: `stopkey ${k}`, "aria-hidden": "true" }), t)));
}

// ---- start --------------------------------------------------------------------------------------------------------

function theme(next) {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const now = document.documentElement.dataset.theme || (dark ? "dark" : "light");
  if (next) { document.documentElement.dataset.theme = now === "dark" ? "light" : "dark"; localStorage.setItem("theme", document.documentElement.dataset.theme); }
}

if (localStorage.getItem("theme")) document.documentElement.dataset.theme = localStorage.getItem("theme");
$("theme").addEventListener("click", () => theme(true));
$("run").addEventListener("change", (e) => { state.run = e.target.value; state.seen = {}; history.replaceState(null, "", `?run=${encodeURIComponent(state.run)}`); follow(); });
$("act-filter").addEventListener("change", (e) => { state.filter = e.target.value; renderActs(); });
let resized = 0;
addEventListener("resize", () => { clearTimeout(resized); resized = setTimeout(() => { if (state.map) { renderMap(); renderFace(false); } }, 120); });
state.run = new URLSearchParams(location.search).get("run") || "";
legend();
follow();
