// The page: models side by side on one sound, live or from files.

const CLIP_WINDOWS = 2; // files of more windows than this are streams, and not scored as a whole
const KEPT = 3; // decisions listed under a model
const MOST_KEPT = 1000; // decisions that the page remembers of a model
const MOST_SHOWN = 40; // labels that a card shows all at once
const CALM_MS = 200; // between two pictures, for those who want little motion
const THRESHOLDS = [0, 0.1, ...range(10, 45, 50), ...range(180, 198, 200), ...range(990, 1000, 1000), 0.9995, 0.9999, 0.99995, 0.99999];

const at = (id) => document.getElementById(id);
const seconds = (s) => `${+s.toFixed(2)}\u00a0s`;
const percent = (share) => `${Math.round(100 * share)}\u00a0%`;

function range(from, to, parts) {
  return Array.from({ length: to - from }, (_, k) => (from + k) / parts);
}

function element(name, text = "", kind = "") {
  const made = document.createElement(name);
  made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

// One model of the study on the page: its facts, the bars of its labels, what it decided.
class Card {
  constructor(model, lane) {
    const { facts } = model;
    this.model = model;
    this.lane = lane;
    this.root = element("article", "", "model");
    this.root.style.setProperty("--own", `var(--series-${1 + (lane % 7)})`);
    this.heard = element("div", "", "heard");
    this.word = element("strong", "–");
    this.sure = element("span");
    this.heard.append(this.word, this.sure);
    this.bars = model.labels.map((label) => this.bar(label));
    const bars = this.list();
    this.history = element("ol", "", "history");
    const lines = [["title", facts.title], ["", facts.size], ["accuracy", facts.accuracy], ["", facts.seeds], ["", this.limits()]];
    this.root.append(element("h2", model.name), ...lines.filter(([, text]) => text).map(([kind, text]) => element("p", text, kind)));
    this.root.append(this.heard, bars, this.history);
    if (facts.equations) {
      const details = element("details"), pre = element("pre", facts.equations);
      pre.tabIndex = 0;
      details.append(element("summary", "Equations"), pre);
      this.root.append(details);
    }
    this.begin();
  }

  // The bars, in two columns where there are many labels, none is long and there is room; very many scroll.
  list() {
    const { labels } = this.model, longest = Math.max(...labels.map((label) => label.length));
    const list = element("ul", "", labels.length > 9 && labels.length <= MOST_SHOWN && longest <= 9 ? "bars many" : "bars");
    list.style.setProperty("--label", `${Math.min(11, Math.max(3.6, 0.55 * longest))}rem`);
    list.append(...this.bars.map(({ row }) => row));
    if (labels.length > MOST_SHOWN) Object.assign(list, { tabIndex: 0, ariaLabel: "Labels" });
    return list;
  }

  limits() {
    const { needsTheFuture, stream } = this.model, found = [];
    if (needsTheFuture) found.push(`Reads whole clips: live, the last ${seconds(stream.window_s)} again and again.`);
    if (!stream.background.length) found.push("No label is background, so it may take silence for one.");
    return found.join(" ");
  }

  bar(label) {
    const row = element("li"), track = element("span", "", "track"), fill = element("i"), share = element("span", "–", "share");
    track.append(fill);
    row.append(element("span", label), track, share);
    const background = this.model.stream.background.includes(label);
    row.firstChild.title = background ? `${label}: background, never decided for` : label;
    row.classList.toggle("background", background);
    return { row, fill, share };
  }

  begin() {
    this.stream = this.model.needsTheFuture ? new LastSeconds(this.model) : new Stream(this.model);
    this.decisions = new Decisions(this.model, threshold === null ? {} : { threshold }, this.stream.stepSamples);
    this.found = [];
    this.probabilities = null;
    this.showThreshold();
    this.say("–", "");
    this.history.replaceChildren(element("li", "No decision yet.", "none"));
    delete this.root.dataset.label;
  }

  // A line across the bars: what an average must reach.
  showThreshold() {
    this.root.style.setProperty("--threshold", String(this.decisions.threshold));
  }

  // Scores of new sound; returns the new decisions.
  push(scored) {
    const made = [];
    for (const each of scored) {
      const { probabilities, decision } = this.decisions.push(each);
      this.probabilities = probabilities;
      if (decision) made.push(decision);
    }
    for (const decision of made) this.decided(decision);
    return made;
  }

  decided(decision) {
    this.found.push(decision);
    if (this.found.length > MOST_KEPT) this.found.shift();
    this.say(decision.label, percent(decision.score));
    const row = element("li");
    row.append(element("span", `${decision.time_s.toFixed(2)} s`), element("span", decision.label), element("span", percent(decision.score)));
    if (this.found.length === 1) this.history.replaceChildren();
    this.history.prepend(row);
    while (this.history.children.length > KEPT) this.history.lastChild.remove();
  }

  say(word, sure) {
    this.word.textContent = word;
    this.word.title = word;
    this.sure.textContent = sure;
    this.heard.classList.remove("new");
    if (word !== "–") requestAnimationFrame(() => this.heard.classList.add("new"));
    this.root.dataset.label = word;
  }

  show() {
    if (!this.probabilities) return;
    const best = largest(this.probabilities);
    this.bars.forEach(({ row, fill, share }, k) => {
      fill.style.transform = `scaleX(${this.probabilities[k].toFixed(3)})`;
      share.textContent = percent(this.probabilities[k]);
      row.classList.toggle("most", k === best);
    });
  }
}

// The same sound for every model: one path for each sampling rate, in pieces of the picture's hop.
class Session {
  constructor(span, scrolls) {
    const { hop, rate_hz, n_mels } = models[0].features;
    timeline.clear(span, hop / rate_hz, n_mels, scrolls);
    cards.forEach((card) => card.begin());
    this.paths = [...new Set(models.map(({ features }) => features.rate_hz))].map((rate) => ({
      rate, resampler: null, own: cards.filter(({ model }) => model.features.rate_hz === rate),
    }));
    this.hopS = hop / rate_hz;
    this.drawn = new Float32Array(0);
    if (cards[0].stream.frames) cards[0].stream.frames.onLogMel = (logMel) => timeline.frame(logMel);
    else this.picture = Object.assign(new FrameStream(models[0].frontEnd), { onLogMel: (logMel) => timeline.frame(logMel) });
  }

  live(samples, rate) {
    for (const path of this.paths) {
      path.resampler ??= new Resampler(rate, path.rate);
      this.feed(path, path.resampler.push(samples));
    }
  }

  feed(path, samples) {
    globalThis.cello.onSound?.(samples, path.rate); // for whoever checks the page: exactly what its models are given
    if (path === this.paths[0]) {
      this.drawn = joined([this.drawn, samples]);
      const hop = models[0].features.hop;
      for (; this.drawn.length >= hop; this.drawn = this.drawn.subarray(hop)) timeline.wave(this.drawn.subarray(0, hop));
      this.picture?.push(samples);
    }
    for (const card of path.own) this.told(card, card.push(card.stream.push(samples)));
  }

  finish() {
    for (const path of this.paths) {
      for (const card of path.own) this.told(card, card.push(card.stream.finish()));
    }
  }

  told(card, made) {
    for (const { time_s, label } of made) {
      timeline.mark(card.lane, time_s, label);
      at("said").textContent = `${card.model.name}: ${label}`;
    }
  }

  show() {
    cards.forEach((card) => card.show());
    timeline.draw();
  }
}

function status(text, fault = false) {
  at("status").textContent = text;
  at("status").classList.toggle("fault", fault);
}

function state(name) {
  document.body.dataset.state = name;
}

async function toggleListening() {
  if (busy) return;
  if (stopListening) {
    stopListening();
    return;
  }
  const missing = lacking();
  if (missing) {
    status(missing, true);
    return;
  }
  at("listen").disabled = true;
  status("Waiting for the microphone…");
  try {
    await startListening();
  } catch (error) {
    status(MICROPHONE_FAULTS[error.name] ?? `The microphone cannot be used: ${error.message}`, true);
    state("fault");
  }
  at("listen").disabled = false;
}

async function startListening() {
  let drawing = 0, session = null, shown = 0;
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  const close = await listen((samples, rate) => session?.live(samples, rate), () => stopListening?.());
  session = new Session(LIVE_S, true);
  const draw = (now) => {
    if (!calm.matches || now - shown > CALM_MS) {
      session.show();
      shown = now;
    }
    drawing = requestAnimationFrame(draw);
  };
  draw(performance.now());
  results.length = 0;
  stopListening = () => {
    close();
    cancelAnimationFrame(drawing);
    stopListening = null;
    listening(false);
    status("Stopped. Press Listen to go on, or open a sound file.");
    state("ready");
  };
  listening(true);
  status(`Listening for the labels above; each model scores the last ${seconds(models[0].stream.window_s)} of sound.`);
  state("listening");
}

function listening(yes) {
  at("listen").setAttribute("aria-pressed", String(yes));
  at("listen-text").textContent = yes ? "Stop" : "Listen";
}

// Files one after the other, the last one stays in view.
async function openFiles(files) {
  if (!files.length || busy) return;
  stopListening?.();
  busy = true;
  state("busy");
  at("results").hidden = files.length < 2;
  at("results").querySelector("tbody").replaceChildren();
  results.length = 0;
  for (const file of files) {
    status(`${file.name} …`);
    try {
      results.push(await openFile(file));
    } catch (error) {
      results.push({ name: file.name, fault: error.message, models: [] });
      const why = error.name === "EncodingError" ? "it is no sound that this browser can decode" : error.message;
      status(`${file.name} cannot be used: ${why}. Open another file.`, true);
    }
    listed(results.at(-1));
  }
  busy = false;
  state("done");
}

async function openFile(file) {
  const bytes = await file.arrayBuffer(), sounds = new Map();
  for (const { features } of models) {
    if (!sounds.has(features.rate_hz)) sounds.set(features.rate_hz, await decoded(bytes, features.rate_hz));
  }
  const { rate_hz } = models[0].features, seconds = sounds.get(rate_hz).length / rate_hz;
  const session = new Session(Math.max(seconds, 0.2), false);
  await streamed(session, sounds);
  const found = cards.map((card) => wholeClip(card, sounds.get(card.model.features.rate_hz), seconds));
  const whole = found.every(({ scores }) => scores);
  session.show();
  status(`${file.name}, ${seconds.toFixed(2)} s.${whole ? " The bars show the probabilities of the whole clip." : ""}`);
  return { name: file.name, seconds, models: found };
}

// Through the same path as live sound, piece by piece; the page stays usable.
async function streamed(session, sounds) {
  let shown = performance.now();
  const pieces = Math.max(...session.paths.map(({ rate }) => Math.ceil(sounds.get(rate).length / (session.hopS * rate))));
  for (let k = 0; k < pieces; k++) {
    for (const path of session.paths) {
      const piece = Math.round(session.hopS * path.rate);
      session.feed(path, sounds.get(path.rate).subarray(k * piece, (k + 1) * piece));
    }
    if (performance.now() - shown > 60) {
      session.show();
      await new Promise((resolve) => setTimeout(resolve));
      shown = performance.now();
    }
  }
  session.finish();
}

function wholeClip(card, samples, seconds) {
  const { model } = card, found = { name: model.name, decisions: card.found.slice() };
  if (seconds > CLIP_WINDOWS * model.stream.window_s) return found;
  const scores = model.predict(samples), probabilities = softmax(scores), best = largest(scores);
  card.probabilities = probabilities;
  card.say(model.labels[best], `${percent(probabilities[best])}, whole clip`);
  return { ...found, label: model.labels[best], score: probabilities[best], scores: [...scores] };
}

function listed({ name, fault, models: found }) {
  const row = element("tr"), heading = element("th", name);
  heading.scope = "row";
  row.append(heading);
  for (const each of fault ? models.map(() => null) : found) {
    const cell = element("td", each ? (each.label ?? [...new Set(each.decisions.map(({ label }) => label))].join(", ")) : "–");
    if (each?.score) cell.append(" ", element("span", percent(each.score)));
    row.append(cell);
  }
  at("results").querySelector("tbody").append(row);
}

// The slider goes through the thresholds that cello evaluate --stream tries, and the models' own.
function wireThreshold() {
  const own = [...new Set(models.map(({ stream }) => stream.threshold))], { smooth_s, refractory_s } = models[0].stream;
  const stops = [...new Set([...THRESHOLDS, ...own])].sort((a, b) => a - b), slider = at("threshold");
  const show = (text) => {
    at("threshold-text").textContent = text;
    slider.setAttribute("aria-valuetext", text);
  };
  Object.assign(slider, { max: stops.length - 1, value: stops.indexOf(own[0]) });
  show(own.length > 1 ? "each model’s own" : String(own[0]));
  at("rule").textContent = `A decision needs this probability on average over ${seconds(smooth_s)}, and ${seconds(refractory_s)} since the last one.`;
  slider.addEventListener("input", () => {
    decideFrom(stops[slider.value]);
    show(String(threshold));
  });
}

function decideFrom(value) {
  threshold = value;
  for (const card of cards) {
    card.decisions.threshold = threshold;
    card.showThreshold();
  }
}

function wire() {
  wireThreshold();
  at("listen").addEventListener("click", toggleListening);
  at("files").addEventListener("change", async () => {
    await openFiles([...at("files").files]);
    at("files").value = "";
  });
  const over = (yes) => (event) => {
    event.preventDefault();
    document.body.classList.toggle("over", yes);
  };
  addEventListener("dragover", over(true));
  addEventListener("dragleave", (event) => event.relatedTarget || over(false)(event));
  addEventListener("drop", (event) => {
    over(false)(event);
    openFiles([...event.dataTransfer.files]);
  });
  const head = element("tr");
  head.append(...["File", ...models.map(({ name }) => name)].map((text) => Object.assign(element("th", text), { scope: "col" })));
  at("results").querySelector("thead").append(head);
}

let threshold = null, stopListening = null, busy = false;
const results = [];
const models = MODELS.map((description) => new Model(description, CELLS));
const cards = models.map((model, lane) => new Card(model, lane));
const timeline = new Timeline(at("timeline"), models.map(({ name }) => name));
at("models").classList.toggle("one", models.length === 1);
at("models").append(...cards.map(({ root }) => root));
wire();
timeline.draw();
const missing = lacking();
at("listen").disabled = missing !== null;
status(missing ?? "Press Listen and speak, or drop a sound file anywhere.", false);
globalThis.cello = { models, results, decideFrom, decisions: () => cards.map(({ model, found }) => ({ name: model.name, decisions: found })) };
state("ready");
