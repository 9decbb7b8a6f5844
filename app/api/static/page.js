// The page: its state, its event handlers and its requests.

import { blended, covered, laid, outlined, pixelsOf } from "./heat.js";
import { Probe } from "./probe.js";
import { Problem, ask, askJson, curl, useKey } from "./service.js";
import { alerts, bars, curves, element, headline, mapsOf, noveltyOf, options, organOf, percent, receipt, thumbnails, warnings } from "./view.js";

const at = (id) => document.getElementById(id);
const probe = new Probe({
  image: at("image"), mark: at("probe"), readout: at("readout"), spoken: at("spoken"), onSpace: () => at("bare").click(),
});
const TOGGLES = ["counterfactual", "all_classes", "faithfulness", "outline"];

const state = {
  image: null, // the displayed one: {blob, name, pixels: ImageData}
  requested: null, // that of the last request: {blob, name, pixels}; after an error it differs from `image`
  answer: null,
  covered: null, // the region of the original that the heatmaps of the answer cover
  heat: null, // {values, region, window, cells: 0..1 per pixel of the window, bins}
  models: [], // as listed by the service
  facts: null, // about the chosen model and version
  colours: {}, // name -> 256 × [r, g, b]
  controller: new AbortController(), // of the current request
  retry: null, // repeats the last request
};

// --- Models --------------------------------------------------------------------------------------

async function start(signal) {
  const [colours, { models }] = await Promise.all([
    askJson("static/colormaps.json", { signal }), askJson("models", { signal }),
  ]);
  Object.assign(state, { colours, models });
  options(at("colormap"), Object.keys(colours).map((name) => [name, name]), at("colormap").value || "jet");
  const served = models.find((model) => model.default) ?? models[0];
  options(at("model"), models.map(({ name }) => [name, name]), served.name);
  at("model-field").hidden = models.length < 2;
  await loadModel(signal);
}

/** Load the facts about the chosen model, at the chosen or the served version. */
async function loadModel(signal) {
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
  const { region } = facts;
  at("outline-field").hidden = !region;
  at("outline").checked &&= Boolean(region);
  at("organ-name").textContent = region?.name ?? "";
  options(at("method"), facts.methods.map((method) => [method, method]), "gradcam");
  listClasses();
}

/** Whether an answer is from the model and version in `state.facts`. */
function isFromModel({ model }) {
  return model.name === state.facts.name && model.version === state.facts.described;
}

function listClasses() {
  const { answer, facts: { classes } } = state;
  const predicted = answer && isFromModel(answer) ? `${answer.label} (predicted)` : "the predicted class";
  const named = classes.map((name) => [name, name]);
  options(at("class"), [["", predicted], ...named], at("class").value);
  const explained = at("class").value || state.answer?.label;
  options(at("against"), [["", "–"], ...named.filter(([name]) => name !== explained)], at("against").value);
}

// --- Requests ------------------------------------------------------------------------------------

function question() {
  const parameters = { class: at("class").value, against: at("against").value };
  if (at("method").value !== "gradcam") parameters.method = at("method").value;
  if (!at("model-field").hidden) parameters.model = at("model").value;
  parameters.version = at("version").value;
  if (!at("frame-field").hidden) parameters.frame = at("number").value;
  for (const name of TOGGLES) if (at(name).checked) parameters[name] = "true";
  return parameters;
}

function style() {
  const parameters = {};
  if (at("alpha").value !== "0.5") parameters.alpha = at("alpha").value;
  if (at("colormap").value !== "jet") parameters.colormap = at("colormap").value;
  return parameters;
}

/** Abort the current request and run `work(signal)`, announced as `status`. On an error, show it and call `failed()`. */
async function busy(status, work, failed = () => {}) {
  state.controller.abort();
  const controller = new AbortController();
  state.controller = controller;
  showAlerts("problem", []);
  at("unlock").hidden = true;
  at("main").setAttribute("aria-busy", "true");
  at("progress").hidden = false;
  at("status").textContent = status;
  state.retry = () => busy(status, work, failed);
  try {
    await work(controller.signal);
    if (!controller.signal.aborted) at("status").textContent = "";
  } catch (error) {
    if (controller.signal.aborted || error.name === "AbortError") return;
    if (!(error instanceof Problem)) throw error;
    failed();
    showProblem(error);
  } finally {
    if (state.controller === controller) {
      at("main").setAttribute("aria-busy", "false");
      at("progress").hidden = true;
    }
  }
}

