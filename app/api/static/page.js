// The page: what a person does, and what follows from it.

import { blended, laid, pixelsOf } from "./heat.js";
import { Probe } from "./probe.js";
import { Problem, ask, askJson, curl, useKey } from "./service.js";
import { alerts, bars, curves, element, mapsOf, noveltyOf, options, percent, receipt, thumbnails, warnings } from "./view.js";

const at = (id) => document.getElementById(id);
const probe = new Probe({
  film: at("film"), mark: at("probe"), readout: at("readout"), spoken: at("spoken"), onSpace: () => at("bare").click(),
});
const TOGGLES = ["counterfactual", "all_classes", "faithfulness"];

const state = {
  film: null, // {blob, name, pixels: ImageData} that is shown
  offered: null, // {blob, name, pixels} that was asked about last; one that was refused may lack a frame number
  answer: null,
  input: null, // {width, height, fit} of the model that gave the answer
  covered: null, // the box of its input that its heatmaps cover, null for all of it
  heat: null, // {values, region, window, cells: 0..1 per pixel of the window, bins}
  models: [], // as the service lists them
  facts: null, // of the model's version
  colours: {}, // name -> 256 × [r, g, b]
  asking: new AbortController(),
  again: null, // what to do once a key is given or another try is asked for
};

// --- What the service is -------------------------------------------------------------------------

async function start(signal) {
  const [colours, { models }] = await Promise.all([
    askJson("static/colormaps.json", { signal }), askJson("models", { signal }),
  ]);
  Object.assign(state, { colours, models });
  options(at("colormap"), Object.keys(colours).map((name) => [name, name]), at("colormap").value || "jet");
  const served = models.find((model) => model.default) ?? models[0];
  options(at("model"), models.map(({ name }) => [name, name]), served.name);
  at("model-field").hidden = models.length < 2;
  await meet(signal);
}

/** Learn about the model and the version that are chosen; without a version, about the one that the service chooses. */
async function meet(signal) {
  const version = at("version").value;
  const path = `models/${encodeURIComponent(at("model").value)}`;
  const facts = await askJson(path, { parameters: { version }, signal });
  if (signal.aborted) return;
  state.facts = facts;
  const others = facts.versions.filter((number) => number !== facts.version).sort((one, other) => other - one);
  const numbered = others.map((number) => [String(number), String(number)]);
  options(at("version"), [["", `${facts.version ?? "the newest"} (served)`], ...numbered], version);
  at("version-field").hidden = facts.versions.length < 2;
  const device = facts.device ? `, on ${facts.device}` : "";
  at("served").textContent = `${facts.name}, version ${facts.described}${device}`;
  options(at("method"), facts.methods.map((method) => [method, method]), "gradcam");
  offerClasses();
}

/** Whether `answer` is by the model and version that `state.facts` are about. */
function answers({ model }) {
  return model.name === state.facts.name && model.version === state.facts.described;
}

function offerClasses() {
  const { answer, facts: { classes } } = state;
  const predicted = answer && answers(answer) ? `${answer.label} (predicted)` : "the predicted class";
  const named = classes.map((name) => [name, name]);
  options(at("class"), [["", predicted], ...named], at("class").value);
  const explained = at("class").value || state.answer?.label;
  options(at("against"), [["", "–"], ...named.filter(([name]) => name !== explained)], at("against").value);
}

// --- Asking --------------------------------------------------------------------------------------

function question() {
  const asked = { class: at("class").value, against: at("against").value };
  if (at("method").value !== "gradcam") asked.method = at("method").value;
  if (!at("model-field").hidden) asked.model = at("model").value;
  asked.version = at("version").value;
  if (!at("frame-field").hidden) asked.frame = at("number").value;
  for (const name of TOGGLES) if (at(name).checked) asked[name] = "true";
  return asked;
}

function look() {
  const style = {};
  if (at("alpha").value !== "0.5") style.alpha = at("alpha").value;
  if (at("colormap").value !== "jet") style.colormap = at("colormap").value;
  return style;
}

