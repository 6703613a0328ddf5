// Samples → frames, as the model was trained on: window, power spectrum, mel bands, logarithm, DCT, deltas.

// The discrete Fourier transform of n complex points, taken apart by the prime factors of n (4 before 2).
class Transform {
  constructor(n) {
    this.n = n;
    this.radices = [];
    for (let rest = n, factor = 4; rest > 1; factor = factor === 4 ? 2 : factor === 2 ? 3 : factor + 2) {
      for (; rest % factor === 0; rest /= factor) this.radices.push(factor);
    }
    this.cos = Float64Array.from({ length: n }, (_, k) => Math.cos((2 * Math.PI * k) / n));
    this.sin = Float64Array.from({ length: n }, (_, k) => -Math.sin((2 * Math.PI * k) / n));
    this.re = new Float64Array(n);
    this.im = new Float64Array(n);
    this.partRe = new Float64Array(Math.max(1, ...this.radices));
    this.partIm = new Float64Array(Math.max(1, ...this.radices));
  }

  // Into this.re and this.im.
  run(re, im) {
    this.part(re, im, 0, 1, 0, this.n, 0);
  }

  part(re, im, from, stride, to, n, depth) {
    if (n === 1) {
      this.re[to] = re[from];
      this.im[to] = im[from];
      return;
    }
    const radix = this.radices[depth], m = n / radix, turn = this.n / n, { partRe, partIm, cos, sin } = this;
    for (let q = 0; q < radix; q++) this.part(re, im, from + q * stride, stride * radix, to + q * m, m, depth + 1);
    for (let k = 0; k < m; k++) {
      for (let q = 0; q < radix; q++) {
        const at = to + q * m + k, w = q * k * turn;
        partRe[q] = this.re[at] * cos[w] - this.im[at] * sin[w];
        partIm[q] = this.re[at] * sin[w] + this.im[at] * cos[w];
      }
      if (radix === 4) this.four(to + k, m);
      else this.any(to + k, m, radix);
    }
  }

  // The sums of four turned parts, without a product.
  four(at, m) {
    const { partRe, partIm, re, im } = this;
    const evenRe = partRe[0] + partRe[2], evenIm = partIm[0] + partIm[2], oddRe = partRe[1] + partRe[3], oddIm = partIm[1] + partIm[3];
    const restRe = partRe[0] - partRe[2], restIm = partIm[0] - partIm[2], turnRe = partIm[1] - partIm[3], turnIm = partRe[3] - partRe[1];
    re[at] = evenRe + oddRe;
    im[at] = evenIm + oddIm;
    re[at + m] = restRe + turnRe;
    im[at + m] = restIm + turnIm;
    re[at + 2 * m] = evenRe - oddRe;
    im[at + 2 * m] = evenIm - oddIm;
    re[at + 3 * m] = restRe - turnRe;
    im[at + 3 * m] = restIm - turnIm;
  }

  any(at, m, radix) {
    const { partRe, partIm, cos, sin } = this, turn = this.n / radix;
    for (let p = 0; p < radix; p++) {
      let sumRe = partRe[0], sumIm = partIm[0];
      for (let q = 1; q < radix; q++) {
        const w = ((q * p) % radix) * turn;
        sumRe += partRe[q] * cos[w] - partIm[q] * sin[w];
        sumIm += partRe[q] * sin[w] + partIm[q] * cos[w];
      }
      this.re[at + p * m] = sumRe;
      this.im[at + p * m] = sumIm;
    }
  }
}

// The power spectrum of a real window: of an even number of points by one transform of half as many complex ones.
class PowerSpectrum {
  constructor(window) {
    this.window = window;
    this.half = window % 2 === 0;
    this.transform = new Transform(this.half ? window / 2 : window);
    this.re = new Float64Array(this.transform.n);
    this.im = new Float64Array(this.transform.n);
    this.power = new Float64Array(Math.floor(window / 2) + 1);
  }

