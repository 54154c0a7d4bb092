// Time courses: one lane per action unit, people told apart by colour, zoom and pan by mouse and keyboard.
// The data come thinned (packing.py): every bucket holds the least and the greatest value of its frames.
"use strict";
(() => {
  const page = JSON.parse(document.getElementById("data").textContent);
  if (!page.recordings.length) return;
  const el = (id) => document.getElementById(id);
  const canvas = el("chart"), pen = canvas.getContext("2d"), status = el("status");
  const LEFT = 34, RIGHT = 104, TOP = 22, LANE = 72, UNDEFINED = 65535, COLOURS = 6, SHOWN_AT_FIRST = 4;
  const POSE = ["pose_pitch_deg", "pose_yaw_deg", "pose_roll_deg"];
  const DASHES = [[], [5, 3], [1.5, 2.5]];
  const view = { sides: false, fit: false, pose: true, confidence: true };
  let recording, from, to, cursor = null, dragged = null, waiting = false;

  // ---- data ------------------------------------------------------------------------------------------

  /** Least and greatest value of a series of a course per bucket; decoded when first drawn. */
  function values(course, name) {
    course.cache ??= {};
    if (course.cache[name]) return course.cache[name];
    if (!course.codes) {
      const bytes = Uint8Array.from(atob(course.data), (c) => c.charCodeAt(0));
      const numbers = new DataView(bytes.buffer);
      course.codes = new Uint16Array(bytes.length / 2);
      for (let i = 0; i < course.codes.length; i++) course.codes[i] = numbers.getUint16(2 * i, true);
      course.data = null;
    }
    const k = recording.series.findIndex((s) => s[0] === name);
    if (k < 0) return null;
    const [, low, step] = recording.series[k], n = course.count;
    const part = (offset) => Float32Array.from(course.codes.subarray(offset, offset + n),
      (c) => (c === UNDEFINED ? NaN : low + step * c));
    const least = part(k * n);
    const greatest = recording.per === 1 ? least : part((recording.series.length + k) * n);
    return (course.cache[name] = { least, greatest });
  }

  /** Bucket at or before x. */
  function bucketAt(x) {
    const time = recording.time;
    let a = 0, b = time.length - 1;
    while (a < b) {
      const middle = (a + b + 1) >> 1;
      if (time[middle] <= x) a = middle; else b = middle - 1;
    }
    return a;
  }

  /** Usual distance of two points on the x axis. */
  function spacing() {
    const n = recording.time.length;
    return n > 1 ? (recording.time[n - 1] - recording.time[0]) / (n - 1) : 1;
  }

  function extent() {
    const a = recording.time[0], b = Math.max(recording.end, recording.time[recording.time.length - 1]);
    const margin = recording.video && b > a ? 0 : 0.5;
    return [a - margin, b + margin];
  }

  // ---- text ------------------------------------------------------------------------------------------

  function clock(seconds, digits) {
    const sign = seconds < 0 ? "-" : "", whole = Math.abs(seconds), minutes = Math.floor(whole / 60);
    const rest = (whole - 60 * minutes).toFixed(digits);
    const hours = Math.floor(minutes / 60), two = (t) => (String(t).split(".")[0].length < 2 ? "0" + t : t);
    if (!minutes) return sign + rest + " s";
    return sign + (hours ? hours + ":" + two(minutes % 60) : minutes) + ":" + two(rest);
  }

  function place(bucket) {
    const frame = recording.frame[bucket], more = recording.per > 1 ? " and the next " + (recording.per - 1) : "";
    if (!recording.video) return "photo " + frame + more + " · " + (recording.photos[bucket] ?? "");
    const at = recording.timed ? clock(recording.time[bucket], 3) + " · " : "";
    return at + "frame " + frame + more;
  }

  function number(value, name) {
    if (POSE.includes(name)) return (Math.round(value) || 0) + "°";  // no -0
    return value.toFixed(2);
  }

  function reading(course, name, bucket) {
    const v = values(course, name), i = bucket - course.first;
    if (!v || i < 0 || i >= course.count || Number.isNaN(v.least[i])) return "–";
    const a = number(v.least[i], name), b = number(v.greatest[i], name);
    return a === b ? a : a + " to " + b;
  }

  // ---- lanes -----------------------------------------------------------------------------------------

  const has = (name) => recording.series.some((s) => s[0] === name);
  const signs = () => (recording.video ? ["solid", "dashed", "dotted"] : ["filled", "hollow", "cross"]);
  const people = () => recording.courses.filter((c) => c.shown);

  function lanes() {
    const out = [];
    for (const unit of Object.keys(page.units)) {
      if (!recording.units.has(unit)) continue;
      const sided = view.sides && has(unit + "_L_r") && has(unit + "_R_r");
      const names = sided ? [unit + "_R_r", unit + "_L_r"] : [unit + "_r"].filter(has);
      const label = unit + "  " + page.units[unit] + (sided ? "  (right " + signs()[0] + ", left " + signs()[1] + ")" : "");
      if (names.length) out.push({ label, names, low: 0, high: 5, fits: true });
    }
    if (view.pose && POSE.some(has))
      out.push({ label: "head pose, degrees: " + ["pitch", "yaw", "roll"].map((n, i) => n + " " + signs()[i]).join(", "), names: POSE.filter(has), low: -30, high: 30, grows: true });
    if (view.confidence && has("confidence"))
      out.push({ label: "confidence, 0 to 1", names: ["confidence"], low: 0, high: 1 });
    return out;
  }

  function range(lane) {
    let most = 0;
    if (lane.grows || (lane.fits && view.fit))
      for (const course of people())
        for (const name of lane.names) {
          const v = values(course, name);
          for (let i = 0; i < course.count; i++) {
            const size = Math.max(Math.abs(v.least[i]), Math.abs(v.greatest[i]));
            if (size > most) most = size;
          }
        }
    if (lane.grows) { const t = Math.max(10, Math.ceil(most / 10) * 10); return [-t, t]; }
    return lane.fits && view.fit ? [0, Math.max(0.5, Math.ceil(most * 2) / 2)] : [lane.low, lane.high];
  }

  // ---- drawing ---------------------------------------------------------------------------------------

  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const width = () => canvas.clientWidth - LEFT - RIGHT;
  const toPixel = (x) => LEFT + ((x - from) / (to - from)) * width();
  const toX = (pixel) => from + ((pixel - LEFT) / width()) * (to - from);

  function redraw() {
    if (!waiting) { waiting = true; requestAnimationFrame(() => { waiting = false; draw(); }); }
  }

  function draw() {
    const shown = lanes(), height = TOP + shown.length * LANE + 10, ratio = window.devicePixelRatio || 1;
    canvas.style.height = height + "px";
    canvas.width = Math.round(canvas.clientWidth * ratio);
    canvas.height = Math.round(height * ratio);
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    const ink = { text: style("--ink"), quiet: style("--quiet"), line: style("--line"), gap: style("--gap"), gapLine: style("--gap-line") };
    ink.people = Array.from({ length: COLOURS }, (_, i) => style("--c" + i));
    pen.font = "12px system-ui, sans-serif";
    pen.textBaseline = "middle";
    drawGaps(ink, height);
    drawAxis(ink, height);
    shown.forEach((lane, i) => drawLane(lane, TOP + i * LANE, ink));
    drawCursor(shown, ink, height);
  }

  function drawGaps(ink, height) {
    const half = recording.video ? spacing() / recording.per / 2 : 0.5;
    for (const [a, b] of recording.gaps) {
      const x0 = Math.max(LEFT, toPixel(a - half)), x1 = Math.min(LEFT + width(), toPixel(b + half));
      if (x1 <= x0) continue;
      const size = Math.max(1, x1 - x0);
      pen.fillStyle = ink.gap;
      pen.fillRect(x0, TOP - 4, size, height - TOP);
      // hatched, so that a gap is not told by its colour alone
      pen.save();
      pen.beginPath();
      pen.rect(x0, TOP - 4, size, height - TOP);
      pen.clip();
      pen.strokeStyle = ink.gapLine;
      pen.lineWidth = 1;
      pen.setLineDash([]);
      pen.beginPath();
      for (let x = x0 - height - (x0 - height) % 14; x < x1; x += 14) {
        pen.moveTo(x, height);
        pen.lineTo(x + height, 0);
      }
      pen.stroke();
      pen.restore();
    }
  }

  function drawAxis(ink, height) {
    const about = ((to - from) / width()) * 110;
    const power = 10 ** Math.floor(Math.log10(about));
    let step = [1, 2, 5, 10].find((s) => s * power >= about) * power;
    if (recording.timed) step = [10, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200].find((s) => about > 5 && s >= about) ?? step;
    else step = Math.max(1, step);
    const digits = step >= 1 ? 0 : Math.min(3, Math.ceil(-Math.log10(step)));
    pen.textAlign = "center";
    for (let x = Math.ceil(from / step) * step; x <= to; x += step) {
      const at = Math.round(toPixel(x)) + 0.5;
      line(at, TOP - 4, at, height, ink.line);
      pen.fillStyle = ink.quiet;
      pen.fillText(recording.timed ? clock(x, digits) : x.toFixed(0), at, 9);
    }
  }

  function line(x0, y0, x1, y1, colour) {
    pen.strokeStyle = colour;
    pen.lineWidth = 1;
    pen.setLineDash([]);
    pen.beginPath();
    pen.moveTo(x0, y0);
    pen.lineTo(x1, y1);
    pen.stroke();
  }

  function drawLane(lane, y, ink) {
    const [low, high] = range(lane), top = y + 20, bottom = y + LANE - 8;
    const toY = (v) => bottom - ((Math.min(Math.max(v, low), high) - low) / (high - low)) * (bottom - top);
    pen.textAlign = "right";
    for (const mark of low < 0 ? [low, 0, high] : [low, high]) {
      const at = Math.round(toY(mark)) + 0.5;
      line(LEFT, at, LEFT + width(), at, ink.line);
      pen.fillStyle = ink.quiet;
      pen.fillText(String(mark), LEFT - 5, at);
    }
    pen.save();
    pen.beginPath();
    pen.rect(LEFT, y, width(), LANE);
    pen.clip();
    for (const course of people())
      lane.names.forEach((name, k) => drawSeries(course, name, colourOf(course, lane, k, ink), k, toY));
    pen.restore();
    pen.textAlign = "left";
    pen.fillStyle = ink.text;
    pen.fillText(lane.label, LEFT + 4, y + 9);
  }

  /** One person: the colours are free to tell series apart; several people: each has one. */
  function colourOf(course, lane, k, ink) {
    const one = people().length === 1 && lane.names.length > 1;
    return ink.people[(one ? k : course.colour) % COLOURS];
  }

  function drawSeries(course, name, colour, k, toY) {
    const v = values(course, name), dash = DASHES[k];
    if (!v) return;
    const first = Math.max(bucketAt(from) - course.first - 1, 0);
    const last = Math.min(bucketAt(to) - course.first + 1, course.count - 1);
    pen.strokeStyle = pen.fillStyle = colour;
    pen.lineWidth = 1.6;
    if (!recording.video) return drawDots(course, v, first, last, k, toY);
    pen.setLineDash(recording.per === 1 ? dash : []);
    pen.globalAlpha = recording.per > 1 && dash.length ? 0.6 : 1;
    pen.beginPath();
    let open = false, column = null, least = 0, greatest = 0;
    const flush = () => {  // the buckets of one column of pixels as one upright stroke
      if (column === null) return;
      if (open) pen.lineTo(column, toY(least)); else pen.moveTo(column, toY(least));
      pen.lineTo(column, toY(greatest) - (open || greatest > least ? 0 : 0.01));
      open = true;
      column = null;
    };
    for (let i = first; i <= last; i++) {
      if (Number.isNaN(v.least[i])) { flush(); open = false; continue; }
      const x = toPixel(recording.time[course.first + i]);
      if (column !== null && x - column < 0.7) {
        least = Math.min(least, v.least[i]);
        greatest = Math.max(greatest, v.greatest[i]);
      } else {
        flush();
        column = x;
        least = v.least[i];
        greatest = v.greatest[i];
      }
      // a single point between two gaps would leave no trace
      if (Number.isNaN(v.least[i + 1] ?? NaN) && Number.isNaN(v.least[i - 1] ?? NaN))
        pen.fillRect(x - 1.5, toY(v.greatest[i]) - 1.5, 3, 3);
    }
    flush();
    pen.stroke();
    pen.globalAlpha = 1;
  }

  /** Photos are no course: a mark for each, or an upright bar from least to greatest where they are many. */
  function drawDots(course, v, first, last, k, toY) {
    const size = Math.min(8, Math.max(2, width() / ((to - from) / spacing()) / 3));
    pen.setLineDash([]);
    pen.beginPath();
    for (let i = first; i <= last; i++) {
      if (Number.isNaN(v.least[i])) continue;
      const x = toPixel(recording.time[course.first + i]) - size / 2, y = toY(v.greatest[i]) - size / 2;
      const height = Math.max(size, toY(v.least[i]) - y + size / 2);
      if (k === 0) pen.fillRect(x, y, size, height);
      else if (k === 1) pen.rect(x, y, size, height);
      else {
        pen.moveTo(x, y);
        pen.lineTo(x + size, y + height);
        pen.moveTo(x + size, y);
        pen.lineTo(x, y + height);
      }
    }
    pen.stroke();
  }

  function drawCursor(shown, ink, height) {
    if (cursor === null) return;
    const bucket = bucketAt(cursor), at = toPixel(recording.time[bucket]);
    if (at >= LEFT && at <= LEFT + width()) line(at, TOP - 4, at, height, ink.text);
    pen.textAlign = "left";
    shown.forEach((lane, i) => {
      let y = TOP + i * LANE + 18;
      for (const course of people())
        lane.names.forEach((name, k) => {
          if (y > TOP + (i + 1) * LANE) return;
          pen.fillStyle = colourOf(course, lane, k, ink);
          pen.fillText(reading(course, name, bucket), LEFT + width() + 8, y);
          y += 13;
        });
    });
  }

  // ---- view ------------------------------------------------------------------------------------------

  function show(a, b) {
    const [low, high] = extent(), least = Math.min(high - low, Math.max(spacing() * 4, 1e-3));
    const size = Math.min(Math.max(b - a, least), high - low);
    const start = Math.min(Math.max(a + (b - a - size) / 2, low), high - size);
    [from, to] = [start, start + size];
    redraw();
  }

  function zoom(factor, about = (from + to) / 2) {
    show(about - (about - from) * factor, about + (to - about) * factor);
  }

  function setCursor(x, told) {
    cursor = x;
    const bucket = bucketAt(x), time = recording.time[bucket], half = spacing() / 2;
    const gap = recording.gaps.find(([a, b]) => time >= a - half && time <= b + half);
    let text = place(bucket) + (gap ? " · " + gap[2] : "");
    if (told)
      for (const course of people())
        for (const lane of lanes().filter((l) => l.fits))
          text += " · " + (people().length > 1 ? course.label + " " : "") + lane.names.map((n) => n.replace(/_r$/, "") + " " + reading(course, n, bucket)).join(", ");
    status.textContent = text;
    redraw();
  }

  function step(by) {
    const bucket = cursor === null ? bucketAt(from) : bucketAt(cursor) + by;
    const x = recording.time[Math.min(Math.max(bucket, 0), recording.time.length - 1)];
    if (x < from || x > to) show(x - (to - from) / 2, x + (to - from) / 2);
    setCursor(x, true);
  }

  function key(event) {
    const size = to - from;
    const does = {
      ArrowLeft: () => (event.shiftKey ? show(from - size / 4, to - size / 4) : step(-1)),
      ArrowRight: () => (event.shiftKey ? show(from + size / 4, to + size / 4) : step(1)),
      "+": () => zoom(0.5, cursor ?? undefined), "=": () => zoom(0.5, cursor ?? undefined),
      "-": () => zoom(2, cursor ?? undefined), Home: () => show(...extent()), 0: () => show(...extent()),
    }[event.key];
    if (!does || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    does();
  }

  canvas.addEventListener("keydown", key);
  canvas.addEventListener("wheel", (event) => {
    // the wheel moves the page until the chart has been clicked
    if (document.activeElement !== canvas && !event.ctrlKey) return;
    event.preventDefault();
    if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      const by = (event.deltaX / width()) * (to - from);
      show(from + by, to + by);
    } else zoom(event.deltaY > 0 ? 1.25 : 0.8, toX(event.offsetX));
  }, { passive: false });
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    dragged = { pixel: event.offsetX, from, to };
  });
  canvas.addEventListener("pointermove", (event) => {
    if (dragged && Math.abs(event.offsetX - dragged.pixel) > 3) {
      const by = ((dragged.pixel - event.offsetX) / width()) * (dragged.to - dragged.from);
      show(dragged.from + by, dragged.to + by);
    }
    setCursor(toX(event.offsetX + (recording.video ? 0 : ((0.5 * width()) / (to - from)))), false);
  });
  for (const kind of ["pointerup", "pointercancel"]) canvas.addEventListener(kind, () => (dragged = null));
  canvas.addEventListener("dblclick", (event) => zoom(0.4, toX(event.offsetX)));

  // ---- controls --------------------------------------------------------------------------------------

  function toggle(text, pressed, change, colour) {
    const button = document.createElement("button");
    button.type = "button";
    if (colour) button.style.setProperty("--own", colour);
    button.textContent = text;
    const set = (on) => button.setAttribute("aria-pressed", String(on));
    set(pressed);
    button.addEventListener("click", () => {
      const on = button.getAttribute("aria-pressed") !== "true";
      set(on);
      change(on);
      redraw();
    });
    return button;
  }

  function plain(text, act) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = text;
    button.addEventListener("click", act);
    return button;
  }

  function row(id, ...nodes) {
    const holder = el(id);
    holder.querySelectorAll("button").forEach((b) => b.remove());
    holder.append(...nodes);
  }

  function fillControls() {
    const units = Object.keys(page.units).filter((u) => has(u + "_r") || has(u + "_L_r"));
    const choose = (set) => { recording.units = new Set(set); fillControls(); redraw(); };
    row("units", plain("most active", () => choose(recording.start)), plain("all", () => choose(units)),
      plain("none", () => choose([])),
      ...units.map((u) => {
        const button = toggle(u, recording.units.has(u), (on) => recording.units[on ? "add" : "delete"](u));
        button.title = page.units[u];
        return button;
      }));
    row("faces", ...recording.courses.map((c) =>
      toggle(c.label, c.shown, (on) => { c.shown = on; }, "var(--c" + (c.colour % COLOURS) + ")")));
    row("options",
      plain("zoom in +", () => zoom(0.5)), plain("zoom out −", () => zoom(2)), plain("whole", () => show(...extent())),
      toggle("left and right", view.sides, (on) => { view.sides = on; }),
      toggle("own scale per lane", view.fit, (on) => { view.fit = on; }),
      toggle("pose", view.pose, (on) => { view.pose = on; }),
      toggle("confidence", view.confidence, (on) => { view.confidence = on; }));
  }

  function open(index) {
    recording = page.recordings[index];
    recording.units ??= new Set(recording.start);
    recording.courses.forEach((c, i) => {
      c.shown ??= i < SHOWN_AT_FIRST;
      c.colour ??= i;
      c.label ??= (recording.video ? "face " : "face no. ") + c.id;
    });
    if (el("recording")) el("recording").value = String(index);
    const per = recording.per > 1
      ? "Each point shows the least and the greatest value of " + recording.per + " neighbouring " + (recording.video ? "frames" : "photos") + "; peaks and tables below use every one."
      : "Every " + (recording.video ? "frame" : "photo") + " of the table is drawn.";
    el("thinned").textContent = per;
    cursor = null;
    status.textContent = "";
    fillControls();
    show(...extent());
  }

  el("recording")?.addEventListener("change", (event) => open(Number(event.target.value)));
  document.querySelectorAll("button[data-at]").forEach((button) => {
    button.addEventListener("click", () => {
      const { recording: index, face, unit } = button.dataset;
      const [at, a, b] = [button.dataset.at, button.dataset.from, button.dataset.to].map(Number);
      if (page.recordings[index] !== recording) open(Number(index));
      const course = recording.courses.find((c) => String(c.id) === face);
      if (course) course.shown = true;
      if (unit) recording.units.add(unit);
      fillControls();
      const margin = Math.max((b - a) * 0.5, recording.timed ? 2 : 10);
      show(a - margin, b + margin);
      setCursor(at, true);
      canvas.focus({ preventScroll: true });
      el("courses").scrollIntoView();
    });
  });
  window.addEventListener("resize", redraw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  open(0);
})();