/** Run `work(signal)`; whatever was under way is called off; what goes wrong is said, and `failed()` called. */
async function busy(words, work, failed = () => {}) {
  state.asking.abort();
  const asking = new AbortController();
  state.asking = asking;
  say("problem", []);
  at("unlock").hidden = true;
  at("main").setAttribute("aria-busy", "true");
  at("progress").hidden = false;
  at("status").textContent = words;
  state.again = () => busy(words, work, failed);
  try {
    await work(asking.signal);
    if (!asking.signal.aborted) at("status").textContent = "";
  } catch (error) {
    if (asking.signal.aborted || error.name === "AbortError") return;
    if (!(error instanceof Problem)) throw error;
    failed();
    complain(error);
  } finally {
    if (state.asking === asking) {
      at("main").setAttribute("aria-busy", "false");
      at("progress").hidden = true;
    }
  }
}

function complain(error) {
  at("status").textContent = "";
  say("problem", [[error.title, error.message]]);
  at("unlock").hidden = error.status !== 401 && error.status !== 403;
  if (!at("unlock").hidden) at("key").focus();
  if (/\bframes?\b/i.test(error.message)) at("frame-field").hidden = false;
  if (error.retry) at("problem").firstChild.append(element("button", { type: "button", textContent: "Try again", onclick: state.again }));
}

/** After a question without an answer: nothing that answers another question may look like one to this. */
function outdate() {
  at("main").classList.toggle("stale", state.offered === state.film);
  at("download").disabled = true;
  if (state.offered === state.film) return;
  Object.assign(state, { film: null, answer: null });
  at("empty").hidden = false;
  for (const id of ["frame", "controls", "panel", "classes"]) at(id).hidden = true;
  say("warnings", []);
}

function say(id, found) {
  alerts(at(id), found);
}

/** Show `blob` as the film: the server reads it, so that every kind can be shown, turned as its header says. */
async function put(blob, name) {
  at("frame-field").hidden = true;
  at("number").value = "";
  at("class").value = at("against").value = "";
  await inquire({ blob, name, pixels: null }, `Reading ${name}`);
}

async function inquire(film, words) {
  state.offered = film;
  at("main").classList.toggle("stale", state.film !== null && film.blob !== state.film.blob);
  await busy(words, (signal) => answered(film, signal), outdate);
}

async function answered(film, signal) {
  if (!state.facts) await start(signal);
  // The film comes once and lossless; later questions about it need no picture, as the page draws for itself.
  const parameters = { ...question(), ...(film.pixels ? { overlay: false } : { alpha: 0, format: "png" }) };
  const answer = await askJson("explain", { parameters, film, signal });
  const pixels = film.pixels ?? (await pixelsOf(answer.explanation.overlay));
  if (!signal.aborted && !answers(answer)) await meet(signal); // another version has taken over since
  if (signal.aborted) return;
  state.film = state.offered = { ...film, pixels };
  show(answer);
}

// --- Showing -------------------------------------------------------------------------------------

function show(answer) {
  const { pixels } = state.film;
  const { explanation } = answer;
  const hadFocus = at("empty").contains(document.activeElement);
  state.answer = answer;
  state.input = state.facts.input;
  state.covered = state.facts.feature_layer.region;
  state.heat = laid(explanation.heatmap.values, pixels, answer.image, state.input, state.covered);
  offerClasses();
  say("warnings", warnings(answer));
  at("label").textContent = answer.label;
  at("probability").textContent = percent(answer.probability);
  bars(at("bars"), answer.probabilities, explanation.class);
  at("about").textContent = `${state.film.name}, ${answer.image.width} × ${answer.image.height}`;
  at("novelty").textContent = noveltyOf(answer);
  at("told").textContent = `${explanation.heatmap.height} × ${explanation.heatmap.width} cells of ${explanation.layer}.`;
  at("faithful").replaceChildren(...[curves(explanation.faithfulness)].filter(Boolean));
  receipt(at("receipt"), answer.receipt);
  at("intended").textContent = answer.notice;
  at("empty").hidden = true;
  for (const id of ["frame", "controls", "panel"]) at(id).hidden = false;
  at("main").classList.remove("stale");
  at("download").disabled = false;
  Object.assign(at("film"), { width: pixels.width, height: pixels.height });
  at("frame").style.setProperty("--ratio", String(pixels.width / pixels.height));
  at("film").setAttribute("aria-label", `${state.film.name}, heat for ${explanation.class}`);
  if (hadFocus) at("film").focus({ preventScroll: true });
  at("spoken").textContent = `${answer.label}, ${percent(answer.probability)}`;
  probe.over(pixels, state.heat);
  paint();
}

