// The picture of the sound: waveform, spectrogram and a lane of decisions for each model, on one axis of time.

const WAVE = 56, SPECTRUM = 132, LANE = 26, GAP = 8, AXIS = 20;
const LIVE_S = 6; // seconds in view while it listens

class Timeline {
  constructor(canvas, names) {
    this.canvas = canvas;
    this.names = names;
    this.height = WAVE + SPECTRUM + names.length * LANE + 2 * GAP + AXIS;
    canvas.style.height = `${this.height}px`;
    this.image = document.createElement("canvas");
    this.clear(LIVE_S, 0.02, 40);
    new ResizeObserver(() => this.draw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.recoloured());
  }

  // Begin anew: `span` seconds in view, a column every `hop` seconds.
  clear(span, hop, bands, scrolls = true) {
    Object.assign(this, { span, hop, bands, scrolls });
    this.columns = Math.max(1, Math.ceil(span / hop));
    this.levels = new Float32Array(this.columns);
    this.values = new Float32Array(this.columns * bands).fill(-Infinity);
    this.waves = 0;
    this.frames = 0;
    this.peak = 0.05;
    this.top = -4; // the largest log energy in view
    this.marks = [];
    this.image.width = this.columns;
    this.image.height = bands;
    this.colours = null;
  }

  // Samples of one hop.
  wave(samples) {
    let peak = 0;
    for (const v of samples) peak = Math.max(peak, Math.abs(v));
    this.levels[this.waves++ % this.columns] = peak;
    this.peak = Math.max(0.05, peak, this.peak * 0.999);
  }

  frame(logMel) {
    const column = this.frames++ % this.columns;
    this.values.set(logMel, column * this.bands);
    const most = logMel.reduce((a, b) => Math.max(a, b), -Infinity);
    this.top = Math.max(-4, most, this.top - 0.01);
    this.paint(column);
  }

  mark(lane, time_s, label) {
    this.marks.push({ lane, time_s, label });
    if (this.marks.length > 400) this.marks.shift();
  }

  recoloured() {
    this.colours = null;
    for (let column = 0; column < Math.min(this.frames, this.columns); column++) this.paint(column);
    this.draw();
  }

  paint(column) {
    this.colours ??= palette();
    const context = this.image.getContext("2d"), pixels = context.createImageData(1, this.bands);
    for (let band = 0; band < this.bands; band++) {
      const share = (this.values[column * this.bands + band] - this.top) / 10 + 1;
      const at = 3 * Math.round(255 * Math.min(1, Math.max(0, share))), to = 4 * (this.bands - 1 - band);
      for (let k = 0; k < 3; k++) pixels.data[to + k] = this.colours[at + k];
      pixels.data[to + 3] = 255;
    }
    context.putImageData(pixels, column, 0);
  }

