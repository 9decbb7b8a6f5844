// Facts to elements. Everything is made by the DOM, nothing from strings of markup.

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

/** The likeliest classes as bars, at most `limit`, the explained one marked. */
export function bars(list, probabilities, explained, limit = 8) {
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
      return row;
    }),
  );
  const hidden = ranked.length - shown.length;
  if (hidden > 0) list.append(element("li", { className: "rest", textContent: `and ${hidden} more classes` }));
}

// Where the code's own words say too little.
const TITLES = { novel_image: "Unlike anything that the model was trained on", empty_heatmap: "No heat" };

/** What must be known before the picture is believed: [title, detail] each, the gravest first. */
export function warnings({ warnings: told }) {
  const grave = (code) => (code === "novel_image" ? 0 : 1);
  const ranked = [...told].sort((one, other) => grave(one.code) - grave(other.code));
  return ranked.map(({ code, detail }) => [TITLES[code] ?? sentence(code.replaceAll("_", " ")), detail]);
}

function sentence(words) {
  return words.charAt(0).toUpperCase() + words.slice(1);
}

/** What was `found`, [title, detail] each, in `box`: a live region, which must be there before its words are. */
export function alerts(box, found) {
  const told = found.map(([title, detail]) =>
    element("p", {}, element("strong", { textContent: title }), " ", sentence(detail)));
  box.replaceChildren(...(told.length > 0 ? [element("div", { className: "told" }, ...told)] : []));
}

/** The deletion and insertion curves as one small figure, or null where the answer has none. */
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
  return `Probability while the film's hottest cells are removed or restored: ${ends.join("; ")}`;
}

function svg(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

/** What decides an answer's numbers, one name and value after the other. */
export function receipt(list, facts) {
  const words = ([name, value]) => [
    element("dt", { textContent: sentence(name.replaceAll("_", " ").replace("sha256", "SHA-256")) }),
    element("dd", { textContent: Array.isArray(value) ? value.join(", ") : value }),
  ];
  list.replaceChildren(...Object.entries(facts).flatMap(words));
}

/** The maps of all classes, [name, values] each, where the answer has them. */
export function mapsOf(explanation) {
  return (explanation.all_classes?.maps ?? []).map((map) => [map.class, map.values]);
}

/** Small `pictures`, [class, ImageData] each; one press calls `choose(class)`. */
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

export function noveltyOf({ novelty }) {
  if (!novelty) return "This model can't tell whether a film is unlike those that it was trained on.";
  const place = novelty.out_of_distribution ? "above" : "below";
  return `Novelty ${novelty.score.toFixed(2)}, ${place} the limit of ${novelty.threshold.toFixed(2)}.`;
}
