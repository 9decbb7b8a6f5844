// Elements of the page, created by the DOM and never from strings of markup.

const SVG = "http://www.w3.org/2000/svg";

/** An element with `properties` and `children` (elements or text). */
export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

export function percent(share) {
  if (share > 0 && share < 0.001) return "< 0.1 %";
  if (share < 1 && share > 0.999) return "> 99.9 %";
  return `${(share * 100).toFixed(1)} %`;
}

export function options(select, entries, chosen) {
  select.replaceChildren(...entries.map(([value, text]) => element("option", { value, textContent: text })));
  select.value = entries.some(([value]) => value === chosen) ? chosen : entries[0][0];
}

/** What the answer is, as [name, figure]: the most probable class, or all that a multi-label model has found. */
export function headline({ label, labels, probability }) {
  if (!labels) return [label, percent(probability)];
  return [labels.join(", ") || "Nothing found", labels.length === 0 ? `most probable: ${label}, ${percent(probability)}` : ""];
}

/** Show the most probable classes as bars, at most `limit`, and the explained one in any case; the found ones are marked. */
export function bars(list, { probabilities, labels }, explained, limit = 8) {
  const ranked = Object.entries(probabilities).sort(([, one], [, other]) => other - one);
  const shown = ranked.filter(([name], rank) => rank < limit || name === explained);
  list.replaceChildren(
    ...shown.map(([name, share]) => {
      const fill = element("span", { className: "fill" });
      fill.style.inlineSize = `${100 * share}%`;
      const row = element(
        "li", {}, element("span", { className: "name", textContent: name }),
        element("span", { className: "share", textContent: percent(share) }), element("span", { className: "bar" }, fill),
      );
      row.classList.toggle("explained", name === explained);
      if (labels?.includes(name)) {
        row.classList.add("found");
        row.firstChild.append(element("span", { className: "unseen", textContent: " (found)" }));
      }
      return row;
    }),
  );
  const hidden = ranked.length - shown.length;
  if (hidden > 0) list.append(element("li", { className: "rest", textContent: `and ${hidden} more classes` }));
}

// Titles for codes that say too little by themselves.
const TITLES = { novel_image: "Unlike anything that the model was trained on", empty_heatmap: "No heat" };

/** The warnings of an answer as [title, detail], the most severe first. */
export function warnings({ warnings: found }) {
  const rank = (code) => (code === "novel_image" ? 0 : 1);
  const ranked = [...found].sort((one, other) => rank(one.code) - rank(other.code));
  return ranked.map(({ code, detail }) => [TITLES[code] ?? sentence(code.replaceAll("_", " ")), detail]);
}

function sentence(words) {
  return words.charAt(0).toUpperCase() + words.slice(1);
}

/** Show messages, [title, detail] each, in `box`, a live region that must exist before its content. */
export function alerts(box, messages) {
  const paragraphs = messages.map(([title, detail]) =>
    element("p", {}, element("strong", { textContent: title }), " ", sentence(detail)));
  box.replaceChildren(...(paragraphs.length > 0 ? [element("div", { className: "messages" }, ...paragraphs)] : []));
}

/** The deletion and insertion curves as a figure, or null if the answer has none. */
export function curves(faithfulness) {
  const lines = ["deletion", "insertion"]
    .map((name) => ({ name, ...faithfulness?.[name] }))
    .filter(({ fractions, probabilities }) => fractions?.length > 1 && fractions.length === probabilities?.length);
  if (lines.length === 0) return null;
  const picture = svg("svg", { viewBox: "-4 -4 208 108", role: "img", "aria-label": spoken(lines) });
  picture.append(svg("path", { d: "M0 0V100H200", class: "axis" }));
  for (const { name, fractions, probabilities, random_probabilities: random } of lines) {
    for (const [values, kind] of [[random, `${name} random`], [probabilities, name]]) {
      const points = fractions.map((fraction, index) => `${200 * fraction},${100 - 100 * values[index]}`);
      picture.append(svg("polyline", { points: points.join(" "), class: kind }));
    }
  }
  const { better_than_random: better, worse_than_random: worse } = faithfulness;
  const verdict = better ? "Better than random maps." : worse ? "Worse than random maps." : "No better than random maps.";
  const caption = element("figcaption", {}, ...lines.map(({ name }) => element("span", { className: name, textContent: name })));
  caption.append(element("span", { textContent: "dashed: the same heat in random places" }));
  caption.append(element("strong", { textContent: verdict }));
  return element("figure", { className: "curves" }, picture, caption);
}

function spoken(lines) {
  const ends = lines.map(({ name, probabilities }) =>
    `${name} from ${percent(probabilities[0])} to ${percent(probabilities.at(-1))}`);
  return `Probability as the hottest cells of the image are hidden or revealed: ${ends.join("; ")}`;
}

function svg(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

/** Show a receipt as a list of names and values. */
export function receipt(list, facts) {
  const text = (value) => (typeof value === "object" ? Object.values(value).join(", ") : value);
  const words = ([name, value]) => [
    element("dt", { textContent: sentence(name.replaceAll("_", " ").replace("sha256", "SHA-256")) }),
    element("dd", { textContent: text(value) }),
  ];
  list.replaceChildren(...Object.entries(facts).filter(([, value]) => value !== null).flatMap(words));
}

/** The heatmaps of all classes as [name, values], or an empty array if the answer has none. */
export function mapsOf(explanation) {
  return (explanation.all_classes?.maps ?? []).map((map) => [map.class, map.values]);
}

/** Show small `pictures`, [class, ImageData] each; a click calls `choose(class)`. */
export function thumbnails(box, pictures, choose) {
  box.hidden = pictures.length === 0;
  box.replaceChildren(
    ...pictures.map(([name, pixels]) => {
      const canvas = element("canvas", { width: pixels.width, height: pixels.height });
      canvas.getContext("2d").putImageData(pixels, 0, 0);
      return element("button", { type: "button", onclick: () => choose(name) }, canvas, name);
    }),
  );
}

/** How much of the heat is in the organ that the model locates; empty if it locates none. */
export function organOf({ region }) {
  if (!region) return "";
  if (!region.found) return `The model did not find the ${region.name}.`;
  const heat = region.share_of_heat === null ? "No heat" : `${percent(region.share_of_heat)} of the heat`;
  return `${heat} is in the ${region.name}, and ${percent(region.share_of_image)} of the image.`;
}

export function noveltyOf({ novelty }) {
  if (!novelty) return "This model has no novelty score, so it can't tell whether the image is unlike its training images.";
  const position = novelty.out_of_distribution ? "above" : "below";
  return `Novelty ${novelty.score.toFixed(2)}, ${position} the threshold of ${novelty.threshold.toFixed(2)}.`;
}