function paint() {
  const colours = state.colours[at("colormap").value];
  const alpha = at("bare").getAttribute("aria-pressed") === "true" ? 0 : Number(at("alpha").value);
  const { pixels } = state.film;
  at("strength").textContent = `${Math.round(100 * Number(at("alpha").value))} %`;
  at("alpha").setAttribute("aria-valuetext", at("strength").textContent);
  at("film").getContext("2d").putImageData(blended(pixels, state.heat.bins, state.heat.window, colours, alpha), 0, 0);
  const strip = new ImageData(Uint8ClampedArray.from(colours.flatMap(([r, g, b]) => [r, g, b, 255])), 256, 1);
  at("legend").getContext("2d").putImageData(strip, 0, 0);
  at("curl").textContent = curl({ ...question(), ...look() }, state.film.name);
  const { answer, input, covered } = state;
  const drawn = ([name, values]) => {
    const { bins, window } = laid(values, pixels, answer.image, input, covered);
    return [name, blended(pixels, bins, window, colours, alpha)];
  };
  thumbnails(at("classes"), mapsOf(answer.explanation).slice(0, 12).map(drawn), (name) => {
    at("class").value = name;
    at("class").onchange();
  });
}

// --- What a person does --------------------------------------------------------------------------

function take(files) {
  const [file] = files;
  if (file) put(file, file.name || "film");
  else complain(new Problem("There is no film in that", "Drop or paste a picture file."));
}

function onDrop(event) {
  event.preventDefault();
  document.body.classList.remove("dropping");
  take(event.dataTransfer.files);
}

function onPaste(event) {
  if (event.target.closest("input")) return;
  event.preventDefault();
  take(event.clipboardData.files);
}

async function trySample() {
  await busy("Fetching the sample", async (signal) => {
    const response = await ask("static/sample.jpg", { accept: "image/*", signal });
    const blob = await response.blob();
    if (!signal.aborted) put(blob, "sample.jpg");
  });
}

async function download() {
  await busy("Drawing the overlay", async (signal) => {
    const parameters = { ...question(), ...look() };
    delete parameters.all_classes;
    delete parameters.faithfulness;
    const response = await ask("explain", { parameters, film: state.film, accept: "image/png", signal });
    const href = URL.createObjectURL(await response.blob());
    const stem = state.film.name.replace(/\.[^.]*$/, "");
    element("a", { href, download: `${stem}-${state.answer.explanation.class}.png` }).click();
    URL.revokeObjectURL(href);
  });
}

async function copy() {
  const text = at("curl").textContent;
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(text);
    at("copy").textContent = "Copied";
  } else { // only over HTTPS or on this machine may a page write to the clipboard
    getSelection().selectAllChildren(at("curl"));
    at("copy").textContent = "Selected: copy it";
  }
}

function unlock(event) {
  event.preventDefault();
  useKey(at("key").value);
  at("key").value = "";
  state.again();
}

/** Ask another model, or another version of it, about the film; until it has answered, the old answer is dimmed. */
async function changeModel() {
  const { film } = state;
  at("class").value = at("against").value = "";
  at("main").classList.toggle("stale", film !== null);
  at("download").disabled = true;
  await busy("Asking the other model", async (signal) => {
    await meet(signal);
    if (film && !signal.aborted) await answered(film, signal);
  }, outdate);
}

function listen() {
  const askAgain = () => state.film && inquire(state.film, "Asking again");
  at("choose").onclick = at("other").onclick = () => at("file").click();
  at("sample").onclick = trySample;
  at("file").onchange = () => {
    take(at("file").files);
    at("file").value = "";
  };
  for (const id of ["class", "against", "method", ...TOGGLES]) at(id).onchange = askAgain;
  at("number").onchange = () => inquire({ ...state.offered, pixels: null }, "Asking for that frame");
  at("model").onchange = () => {
    at("version").value = "";
    changeModel();
  };
  at("version").onchange = changeModel;
  at("alpha").oninput = at("colormap").onchange = paint;
  at("bare").onclick = () => {
    at("bare").setAttribute("aria-pressed", String(at("bare").getAttribute("aria-pressed") !== "true"));
    paint();
  };
  at("download").onclick = download;
  at("copy").onclick = copy;
  at("unlock").onsubmit = unlock;
  document.ondragover = (event) => {
    event.preventDefault();
    document.body.classList.add("dropping");
  };
  document.ondragleave = (event) => event.relatedTarget || document.body.classList.remove("dropping");
  document.ondrop = onDrop;
  document.onpaste = onPaste;
}

listen();
busy("Asking what is served", start);
