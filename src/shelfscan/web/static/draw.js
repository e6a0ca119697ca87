// Draws the store map and a gondola's face as SVG. Data in, elements out; nothing here fetches or keeps state.
"use strict";

const SVG = "http://www.w3.org/2000/svg";

/** What a bin is shown as: class name, letter and words. A bin the run still drives to is "wait", never empty. */
const SIGNS = {
  OK: { name: "ok", letter: "", words: "OK" },
  LOW: { name: "low", letter: "L", words: "Low" },
  OUT_OF_STOCK: { name: "out", letter: "✕", words: "Out of stock" },
  UNSEEN: { name: "unseen", letter: "?", words: "Not seen" },
  WAIT: { name: "wait", letter: "", words: "Not looked at yet" },
};

function signOf(bin) {
  if (!bin || bin.pending) return SIGNS.WAIT;
  return SIGNS[bin.status] || SIGNS.UNSEEN;
}

function svg(tag, attributes, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value !== null && value !== undefined) element.setAttribute(name, String(value));
  }
  element.append(...children.filter((c) => c !== null));
  return element;
}

/** Hatches and crosses, so that no status hangs on colour alone. Ids carry a prefix: several drawings share a page. */
function patterns(prefix, size) {
  const line = (d, name) => svg("path", { d, class: name });
  const s = size;
  return svg(
    "defs", {},
    svg("pattern", { id: `${prefix}-unseen`, width: s, height: s, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
      svg("rect", { width: s, height: s, class: "p-unseen" }), line(`M0 0V${s}`, "p-unseen-line")),
    svg("pattern", { id: `${prefix}-wait`, width: s, height: s, patternUnits: "userSpaceOnUse" },
      svg("rect", { width: s, height: s, class: "p-wait" }), svg("circle", { cx: s / 2, cy: s / 2, r: s / 9, class: "p-wait-dot" })),
    svg("pattern", { id: `${prefix}-low`, width: s, height: s, patternUnits: "userSpaceOnUse", patternTransform: "rotate(-45)" },
      svg("rect", { width: s, height: s, class: "p-low" }), line(`M0 0V${s}`, "p-low-line")),
  );
}

function fillOf(prefix, sign) {
  return ["unseen", "wait", "low"].includes(sign.name) ? `url(#${prefix}-${sign.name})` : null;
}

function words(bin, plan) {
  const sign = signOf(bin);
  const parts = [plan.name || plan.sku || plan.bin_id, sign.words];
  if (bin && !bin.pending && bin.status === "UNSEEN" && bin.reason) parts.push(REASONS[bin.reason] || bin.reason);
  if (bin && bin.status !== "UNSEEN") parts.push(`${number(bin.units)} of ${plan.capacity_units} units`);
  if (bin && bin.misplaced) parts.push("something misplaced");
  return parts.join(", ");
}

const REASONS = {
  blocked: "the robot could not get there",
  occluded: "something stood in front of it",
  glare: "glare hid it",
  out_of_view: "the cameras did not see all of it",
  sensor: "the cameras failed there",
  skipped: "this run did not go there",
  time: "the run's time was up",
  unknown: "not known why",
};

function number(value) {
  return value === null || value === undefined ? "–" : String(Math.round(value * 10) / 10);
}

/**
 * The store from above, to scale, north up. A gondola's depth is divided among its shelves: the lowest is
 * nearest to the aisle. Width in pixels; `pick(gondola, bin)` is called for a chosen place.
 */
function drawMap(store, bins, mission, chosen, width, maxHeight, pick) {
  const [x0, y0, x1, y1] = store.bounds_m;
  const scale = Math.min(width / (x1 - x0), maxHeight / (y1 - y0));
  const w = (x1 - x0) * scale, h = (y1 - y0) * scale;
  const X = (x) => (x - x0) * scale, Y = (y) => (y1 - y) * scale;
  const root = svg("svg", { viewBox: `0 0 ${w.toFixed(1)} ${h.toFixed(1)}`, width: w.toFixed(0), height: h.toFixed(0), class: "map" });
  root.append(patterns("m", 5), svg("rect", { width: w, height: h, class: "floor", rx: 6 }));
  for (const g of store.gondolas) {
    const c = Math.cos(g.face.yaw_rad), s = Math.sin(g.face.yaw_rad);
    // Face frame (x along, y into the shelf) to pixels; the picture's y runs down.
    const matrix = [c * scale, -s * scale, -s * scale, -c * scale, X(g.face.x_m), Y(g.face.y_m)].map((v) => v.toFixed(4)).join(" ");
    const rows = Math.max(1, ...g.bins.map((b) => b.shelf_index + 1));
    const row = g.depth_m / rows;
    const group = svg("g", {
      transform: `matrix(${matrix})`, class: "gondola" + (g.gondola_id === chosen.gondola ? " chosen" : ""),
      role: "button", tabindex: "0", "aria-label": `Face ${g.gondola_id}`, "aria-pressed": String(g.gondola_id === chosen.gondola),
      "data-gondola": g.gondola_id,
    });
    group.append(svg("rect", { width: g.length_m, height: g.depth_m, class: "back" }));
    for (const plan of g.bins) {
      const bin = bins.get(plan.bin_id), sign = signOf(bin);
      const cell = svg("rect", {
        x: plan.x0_m, y: plan.shelf_index * row, width: plan.x1_m - plan.x0_m, height: row,
        class: `cell ${sign.name}${plan.bin_id === chosen.bin ? " chosen" : ""}`,
      }, svg("title", {}, words(bin, plan)));
      cell.addEventListener("click", (e) => { e.stopPropagation(); pick(g.gondola_id, plan.bin_id); });
      group.append(cell);
    }
    group.append(svg("path", { d: `M0 0H${g.length_m}`, class: "front" }));
    group.addEventListener("click", () => pick(g.gondola_id, ""));
    group.addEventListener("keydown", (e) => {
      if (e.key === "Enter" || e.key === " ") { e.preventDefault(); pick(g.gondola_id, ""); }
    });
    root.append(group);
    const at = { x: g.face.x_m + c * g.length_m / 2 - s * (-0.16), y: g.face.y_m + s * g.length_m / 2 + c * (-0.16) };
    root.append(svg("text", { x: X(at.x), y: Y(at.y) + 4, class: "label", "text-anchor": "middle" }, g.gondola_id));
  }
  drawMission(root, store, mission, scale, X, Y);
  return root;
}

function drawMission(root, store, mission, scale, X, Y) {
  const stops = mission.viewpoints || [];
  if (stops.length > 1) {
    root.append(svg("path", { class: "way", d: "M" + stops.map((v) => `${X(v.pose.x_m).toFixed(1)} ${Y(v.pose.y_m).toFixed(1)}`).join("L") }));
  }
  const dock = store.dock;
  root.append(svg("g", { transform: `translate(${X(dock.x_m)} ${Y(dock.y_m)})`, class: "dock" },
    svg("rect", { x: -8, y: -8, width: 16, height: 16, rx: 3 }), svg("path", { d: "M1 -5.5L-3.5 1H0L-1 5.5L3.5 -1H0Z" }), svg("title", {}, "Dock")));
  for (const v of stops) {
    const words = { todo: "to do", next: "on the way", here: "being looked at", pending: "captured, being worked on", done: "done", failed: "given up" }[v.state];
    const stop = svg("g", { transform: `translate(${X(v.pose.x_m).toFixed(1)} ${Y(v.pose.y_m).toFixed(1)})`, class: `stop ${v.state}` },
      svg("title", {}, `${v.viewpoint_id}: ${words}${v.why ? ` (${v.why})` : ""}`), svg("circle", { r: 5 }));
    if (v.state === "done") stop.append(svg("path", { d: "M-2.4 .2L-.7 2L2.5 -1.8" }));
    if (v.state === "failed") stop.append(svg("path", { d: "M-2.2 -2.2L2.2 2.2M2.2 -2.2L-2.2 2.2" }));
    root.append(stop);
  }
  const running = ["running", "paused", "ledger_gone"].includes(mission.state);
  const pose = mission.robot && running ? mission.robot : dock;
  const r = Math.max(8, store.robot_radius_m * scale);
  root.append(svg("g", { class: "robot", transform: `translate(${X(pose.x_m).toFixed(1)} ${Y(pose.y_m).toFixed(1)}) rotate(${(-pose.yaw_rad * 180 / Math.PI).toFixed(1)})` },
    svg("circle", { r }), svg("path", { d: `M${(r * .7).toFixed(1)} 0L${(-r * .4).toFixed(1)} ${(r * .5).toFixed(1)}V${(-r * .5).toFixed(1)}Z` }),
    svg("title", {}, mission.robot && running ? `Robot, last stop ${mission.robot_at}` : "Robot at its dock")));
  const bar = scale;
  const h = Number(root.getAttribute("height")), w = Number(root.getAttribute("width"));
  root.append(svg("path", { class: "scale", d: `M${w - bar - 10} ${h - 8}v-4m0 4h${bar}v-4` }), svg("text", { class: "label", x: w - bar / 2 - 10, y: h - 12, "text-anchor": "middle" }, "1 m"));
}

/** A gondola's face as a shopper sees it, to scale. Returns the drawing; bins are buttons with one tab stop. */
function drawFace(gondola, bins, chosen, width, pick) {
  // Below 120 px a metre narrow bins can no longer be read: a longer face scrolls instead.
  const fit = (width - 2) / gondola.length_m;
  const scale = Math.max(120, Math.min(fit, 230));
  const top = Math.max(gondola.height_m, ...gondola.bins.map((b) => b.z1_m)) + 0.03;
  const w = gondola.length_m * scale + 2, h = top * scale + 2;
  const X = (x) => 1 + x * scale, Y = (z) => 1 + (top - z) * scale;
  const root = svg("svg", { viewBox: `0 0 ${w.toFixed(1)} ${h.toFixed(1)}`, width: w.toFixed(0), height: h.toFixed(0), class: "elevation", role: "group", "aria-label": `Bins of face ${gondola.gondola_id}` });
  root.append(patterns("f", 7), svg("rect", { x: 1, y: Y(top - 0.03), width: gondola.length_m * scale, height: (top - 0.03) * scale, class: "wall" }));
  for (const s of gondola.shelves) root.append(svg("rect", { x: X(s.x0_m), y: Y(s.z_m), width: (s.x1_m - s.x0_m) * scale, height: Math.max(3, 0.03 * scale), class: "board" }));
  const tab = gondola.bins.some((b) => b.bin_id === chosen) ? chosen : (gondola.bins[0] || {}).bin_id;
  for (const plan of gondola.bins) {
    const bin = bins.get(plan.bin_id), sign = signOf(bin);
    const x = X(plan.x0_m) + .5, y = Y(plan.z1_m), bw = Math.max(2, (plan.x1_m - plan.x0_m) * scale - 1), bh = (plan.z1_m - plan.z0_m) * scale;
    const group = svg("g", {
      class: `bin ${sign.name}${plan.bin_id === chosen ? " chosen" : ""}`, role: "button", tabindex: plan.bin_id === tab ? "0" : "-1",
      "aria-label": `${plan.bin_id}: ${words(bin, plan)}`, "aria-pressed": String(plan.bin_id === chosen), "data-bin": plan.bin_id,
    });
    group.append(svg("title", {}, `${plan.bin_id}\n${words(bin, plan)}`));
    group.append(svg("rect", { x, y, width: bw, height: bh, class: "body" }));
    const fill = fillOf("f", sign);
    if (fill) group.append(svg("rect", { x: x + .5, y: y + .5, width: bw - 1, height: bh - 1, fill, class: "texture" }));
    // Stock fills the bin from below: how full it is can be read without numbers.
    if (bin && bin.status !== "UNSEEN" && plan.capacity_units > 0) {
      const full = Math.min(1, bin.units / plan.capacity_units) * (bh - 1);
      if (full > 0) group.append(svg("rect", { x: x + .5, y: y + bh - full - .5, width: bw - 1, height: full, class: "level" }));
    }
    group.append(...faceText(plan, bin, sign, x, y, bw, bh));
    if (bin && bin.misplaced) group.append(svg("path", { d: `M${x + bw} ${y}v12l-12 -12Z`, class: "foreign" }));
    group.append(svg("rect", { x, y, width: bw, height: bh, class: "edge" }));
    group.addEventListener("click", () => pick(plan.bin_id));
    group.addEventListener("keydown", (e) => {
      if (e.key === "Enter" || e.key === " ") { e.preventDefault(); pick(plan.bin_id); }
      const next = neighbour(gondola.bins, plan, e.key);
      if (next) { e.preventDefault(); pick(next.bin_id, true); }
    });
    root.append(group);
  }
  return root;
}

function faceText(plan, bin, sign, x, y, w, h) {
  const out = [];
  const centre = x + w / 2, middle = y + h / 2;
  const text = (t, dy, name) => svg("text", { x: centre.toFixed(1), y: (middle + dy).toFixed(1), class: name, "text-anchor": "middle" }, t);
  if (bin && bin.status !== "UNSEEN" && bin.status !== "OUT_OF_STOCK") {
    const count = number(bin.units);
    if (sign.letter && h > 34) out.push(text(sign.letter, -4, "letter small"), text(count, 12, "count"));
    else out.push(text(count, 5, "count"));
  } else if (sign.letter) {
    out.push(text(sign.letter, 6, "letter"));
  }
  return out;
}

/** The bin that an arrow key leads to. */
function neighbour(all, from, key) {
  const middle = (b) => [(b.x0_m + b.x1_m) / 2, (b.z0_m + b.z1_m) / 2];
  const [x, z] = middle(from);
  const ways = {
    ArrowRight: (b) => Math.abs(b.z0_m - from.z0_m) < 0.02 && middle(b)[0] > x,
    ArrowLeft: (b) => Math.abs(b.z0_m - from.z0_m) < 0.02 && middle(b)[0] < x,
    ArrowUp: (b) => middle(b)[1] > z + 0.05,
    ArrowDown: (b) => middle(b)[1] < z - 0.05,
  };
  if (!ways[key]) return null;
  const flat = key === "ArrowLeft" || key === "ArrowRight" ? 1 : 4;
  const far = (b) => flat * Math.abs(middle(b)[0] - x) + Math.abs(middle(b)[1] - z) * (flat === 1 ? 1 : 2);
  return all.filter((b) => b !== from && ways[key](b)).sort((a, b) => far(a) - far(b))[0] || null;
}
