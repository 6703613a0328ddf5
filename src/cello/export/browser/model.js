// A trained classifier: frames → standardised → stacked → recurrent layers → pooling over time → scores.

function floats(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  return Float32Array.from({ length: bytes.length / 4 }, (_, k) => view.getFloat32(4 * k, true));
}

// A weight as it is stored: float32, or int8 with one scale a row.
function unpacked({ float32, int8, scales }) {
  if (float32 !== undefined) return floats(float32);
  const bytes = Uint8Array.from(atob(int8), (letter) => letter.charCodeAt(0)), rows = floats(scales);
  const width = bytes.length / rows.length;
  return Float32Array.from(new Int8Array(bytes.buffer), (value, k) => value * rows[Math.floor(k / width)]);
}

// A cell whose states begin where they are declared to, not at zero.
function begun(cell, first) {
  first.forEach((packed, k) => packed && cell.states[k].set(unpacked(packed)));
  return cell;
}

function softmax(scores) {
  const most = Math.max(...scores), shares = Float64Array.from(scores, (score) => Math.exp(score - most));
  const sum = shares.reduce((a, b) => a + b, 0);
  return shares.map((share) => share / sum);
}

function largest(values) {
  let best = 0;
  for (let k = 1; k < values.length; k++) if (values[k] > values[best]) best = k;
  return best;
}

class Model {
  // `cells` are the functions that write steps, by the names that the description calls them by.
  constructor(description, cells) {
    Object.assign(this, description);
    this.frontEnd = new FrontEnd(description.features);
    this.mean = unpacked(description.mean);
    this.deviation = unpacked(description.deviation);
    this.layers = description.layers.map((directions) => directions.map(({ cell, weights, reverse, inputs, first = [] }) => ({
      reverse,
      begin: (own, hidden) => begun(cells[cell](own, hidden, inputs), first),
      weights: Object.fromEntries(Object.entries(weights).map(([name, packed]) => [name, unpacked(packed)])),
    })));
    this.score = description.score && { weight: unpacked(description.score.weight), bias: description.score.bias };
    this.head = { weight: unpacked(description.head.weight), bias: unpacked(description.head.bias) };
  }

  // Why this model cannot score a stream, and what to train instead; null where it can.
  get needsTheFuture() {
    if (this.layers.some((layer) => layer.some(({ reverse }) => reverse))) {
      return "A bidirectional model reads each clip from its end; train with model.bidirectional=false to stream.";
    }
    if (this.features.normalisation === "clip") {
      return "features.normalisation=clip needs the whole clip; train with features.normalisation=corpus to stream.";
    }
    return null;
  }

  // The (C,) scores of a clip of samples at features.rate_hz.
  predict(samples) {
    const { window, rate_hz, normalisation, smallest_deviation } = this.features;
    if (samples.length < window) {
      const [lasts, needs] = [samples.length, window].map((n) => Math.round((1000 * n) / rate_hz));
      throw new RangeError(`the clip lasts ${lasts} ms, less than one window of ${needs} ms; give a longer one`);
    }
    const stream = new FrameStream(this.frontEnd);
    const frames = [...stream.push(samples), ...stream.finish()];
    if (normalisation === "clip") standardiseClip(frames, smallest_deviation);
    const stacker = new Stacker(this);
    let steps = [...frames.flatMap((frame) => stacker.push(frame)), ...stacker.finish()];
    let lasts = [];
    for (const layer of this.layers) {
      const sides = layer.map((direction) => this.scanned(direction, steps));
      lasts = sides.map(({ last }) => last);
      steps = steps.map((_, t) => joined(sides.map(({ outputs }) => outputs[t])));
    }
    return this.classified(this.pooling === "last" ? joined(lasts) : this.pooled(steps));
  }

  // The outputs of one direction over a clip, and the one where it has seen all of it.
  scanned({ begin, weights, reverse }, steps) {
    const cell = begin(weights, this.hidden), outputs = new Array(steps.length), order = [...steps.keys()];
    let last = cell.states[0].slice();
    for (const t of reverse ? order.reverse() : order) last = outputs[t] = cell.step(steps[t]).slice();
    return { outputs, last };
  }

  // Mean or attention over outputs; of attention, `weights` are their scores where they are known.
  pooled(outputs, weights = null) {
    const shares = this.pooling === "mean" ? null : softmax(weights ?? outputs.map((y) => this.attention(y)));
    const out = new Float32Array(outputs[0].length);
    for (let k = 0; k < out.length; k++) {
      let sum = 0;
      for (let t = 0; t < outputs.length; t++) sum += outputs[t][k] * (shares ? shares[t] : 1 / outputs.length);
      out[k] = sum;
    }
    return out;
  }

  attention(output) {
    return dot(this.score.weight, output, 0) + this.score.bias;
  }

  classified(pooled) {
    return Float32Array.from(this.head.bias, (bias, label) => dot(this.head.weight, pooled, label) + bias);
  }
}

function joined(parts) {
  if (parts.length === 1) return parts[0];
  const out = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  parts.reduce((at, part) => (out.set(part, at), at + part.length), 0);
  return out;
}

// Frames → standardised, and every so many of them stacked into one.
class Stacker {
  constructor(model) {
    this.model = model;
    this.step = null;
    this.held = 0;
  }