  of(samples) {
    const { transform, re, im, power } = this, n = transform.n;
    if (!this.half) {
      re.set(samples);
      transform.run(re, im);
      for (let k = 0; k < power.length; k++) power[k] = transform.re[k] ** 2 + transform.im[k] ** 2;
      return power;
    }
    for (let k = 0; k < n; k++) {
      re[k] = samples[2 * k];
      im[k] = samples[2 * k + 1];
    }
    transform.run(re, im);
    for (let k = 0; k <= n; k++) {
      const a = k % n, b = (n - k) % n, angle = (-2 * Math.PI * k) / this.window;
      const evenRe = (transform.re[a] + transform.re[b]) / 2, evenIm = (transform.im[a] - transform.im[b]) / 2;
      const oddRe = (transform.im[a] + transform.im[b]) / 2, oddIm = (transform.re[b] - transform.re[a]) / 2;
      const cos = Math.cos(angle), sin = Math.sin(angle);
      power[k] = (evenRe + cos * oddRe - sin * oddIm) ** 2 + (evenIm + cos * oddIm + sin * oddRe) ** 2;
    }
    return power;
  }
}

// Triangles of unit area per hertz between edges (n + 2) in Hz: for each band its first bin and its weights.
function melBands(edges, rate, window) {
  const bins = Math.floor(window / 2) + 1;
  return Array.from({ length: edges.length - 2 }, (_, band) => {
    const [low, centre, high] = [edges[band], edges[band + 1], edges[band + 2]];
    const weights = [];
    let first = 0;
    for (let k = 0; k < bins; k++) {
      const hz = (k * rate) / window, height = Math.min((hz - low) / (centre - low), (high - hz) / (high - centre));
      if (height <= 0) continue;
      if (!weights.length) first = k;
      weights.push((height * 2) / (high - low));
    }
    return { first, weights: Float64Array.from(weights) };
  });
}

// The weights that give the derivative of an order of the polynomial of that degree fitted to `width` frames.
function deltaWeights(width, order) {
  const taus = Array.from({ length: width }, (_, k) => k - (width - 1) / 2);
  const mean = taus.reduce((sum, tau) => sum + tau * tau, 0) / width;
  const shape = taus.map((tau) => (order === 1 ? tau : tau * tau - mean));
  const scale = order / shape.reduce((sum, v) => sum + v * v, 0);
  return shape.map((v) => v * scale);
}

// One window of samples → its log mel energies and its features without deltas.
class FrontEnd {
  constructor(config) {
    const { window, n_mels, n_mfcc } = config;
    this.config = config;
    this.size = config.kind === "mfcc" ? n_mfcc : n_mels;
    this.hann = Float64Array.from({ length: window }, (_, n) => 0.5 - 0.5 * Math.cos((2 * Math.PI * n) / window));
    this.spectrum = new PowerSpectrum(window);
    this.bands = melBands(config.edges_hz, config.rate_hz, window);
    this.cosines = Array.from({ length: n_mfcc }, (_, k) =>
      Float64Array.from({ length: n_mels }, (_, m) =>
        Math.sqrt((k ? 2 : 1) / n_mels) * Math.cos((Math.PI * k * (m + 0.5)) / n_mels)));
    this.windowed = new Float64Array(window);
    this.logMel = new Float64Array(n_mels);
  }

  // The features of the samples from `at` on, a new Float64Array; this.logMel is the frame's spectrogram.
  features(samples, at) {
    const { windowed, hann, logMel, bands } = this;
    for (let n = 0; n < windowed.length; n++) windowed[n] = samples[at + n] * hann[n];
    const power = this.spectrum.of(windowed);
    bands.forEach(({ first, weights }, band) => {
      let energy = 0;
      for (let k = 0; k < weights.length; k++) energy += weights[k] * power[first + k];
      logMel[band] = Math.log(Math.max(energy, this.config.log_floor));
    });
    if (this.config.kind !== "mfcc") return Float64Array.from(logMel);
    return Float64Array.from(this.cosines, (cosines) => {
      let sum = 0;
      for (let m = 0; m < cosines.length; m++) sum += cosines[m] * logMel[m];
      return sum;
    });
  }
}