  draw() {
    const { canvas } = this, width = canvas.clientWidth, ratio = devicePixelRatio || 1;
    if (!width) return;
    const [w, h] = [Math.round(width * ratio), Math.round(this.height * ratio)];
    if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, { width: w, height: h });
    const context = canvas.getContext("2d"), style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(`--${name}`).trim();
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, this.height);
    const left = Math.round(Math.min(136, width * 0.24)), seconds = this.waves * this.hop;
    const from = this.scrolls ? Math.max(0, seconds - this.span) : 0;
    const area = { left, width: width - left, from, x: (s) => left + ((s - from) / this.span) * (width - left) };
    context.font = `12px ${getComputedStyle(document.body).fontFamily}`;
    context.textBaseline = "middle";
    this.drawLabels(context, colour, left);
    context.save();
    context.beginPath();
    context.rect(left, 0, area.width, this.height);
    context.clip();
    this.drawWave(context, colour, area);
    this.drawSpectrum(context, colour, area);
    this.drawAxis(context, colour, area);
    this.drawLanes(context, colour, area);
    context.restore();
  }

  drawLabels(context, colour, left) {
    const lanes = this.names.map((name, lane) => [name, this.lane(lane), colour(`series-${1 + (lane % 7)}`)]);
    const rows = [["sound", WAVE / 2], ["log-mel", WAVE + GAP + SPECTRUM / 2], ...lanes];
    for (const [name, y, dot] of rows) {
      const inset = dot ? 14 : 0;
      if (dot) {
        context.fillStyle = dot;
        context.beginPath();
        context.arc(5, y, 4, 0, 7);
        context.fill();
      }
      context.fillStyle = colour(dot ? "ink" : "faint");
      context.textAlign = "left";
      context.fillText(fitting(context, name, left - inset - 8), inset, y);
    }
  }

  lane(number) {
    return WAVE + SPECTRUM + 2 * GAP + AXIS + (number + 0.5) * LANE;
  }

  drawWave(context, colour, { left, width, x }) {
    const middle = WAVE / 2, first = Math.max(0, this.waves - this.columns);
    context.fillStyle = colour("raised");
    context.fillRect(left, 0, width, WAVE);
    context.fillStyle = colour("series-1");
    const bar = Math.max(1, (width / this.columns) * 0.7);
    for (let k = first; k < this.waves; k++) {
      const half = Math.max(0.5, Math.min(1, this.levels[k % this.columns] / this.peak) * (middle - 3));
      context.fillRect(x(k * this.hop), middle - half, bar, 2 * half);
    }
  }

  drawSpectrum(context, colour, { left, width, x }) {
    const y = WAVE + GAP, shown = Math.min(this.frames, this.columns), split = this.frames % this.columns;
    context.fillStyle = colour("raised");
    context.fillRect(left, y, width, SPECTRUM);
    const start = x((this.frames - shown) * this.hop), scale = (x(this.hop) - x(0));
    context.imageSmoothingEnabled = true;
    if (shown < this.columns) {
      if (shown) context.drawImage(this.image, 0, 0, shown, this.bands, start, y, shown * scale, SPECTRUM);
      return;
    }
    const old = this.columns - split;
    context.drawImage(this.image, split, 0, old, this.bands, start, y, old * scale, SPECTRUM);
    if (split) context.drawImage(this.image, 0, 0, split, this.bands, start + old * scale - 0.5, y, split * scale, SPECTRUM);
  }

  drawAxis(context, colour, { width, from, x }) {
    const y = WAVE + GAP + SPECTRUM, steps = [0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300];
    const step = steps.find((each) => (each / this.span) * width > 56) ?? 600;
    context.fillStyle = colour("faint");
    context.textAlign = "center";
    for (let k = Math.ceil(from / step); k * step <= from + this.span; k++) {
      const at = x(k * step);
      context.fillRect(at, y, 1, 4);
      if (at > x(from) + 12 && at < x(from + this.span) - 14) context.fillText(`${+(k * step).toFixed(1)} s`, at, y + 13);
    }
  }

  drawLanes(context, colour, { left, width, from, x }) {
    this.names.forEach((_, lane) => {
      context.fillStyle = colour("grid");
      context.fillRect(left, this.lane(lane) + LANE / 2 - 1, width, 1);
    });
    context.textAlign = "left";
    const ends = this.names.map(() => -Infinity); // of the lane's mark before
    for (const { lane, time_s, label } of this.marks) {
      if (time_s < from - 1 || time_s > from + this.span + 1) continue;
      const end = x(time_s), room = end - Math.max(ends[lane] + 3, from > 0 ? -Infinity : left);
      this.drawMark(context, colour, { lane, end, label, room });
      ends[lane] = end;
    }
  }

  // A label that ends at its decision's time; where the mark before leaves no room for it, a bar alone.
  drawMark(context, colour, { lane, end, label, room }) {
    const y = this.lane(lane), inset = room < 60 ? 4 : 6, text = fitting(context, label, Math.min(96, room - 2 * inset));
    const wide = context.measureText(text).width + 2 * inset, fits = wide <= room && (text === label || text.length > 3);
    const width = fits ? wide : 4;
    context.fillStyle = colour(`series-${1 + (lane % 7)}`);
    context.beginPath();
    context.roundRect(end - width, y - 9, width, 18, Math.min(4, width / 2));
    context.fill();
    context.fillStyle = colour("paper");
    if (fits) context.fillText(text, end - width + inset, y + 0.5);
  }
}

// Text cut to a width.
function fitting(context, text, width) {
  if (context.measureText(text).width <= width) return text;
  let cut = text;
  while (cut.length > 1 && context.measureText(`${cut}…`).width > width) cut = cut.slice(0, -1);
  return `${cut}…`;
}

// 256 colours from the page's own, quiet to loud.
function palette() {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const stops = dark
    ? [[30, 34, 38], [33, 59, 107], [106, 137, 255], [255, 189, 52], [255, 246, 220]]
    : [[244, 246, 247], [190, 212, 240], [0, 93, 200], [33, 40, 90], [12, 14, 30]];
  const colours = new Uint8ClampedArray(768);
  for (let n = 0; n < 256; n++) {
    const at = (n / 255) * (stops.length - 1), k = Math.min(stops.length - 2, Math.floor(at));
    for (let c = 0; c < 3; c++) colours[3 * n + c] = stops[k][c] + (at - k) * (stops[k + 1][c] - stops[k][c]);
  }
  return colours;
}