function showProblem(error) {
  at("status").textContent = "";
  showAlerts("problem", [[error.title, error.message]]);
  at("unlock").hidden = error.status !== 401 && error.status !== 403;
  if (!at("unlock").hidden) at("key").focus();
  if (/\bframes?\b/i.test(error.message)) at("frame-field").hidden = false;
  if (error.retry) at("problem").firstChild.append(element("button", { type: "button", textContent: "Try again", onclick: state.retry }));
}

/** After an error: make sure that no earlier answer looks like the answer to the failed request. */
function markOutdated() {
  at("main").classList.toggle("stale", state.requested === state.image);
  at("download").disabled = true;
  if (state.requested === state.image) return;
  Object.assign(state, { image: null, answer: null });
  at("empty").hidden = false;
  for (const id of ["frame", "controls", "panel", "classes"]) at(id).hidden = true;
  showAlerts("warnings", []);
}

function showAlerts(id, found) {
  alerts(at(id), found);
}

/** Open `blob`. The server decodes it, so that every supported format is displayed, and in its orientation. */
async function openImage(blob, name) {
  at("frame-field").hidden = true;
  at("number").value = "";
  at("class").value = at("against").value = "";
  await askAbout({ blob, name, pixels: null }, `Reading ${name}`);
}

async function askAbout(image, status) {
  state.requested = image;
  at("main").classList.toggle("stale", state.image !== null && image.blob !== state.image.blob);
  await busy(status, (signal) => explain(image, signal), markOutdated);
}

async function explain(image, signal) {
  if (!state.facts) await start(signal);
  // The first answer contains the image, losslessly. Later answers need no picture: the page draws the overlay itself.
  const answered = (changes) => askJson("explain", { parameters: { ...question(), ...changes }, image, signal });
  let { pixels } = image;
  let answer = await answered(pixels ? { overlay: false } : { alpha: 0, format: "png", outline: null });
  if (!pixels) {
    pixels = await pixelsOf(answer.explanation.overlay);
    if (question().outline) answer = await answered({ overlay: false }); // that picture must not show the outline
  }
  if (!signal.aborted && !isFromModel(answer)) await loadModel(signal); // the service has loaded another version
  if (signal.aborted) return;
  state.image = state.requested = { ...image, pixels };
  show(answer);
}

// --- Display -------------------------------------------------------------------------------------

function show(answer) {
  const { pixels } = state.image;
  const { explanation } = answer;
  const hadFocus = at("empty").contains(document.activeElement);
  state.answer = answer;
  state.covered = covered(answer, state.facts);
  state.heat = laid(explanation.heatmap.values, pixels, answer.image, state.covered);
  listClasses();
  showAlerts("warnings", warnings(answer));
  [at("label").textContent, at("probability").textContent] = headline(answer);
  bars(at("bars"), answer, explanation.class);
  at("alone").hidden = !answer.labels;
  at("about").textContent = `${state.image.name}, ${answer.image.width} × ${answer.image.height}`;
  at("novelty").textContent = noveltyOf(answer);
  at("organ").textContent = organOf(answer);
  const { height, width } = explanation.heatmap;
  at("grid").textContent = `The heatmap has ${height} × ${width} cells, from the layer ${explanation.layer}.`;
  at("faithful").replaceChildren(...[curves(explanation.faithfulness)].filter(Boolean));
  receipt(at("receipt"), answer.receipt);
  at("intended").textContent = answer.notice;
  at("empty").hidden = true;
  for (const id of ["frame", "controls", "panel"]) at(id).hidden = false;
  at("main").classList.remove("stale");
  at("download").disabled = false;
  Object.assign(at("image"), { width: pixels.width, height: pixels.height });
  at("frame").style.setProperty("--ratio", String(pixels.width / pixels.height));
  at("image").setAttribute("aria-label", `${state.image.name}, heat for ${explanation.class}`);
  if (hadFocus) at("image").focus({ preventScroll: true });
  at("spoken").textContent = headline(answer).filter(Boolean).join(", ");
  probe.over(pixels, state.heat);
  paint();
}