  push(frame) {
    const { mean, deviation, frame_stacking } = this.model, size = frame.length;
    this.step ??= new Float32Array(size * frame_stacking);
    for (let d = 0; d < size; d++) this.step[this.held * size + d] = (frame[d] - mean[d]) / deviation[d];
    return ++this.held < frame_stacking ? [] : this.finish();
  }

  // What is held, with zeros in the place of frames that never came.
  finish() {
    const found = this.held ? [this.step] : [];
    this.step = null;
    this.held = 0;
    return found;
  }
}

// Sound in pieces of any size → the scores at every step, over the last `window_s` seconds.
class Stream {
  constructor(model, windowS = model.stream.window_s) {
    if (model.needsTheFuture) throw new TypeError(model.needsTheFuture);
    const { window, hop, rate_hz } = model.features, samples = nearest((1000 * windowS * rate_hz) / 1000);
    const frames = samples < window ? 1 : 1 + Math.floor((samples - window) / hop);
    this.model = model;
    this.frames = new FrameStream(model.frontEnd);
    this.stacker = new Stacker(model);
    this.layers = model.layers.map(([{ begin, weights }]) => begin(weights, model.hidden));
    this.steps = Math.ceil(frames / model.frame_stacking); // W
    this.outputs = [];
    this.weights = [];
    this.seen = 0; // frames with deltas so far
  }

  push(samples) {
    return this.frames.push(samples).flatMap((frame) => this.frame(frame));
  }

  finish() {
    const found = this.frames.finish().flatMap((frame) => this.frame(frame));
    return [...found, ...this.stacker.finish().map((step) => this.scored(step))];
  }

  frame(frame) {
    this.seen++;
    return this.stacker.push(frame).map((step) => this.scored(step));
  }

  scored(step) {
    const { model } = this, { window, hop, rate_hz } = model.features;
    const output = this.layers.reduce((x, cell) => cell.step(x), step).slice();
    let pooled = output;
    if (model.pooling !== "last") {
      this.outputs.push(output);
      if (model.score) this.weights.push(model.attention(output));
      if (this.outputs.length > this.steps) {
        this.outputs.shift();
        this.weights.shift();
      }
      pooled = model.pooled(this.outputs, model.score && this.weights);
    }
    return { time_s: ((this.seen - 1) * hop + window) / rate_hz, scores: model.classified(pooled) };
  }
}

// In the place of a stream, for models that need whole clips: the last seconds scored anew a few times a second.
class LastSeconds {
  static EVERY_S = 0.2;

  constructor(model) {
    const { rate_hz, window } = model.features;
    this.model = model;
    this.length = Math.max(window, nearest(model.stream.window_s * rate_hz));
    this.stepSamples = nearest(LastSeconds.EVERY_S * rate_hz);
    this.recent = new Float32Array(0);
    this.seen = 0;
    this.next = Math.max(window, nearest(this.length / 2));
  }

  push(samples) {
    const found = [];
    for (let at = 0; at < samples.length; ) {
      const piece = samples.subarray(at, at + this.next - this.seen);
      this.recent = joined([this.recent, piece]).slice(-this.length);
      this.seen += piece.length;
      at += piece.length;
      if (this.seen === this.next) {
        found.push({ time_s: this.seen / this.model.features.rate_hz, scores: this.model.predict(this.recent) });
        this.next += this.stepSamples;
      }
    }
    return found;
  }

  finish() {
    return [];
  }
}

// The nearest whole number, of two equally near the even one, as Python rounds.
function nearest(x) {
  const below = Math.floor(x), rest = x - below;
  return rest === 0.5 ? below + (below % 2) : below + (rest > 0.5);
}

// Scores at every step → decisions, by the rule of Python's streams: cello/deploy/decisions.py and docs/export.md have it.
class Decisions {
  constructor(model, settings = {}, stepSamples = model.features.hop * model.frame_stacking) {
    const { rate_hz } = model.features;
    Object.assign(this, { labels: model.labels, rate_hz }, model.stream, settings);
    this.steps = Math.max(1, nearest((this.smooth_s * rate_hz) / stepSamples));
    this.refractory = nearest(this.refractory_s * rate_hz);
    this.recent = [];
    this.last = null; // the sample at which the sound of the last decision's step ended
  }

  // `probabilities` (C,) averaged over the last `smooth_s`, and a decision {time_s, label, score} or null.
  push({ time_s, scores }) {
    this.recent.push(softmax(scores));
    if (this.recent.length > this.steps) this.recent.shift();
    const sums = this.recent.reduce((sum, each) => sum.map((v, k) => v + each[k]), new Float64Array(scores.length));
    const probabilities = sums.map((sum) => sum / this.recent.length);
    return { probabilities, decision: this.decided(time_s, probabilities) };
  }

  decided(time_s, probabilities) {
    const best = largest(probabilities), label = this.labels[best], score = probabilities[best];
    if (!(score >= this.threshold) || this.background.includes(label)) return null;
    const end = Math.round(time_s * this.rate_hz);
    if (this.last !== null && end - this.last < this.refractory) return null;
    this.last = end;
    return { time_s, label, score };
  }
}
