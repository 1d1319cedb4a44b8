"use strict";
// One page, one rater. All sounds of a trial run at once, sample for sample, and a switch only moves the gains, so that nothing but the
// system changes. What was heard is counted in small bins, each only while its sound is the audible one.

const BIN = 0.05; // seconds
const WHOLE = 0.95; // share of a sound's bins that must have been heard before it can be rated
const FADE = 0.005; // seconds of a switch
const KEY = "loa-listening-rater";
const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";

const at = (id) => document.getElementById(id);
let audio = null; // AudioContext, made by the first click
let rater = null;
let trial = null; // {question, tracks, active, playing, ratings}

async function call(path, body) {
  const how = body === undefined ? {} : { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const response = await fetch(path, how);
  const told = await response.json().catch(() => ({}));
  if (!response.ok) {
    const error = new Error(typeof told.detail === "string" ? told.detail : "the server could not take this");
    error.status = response.status;
    throw error;
  }
  return told;
}

function say(text) { at("message").textContent = text; }

async function begin() {
  at("begin").disabled = true;
  audio = audio || new AudioContext();
  await audio.resume();
  rater = localStorage.getItem(KEY);
  let state = null;
  if (rater) {
    try { state = await call(`api/raters/${rater}`); } catch (error) { if (error.status !== 404) throw error; }
  }
  if (!state) {
    rater = (await call("api/raters", {})).rater;
    localStorage.setItem(KEY, rater);
    state = await call(`api/raters/${rater}`);
  }
  at("welcome").hidden = true;
  await show(state);
}

async function show(state) {
  stop();
  at("progress").hidden = false;
  at("progress").max = state.of;
  at("progress").value = state.done;
  at("count").textContent = `${state.done} of ${state.of}`;
  if (!state.next) {
    trial = null;
    at("trial").hidden = true;
    at("end").hidden = false;
    return;
  }
  const question = state.next;
  const names = (question.reference ? [question.reference] : []).concat(question.stimuli);
  const tracks = await Promise.all(names.map(async (name) => {
    const response = await fetch(`api/raters/${rater}/sounds/${name}`);
    if (!response.ok) throw new Error("a sound could not be fetched; reload the page");
    const buffer = await audio.decodeAudioData(await response.arrayBuffer());
    return { name, buffer, known: name === question.reference, bins: new Uint8Array(Math.max(1, Math.floor(buffer.duration / BIN))) };
  }));
  trial = { question, tracks, active: 0, playing: null, ratings: {} };
  draw();
  at("trial").hidden = false;
  at("question").tabIndex = -1;
  at("question").focus({ preventScroll: true });
}

function letter(index) {
  if (trial.tracks[index].known) return "Reference";
  return LETTERS[index - (trial.tracks[0].known ? 1 : 0)];
}

function draw() {
  const { question, tracks } = trial;
  at("question").textContent = question.question;
  at("caption").hidden = !question.caption;
  at("caption").textContent = question.caption || "";
  at("check").hidden = question.check === null;
  at("check").textContent = question.check === null ? "" : `This one checks attention: please choose ${question.grades[question.check]}.`;
  at("loop").checked = question.kind === "mushra";
  at("from").value = 0;
  at("to").value = 100;
  bounded();
  say("");
  at("sounds").replaceChildren(...tracks.map((track, index) => {
    const row = document.createElement("div");
    row.className = "sound";
    const button = document.createElement("button");
    button.setAttribute("aria-pressed", String(index === 0));
    button.append(letter(index));
    const heard = document.createElement("span");
    heard.className = "heard";
    heard.textContent = "0 %";
    button.append(heard);
    button.addEventListener("click", () => { pick(index); if (!trial.playing) play(); });
    row.append(button);
    if (question.kind === "mushra" && !track.known) {
      const slider = document.createElement("input");
      Object.assign(slider, { type: "range", min: 0, max: 100, value: 0, disabled: true });
      slider.setAttribute("aria-label", `Quality of sound ${letter(index)}, 0 to 100`);
      const value = document.createElement("output");
      value.textContent = "–";
      slider.addEventListener("input", () => { trial.ratings[track.name] = Number(slider.value); value.textContent = slider.value; check(); });
      row.append(slider, value);
    }
    return row;
  }));
  if (question.kind === "mushra") {
    const scale = document.createElement("div");
    scale.className = "scale";
    for (const word of ["Bad", "Poor", "Fair", "Good", "Excellent"]) {
      const mark = document.createElement("span");
      mark.textContent = word;
      scale.append(mark);
    }
    at("sounds").append(scale);
  }
  at("choice").replaceChildren(...choices().map(([text, ratings]) => {
    const label = document.createElement("label");
    const radio = document.createElement("input");
    Object.assign(radio, { type: "radio", name: "choice", disabled: true });
    radio.addEventListener("change", () => { trial.ratings = ratings; check(); });
    label.append(radio, text);
    return label;
  }));
  at("next").disabled = true;
}

function choices() {
  const { question } = trial;
  const names = question.stimuli;
  if (question.kind === "mushra") return [];
  if (question.kind === "pair") {
    const [a, b] = names;
    return [["A is better", { [a]: 1, [b]: 0 }], ["No difference", { [a]: 0.5, [b]: 0.5 }], ["B is better", { [a]: 0, [b]: 1 }]];
  }
  return Object.keys(question.grades).map(Number).sort((x, y) => x - y).map((grade) => [`${grade} ${question.grades[grade]}`, { [names[0]]: grade }]);
}

const share = (track) => track.bins.reduce((sum, bin) => sum + bin, 0) / track.bins.length;
const rated = () => trial.tracks.filter((track) => !track.known);

function bounded() {
  for (const label of document.querySelectorAll(".bound")) label.hidden = !at("loop").checked;
}

function check() {
  const whole = rated().every((track) => share(track) >= WHOLE);
  trial.tracks.forEach((track, index) => {
    const row = at("sounds").children[index];
    const part = share(track);
    row.querySelector(".heard").textContent = part >= WHOLE ? "heard" : `${Math.floor(100 * part)} %`;
    row.classList.toggle("whole", part >= WHOLE);
    const slider = row.querySelector("input");
    if (slider) slider.disabled = part < WHOLE;
  });
  for (const radio of at("choice").querySelectorAll("input")) radio.disabled = !whole;
  at("next").disabled = !(whole && rated().every((track) => track.name in trial.ratings));
}

function bounds() {
  const length = trial.tracks[0].buffer.duration;
  const from = Math.min(Number(at("from").value), Number(at("to").value) - 1) / 100;
  return at("loop").checked ? [Math.max(0, from) * length, (Number(at("to").value) / 100) * length] : [0, length];
}

function play() {
  stop();
  const [start, end] = bounds();
  const looped = at("loop").checked;
  const when = audio.currentTime + 0.03; // one start for all: they are aligned to the sample
  const sources = trial.tracks.map((track, index) => {
    const source = audio.createBufferSource();
    source.buffer = track.buffer;
    Object.assign(source, { loop: looped, loopStart: start, loopEnd: end });
    const gain = audio.createGain();
    gain.gain.value = index === trial.active ? 1 : 0;
    source.connect(gain).connect(audio.destination);
    source.start(when, start);
    return { source, gain };
  });
  const run = { sources, when, start, end, looped, last: { active: trial.active, at: start }, timer: 0 };
  trial.playing = run;
  run.timer = setInterval(() => follow(run), 20);
  at("play").textContent = "Stop";
  at("play").setAttribute("aria-pressed", "true");
}

function position(run) {
  const gone = audio.currentTime - run.when;
  if (gone < 0) return null;
  const length = run.end - run.start;
  return run.looped ? run.start + (gone % length) : Math.min(run.start + gone, run.end);
}

function follow(run) {
  if (!trial || trial.playing !== run) return;
  const now = position(run);
  if (now === null) return;
  const track = trial.tracks[trial.active];
  // What passed since the last look was heard, unless the loop began anew or the timer slept for long.
  if (run.last.active === trial.active && now >= run.last.at && now - run.last.at < 1) {
    for (let bin = Math.floor(run.last.at / BIN); bin <= Math.floor(now / BIN) && bin < track.bins.length; bin++) track.bins[bin] = 1;
  }
  run.last = { active: trial.active, at: now };
  at("time").textContent = `${now.toFixed(1)} s`;
  check();
  if (!run.looped && now >= run.end - 1e-3) stop();
}

function stop() {
  if (!trial || !trial.playing) return;
  const run = trial.playing;
  trial.playing = null;
  clearInterval(run.timer);
  for (const { source } of run.sources) source.stop();
  at("play").textContent = "Play";
  at("play").setAttribute("aria-pressed", "false");
}

function pick(index) {
  if (!trial || index === trial.active || index >= trial.tracks.length || index < 0) return;
  const run = trial.playing;
  trial.active = index;
  [...at("sounds").querySelectorAll("button")].forEach((button, k) => button.setAttribute("aria-pressed", String(k === index)));
  if (!run) return;
  run.sources.forEach(({ gain }, k) => {
    gain.gain.cancelScheduledValues(audio.currentTime);
    gain.gain.setTargetAtTime(k === index ? 1 : 0, audio.currentTime, FADE / 3);
  });
}

async function next() {
  at("next").disabled = true;
  const heard = {};
  for (const track of rated()) heard[track.name] = share(track) * track.buffer.duration;
  try {
    await show(await call(`api/raters/${rater}/answers`, { trial: trial.question.id, ratings: trial.ratings, heard }));
  } catch (error) {
    say(error.status ? `This was not taken: ${error.message}.` : "The server does not answer. Your rating is still here; try again in a moment.");
    at("next").disabled = false;
  }
}

at("begin").addEventListener("click", () => begin().catch((error) => { at("begin").disabled = false; at("count").textContent = String(error.message); }));
at("play").addEventListener("click", () => (trial.playing ? stop() : play()));
at("next").addEventListener("click", next);
for (const id of ["loop", "from", "to"]) at(id).addEventListener("change", () => { bounded(); if (trial && trial.playing) play(); });
document.addEventListener("keydown", (event) => {
  if (!trial || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === " " && event.target.tagName !== "BUTTON" && event.target.type !== "radio") {
    event.preventDefault();
    if (trial.playing) stop(); else play();
  }
  const letterAt = LETTERS.indexOf(event.key.toUpperCase());
  const index = event.key.toLowerCase() === "r" && trial.tracks[0].known ? 0 : letterAt + (trial.tracks[0].known ? 1 : 0);
  if (event.key.length === 1 && letterAt >= 0 && index < trial.tracks.length) pick(index);
});
// A reload in the middle goes on at once where a click is not needed for sound; otherwise the page waits for "Begin".
if (localStorage.getItem(KEY)) at("begin").textContent = "Go on";
