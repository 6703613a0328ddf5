// Where sound comes from: the microphone or a file, at the rate that a model was trained at.

// Modified Bessel function of order zero, for the Kaiser window.
function bessel(x) {
  let sum = 1, term = 1;
  for (let k = 1; term > 1e-12 * sum; k++) sum += term *= (x / (2 * k)) ** 2;
  return sum;
}

// Change the sampling rate by a windowed sinc that cuts off below half of the lower rate; pieces of any size.
class Resampler {
  static CROSSINGS = 48; // zero crossings of the sinc on each side
  static BETA = 9; // Kaiser window: what is above half the rate is 90 dB down
  static EDGE = 0.944; // middle of the transition, as a share of half the lower rate

  constructor(from, to) {
    const divisor = (a, b) => (b ? divisor(b, a % b) : a);
    this.up = to / divisor(from, to);
    this.down = from / divisor(from, to);
    const cut = Resampler.EDGE * Math.min(1, to / from);
    this.half = Math.ceil(Resampler.CROSSINGS / cut);
    this.phases = Array.from({ length: this.up }, (_, phase) => this.taps(phase / this.up, cut));
    this.rest = new Float32Array(this.half - 1); // silence before the first sample
    this.phase = 0;
  }

  // The weights of the samples around a place that lies `offset` of a sample after one.
  taps(offset, cut) {
    return Float32Array.from({ length: 2 * this.half }, (_, k) => {
      const t = k - this.half + 1 - offset, x = Math.PI * cut * t, edge = t / this.half;
      if (Math.abs(edge) >= 1) return 0;
      const kaiser = bessel(Resampler.BETA * Math.sqrt(1 - edge * edge)) / bessel(Resampler.BETA);
      return cut * (x ? Math.sin(x) / x : 1) * kaiser;
    });
  }

  push(samples) {
    if (this.up === this.down) return samples;
    const all = joined([this.rest, samples]), out = [];
    let at = this.phase;
    for (; Math.floor(at / this.up) + 2 * this.half <= all.length; at += this.down) {
      const taps = this.phases[at % this.up], first = Math.floor(at / this.up);
      let sum = 0;
      for (let k = 0; k < taps.length; k++) sum += taps[k] * all[first + k];
      out.push(sum);
    }
    const used = Math.min(Math.floor(at / this.up), all.length);
    this.rest = all.slice(used);
    this.phase = at - used * this.up;
    return Float32Array.from(out);
  }
}

// Runs in the audio thread: all channels as one, in pieces of about 20 ms.
const COLLECTOR = `registerProcessor("collector", class extends AudioWorkletProcessor {
  constructor() { super(); this.piece = new Float32Array(128 * Math.max(1, Math.round(sampleRate / 6400))); this.at = 0; }
  process([channels]) {
    const length = channels.length ? channels[0].length : 0;
    for (let n = 0; n < length; n++) {
      let sum = 0;
      for (const channel of channels) sum += channel[n];
      this.piece[this.at++] = sum / channels.length;
      if (this.at === this.piece.length) { this.port.postMessage(this.piece.slice()); this.at = 0; }
    }
    return true;
  }
});`;

const MICROPHONE_FAULTS = {
  NotAllowedError: "The microphone was refused. Allow it for this page in the browser’s settings and press Listen again, or open a sound file.",
  NotFoundError: "No microphone was found. Connect one and press Listen again, or open a sound file.",
  NotReadableError: "The microphone cannot be read; another program may be using it. Close that and press Listen again.",
};

// Why this browser cannot listen, in a sentence; null where it can.
function lacking() {
  if (!navigator.mediaDevices?.getUserMedia) {
    return "This browser gives a page that is opened this way no microphone. Open a sound file, or try Chrome, Edge or Firefox.";
  }
  if (!globalThis.AudioContext || !globalThis.AudioWorkletNode) {
    return "This browser lacks AudioWorklet, so it cannot listen. Update it, or open a sound file.";
  }
  return null;
}

// Opens the microphone; `onSound(samples, rate)` gets pieces until the returned function is called.
async function listen(onSound, onEnd) {
  const stream = await navigator.mediaDevices.getUserMedia({
    audio: { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false },
  });
  const context = new AudioContext();
  const stop = () => {
    stream.getTracks().forEach((track) => track.stop());
    if (context.state !== "closed") context.close();
  };
  try {
    await collector(context);
    await context.resume();
  } catch (error) {
    stop();
    throw error;
  }
  const node = new AudioWorkletNode(context, "collector", { numberOfOutputs: 0 });
  node.port.onmessage = ({ data }) => onSound(data, context.sampleRate);
  context.createMediaStreamSource(stream).connect(node);
  stream.getTracks().forEach((track) => track.addEventListener("ended", onEnd));
  return stop;
}

// Chromium takes no Blob URL from a page that is a file; a browser that takes no data URL takes that.
async function collector(context) {
  try {
    await context.audioWorklet.addModule(`data:text/javascript,${encodeURIComponent(COLLECTOR)}`);
  } catch {
    const address = URL.createObjectURL(new Blob([COLLECTOR], { type: "text/javascript" }));
    await context.audioWorklet.addModule(address).finally(() => URL.revokeObjectURL(address));
  }
}

// The channels of a WAV file of 16-bit samples, bit for bit as Python reads them; null for any other file.
function wave(bytes) {
  const view = new DataView(bytes), word = (at) => String.fromCharCode(...new Uint8Array(bytes, at, 4));
  if (bytes.byteLength < 12 || word(0) !== "RIFF" || word(8) !== "WAVE") return null;
  let layout = null;
  for (let at = 12; at + 8 <= bytes.byteLength; ) {
    const size = view.getUint32(at + 4, true), start = at + 8;
    if (word(at) === "fmt " && start + 16 <= bytes.byteLength) {
      const [kind, channels, bits] = [0, 2, 14].map((k) => view.getUint16(start + k, true));
      layout = kind === 1 && bits === 16 && channels ? { channels, rate: view.getUint32(start + 4, true) } : null;
    }
    if (word(at) === "data") {
      if (!layout || start + size > bytes.byteLength) return null;
      const { channels, rate } = layout, length = Math.floor(size / (2 * channels));
      const read = (channel) => Float32Array.from({ length }, (_, n) => view.getInt16(start + 2 * (n * channels + channel), true) / 32768);
      return { rate, channels: Array.from({ length: channels }, (_, channel) => read(channel)) };
    }
    at = start + size + (size % 2);
  }
  return null;
}

// The samples of a file at a rate, all channels as one; the browser decodes at that rate where it can.
async function decoded(bytes, rate) {
  const { rate: own, channels } = wave(bytes) ?? (await byBrowser(bytes, rate));
  const mono = channels.length === 1 ? channels[0]
    : channels[0].map((_, n) => channels.reduce((sum, channel) => sum + channel[n], 0) / channels.length);
  if (own === rate) return mono;
  const resampler = new Resampler(own, rate), silence = new Float32Array(2 * resampler.half);
  return joined([resampler.push(mono), resampler.push(silence)]).slice(0, Math.round((mono.length * rate) / own));
}

async function byBrowser(bytes, rate) {
  const buffer = await (rateAllowed(rate) ?? new OfflineAudioContext(1, 1, 48000)).decodeAudioData(bytes.slice(0));
  const channels = Array.from({ length: buffer.numberOfChannels }, (_, k) => buffer.getChannelData(k).slice());
  return { rate: buffer.sampleRate, channels };
}

function rateAllowed(rate) {
  try {
    return new OfflineAudioContext(1, 1, rate);
  } catch {
    return null;
  }
}