function paint() {
  const colours = state.colours[at("colormap").value];
  const bare = at("bare").getAttribute("aria-pressed") === "true";
  const alpha = bare ? 0 : Number(at("alpha").value);
  const { pixels } = state.image;
  at("strength").textContent = `${Math.round(100 * Number(at("alpha").value))} %`;
  at("alpha").setAttribute("aria-valuetext", at("strength").textContent);
  const { bins, window, region } = state.heat;
  const { outline } = state.answer.explanation;
  const drawn = blended(pixels, bins, window, colours, alpha);
  at("image").getContext("2d").putImageData(outline && !bare ? outlined(drawn, outline.values, region) : drawn, 0, 0);
  const strip = new ImageData(Uint8ClampedArray.from(colours.flatMap(([r, g, b]) => [r, g, b, 255])), 256, 1);
  at("legend").getContext("2d").putImageData(strip, 0, 0);
  at("curl").textContent = curl({ ...question(), ...style() }, state.image.name);
  const thumbnail = ([name, values]) => {
    const heat = laid(values, pixels, state.answer.image, state.covered);
    return [name, blended(pixels, heat.bins, heat.window, colours, alpha)];
  };
  thumbnails(at("classes"), mapsOf(state.answer.explanation).slice(0, 12).map(thumbnail), (name) => {
    at("class").value = name;
    at("class").onchange();
  });
}

// --- Event handlers ------------------------------------------------------------------------------

function openFirst(files) {
  const [file] = files;
  if (file) openImage(file, file.name || "image");
  else showProblem(new Problem("No image found", "Drop or paste an image file."));
}

function onDrop(event) {
  event.preventDefault();
  document.body.classList.remove("dropping");
  openFirst(event.dataTransfer.files);
}

function onPaste(event) {
  if (event.target.closest("input")) return;
  event.preventDefault();
  openFirst(event.clipboardData.files);
}

async function trySample() {
  await busy("Loading the sample", async (signal) => {
    const response = await ask("static/sample.jpg", { accept: "image/*", signal });
    const blob = await response.blob();
    if (!signal.aborted) openImage(blob, "sample.jpg");
  });
}

async function download() {
  await busy("Drawing the overlay", async (signal) => {
    const parameters = { ...question(), ...style() };
    delete parameters.all_classes;
    delete parameters.faithfulness;
    const response = await ask("explain", { parameters, image: state.image, accept: "image/png", signal });
    const href = URL.createObjectURL(await response.blob());
    const stem = state.image.name.replace(/\.[^.]*$/, "");
    element("a", { href, download: `${stem}-${state.answer.explanation.class}.png` }).click();
    URL.revokeObjectURL(href);
  });
}

async function copy() {
  const text = at("curl").textContent;
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(text);
    at("copy").textContent = "Copied";
  } else { // pages can write to the clipboard only over HTTPS or on localhost
    getSelection().selectAllChildren(at("curl"));
    at("copy").textContent = "Selected: copy it";
  }
}

function unlock(event) {
  event.preventDefault();
  useKey(at("key").value);
  at("key").value = "";
  state.retry();
}

/** Explain the image by another model or version. Until its answer arrives, the old answer is dimmed. */
async function changeModel() {
  const { image } = state;
  at("class").value = at("against").value = "";
  at("main").classList.toggle("stale", image !== null);
  at("download").disabled = true;
  await busy("Loading the model", async (signal) => {
    await loadModel(signal);
    if (image && !signal.aborted) await explain(image, signal);
  }, markOutdated);
}

function listen() {
  const update = () => state.image && askAbout(state.image, "Updating the explanation");
  at("choose").onclick = at("other").onclick = () => at("file").click();
  at("sample").onclick = trySample;
  at("file").onchange = () => {
    openFirst(at("file").files);
    at("file").value = "";
  };
  for (const id of ["class", "against", "method", ...TOGGLES]) at(id).onchange = update;
  at("number").onchange = () => askAbout({ ...state.requested, pixels: null }, "Reading the frame");
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
busy("Loading the models", start);