// Samples in pieces of any size → frames (D,) with their deltas, the same ones for every chopping.
class FrameStream {
  constructor(frontEnd) {
    this.frontEnd = frontEnd;
    const { deltas, delta_width } = frontEnd.config;
    this.orders = Array.from({ length: deltas }, (_, order) => deltaWeights(delta_width, order + 1));
    this.onLogMel = null;
    this.rest = new Float32Array(0); // samples from the next frame's first on, or what came before it is skipped
    this.skip = 0; // samples until the next frame begins, where the hop is longer than the window
    this.before = 0; // the sample before the next one pushed
    this.started = false;
    this.count = 0; // frames without deltas so far
    this.recent = []; // the last of them, as many as a delta is fitted to and those that wait for one
    this.last = null; // the newest deltas
  }

  push(samples) {
    const found = [];
    for (const frame of this.statics(this.emphasised(samples))) this.delta(frame, found);
    return found;
  }

  // The frames that waited for later ones; the nearest deltas stand in, as at the end of a clip.
  finish() {
    const { delta_width: width } = this.frontEnd.config, half = width >> 1;
    if (!this.orders.length) return [];
    if (this.count >= width) return this.recent.slice(-half).map((frame) => this.joined(frame, this.last));
    const narrow = 2 * Math.floor((this.count - 1) / 2) + 1;
    const orders = narrow < 3 ? [] : this.orders.map((_, order) => deltaWeights(narrow, order + 1));
    return this.recent.map((frame, t) => {
      const start = Math.max(0, Math.min(t - (narrow >> 1), this.count - narrow));
      return this.joined(frame, narrow < 3 ? null : this.fitted(orders, start));
    });
  }

  emphasised(samples) {
    const a = this.frontEnd.config.pre_emphasis;
    if (!a || !samples.length) return samples;
    const out = new Float32Array(samples.length);
    for (let n = 0; n < samples.length; n++) out[n] = samples[n] - a * (n ? samples[n - 1] : this.before);
    if (!this.started) out[0] = samples[0];
    this.started = true;
    this.before = samples[samples.length - 1];
    return out;
  }

  *statics(samples) {
    const { window, hop } = this.frontEnd.config;
    const all = new Float32Array(this.rest.length + samples.length);
    all.set(this.rest);
    all.set(samples, this.rest.length);
    let at = this.skip;
    for (; at + window <= all.length; at += hop) {
      const frame = this.frontEnd.features(all, at);
      this.onLogMel?.(this.frontEnd.logMel);
      yield frame;
    }
    const used = Math.min(at, all.length);
    this.rest = all.slice(used);
    this.skip = at - used;
  }

  delta(frame, found) {
    if (!this.orders.length) {
      found.push(Float32Array.from(frame));
      return;
    }
    const width = this.frontEnd.config.delta_width, half = width >> 1;
    this.recent.push(frame);
    if (this.recent.length > width) this.recent.shift();
    this.count++;
    if (this.count < width) return;
    this.last = this.fitted(this.orders, 0);
    for (let t = this.count === width ? 0 : half; t <= half; t++) found.push(this.joined(this.recent[t], this.last));
  }

  // The deltas of the recent frames from `start` on.
  fitted(orders, start) {
    const size = this.frontEnd.size, out = new Float64Array(size * orders.length);
    orders.forEach((weights, order) => {
      for (let d = 0; d < size; d++) {
        let sum = 0;
        for (let tap = 0; tap < weights.length; tap++) sum += weights[tap] * this.recent[start + tap][d];
        out[order * size + d] = sum;
      }
    });
    return out;
  }

  joined(frame, deltas) {
    const out = new Float32Array(frame.length * (1 + this.orders.length));
    out.set(frame);
    if (deltas) out.set(deltas, frame.length);
    return out;
  }
}

// Standardise each feature over the frames of a clip, in place.
function standardiseClip(frames, smallest) {
  for (let d = 0; d < (frames[0]?.length ?? 0); d++) {
    const mean = frames.reduce((sum, frame) => sum + frame[d], 0) / frames.length;
    const square = frames.reduce((sum, frame) => sum + (frame[d] - mean) ** 2, 0) / frames.length;
    const deviation = Math.max(Math.sqrt(square), smallest);
    for (const frame of frames) frame[d] = (frame[d] - mean) / deviation;
  }
}
