// The geometry and arithmetic of overlays, as in geometry.py, grid.py, overlay.py and outline.py of app/imaging.

/** Round to the nearest integer, and halves to the even one, as Python does. */
export function round(x) {
  const below = Math.floor(x);
  const rest = x - below;
  if (rest === 0.5) return below % 2 === 0 ? below : below + 1;
  return rest < 0.5 ? below : below + 1;
}

/** The region of a `width` × `height` image that fills the network's `input` {width, height, fit}. */
export function seenRegion(width, height, input) {
  if (input.fit === "squash") return { left: 0, top: 0, right: width, bottom: height };
  if (input.fit === "crop") {
    const across = Math.max(1, Math.min(width, round((height * input.width) / input.height)));
    const down = Math.max(1, Math.min(height, round((width * input.height) / input.width)));
    const left = Math.floor((width - across) / 2);
    const top = Math.floor((height - down) / 2);
    return { left, top, right: left + across, bottom: top + down };
  }
  let innerWidth = input.width;
  let innerHeight = input.height;
  if (width * input.height > height * input.width) {
    innerHeight = Math.max(1, round((height * input.width) / width));
  } else {
    innerWidth = Math.max(1, round((width * input.height) / height));
  }
  const across = width / innerWidth;
  const down = height / innerHeight;
  const left = Math.floor((input.width - innerWidth) / 2);
  const top = Math.floor((input.height - innerHeight) / 2);
  return {
    left: -left * across,
    top: -top * down,
    right: (input.width - left) * across,
    bottom: (input.height - top) * down,
  };
}

/** The part of `region` that `box` names: left, top, right and bottom as shares of it. */
export function part(region, [left, top, right, bottom]) {
  const width = region.right - region.left;
  const height = region.bottom - region.top;
  return {
    left: region.left + left * width,
    top: region.top + top * height,
    right: region.left + right * width,
    bottom: region.top + bottom * height,
  };
}

/** The same region of an image that is resized by the factors `x` and `y`. */
export function scaled(region, x, y) {
  return { left: region.left * x, top: region.top * y, right: region.right * x, bottom: region.bottom * y };
}

/** The box of pixels, at least one, of a `width` × `height` image whose centres are inside `region`. */
export function visible(region, width, height) {
  const left = Math.min(Math.max(round(region.left), 0), width - 1);
  const top = Math.min(Math.max(round(region.top), 0), height - 1);
  const right = Math.max(Math.min(round(region.right), width), left + 1);
  const bottom = Math.max(Math.min(round(region.bottom), height), top + 1);
  return { left, top, right, bottom };
}

/** Whether a part of `region` is inside a `width` × `height` image. */
function meets(region, width, height) {
  return region.left < width && region.right > 0 && region.top < height && region.bottom > 0;
}

/** For each of `size` pixels that cover the cells `from`..`to`: its first cell, and the weight of each of its cells. */
function mixtures(cells, size, from, to) {
  const step = (to - from) / size;
  const reach = Math.max(1, step); // a triangle filter, wider if cells are smaller than pixels
  return Array.from({ length: size }, (_, pixel) => {
    const centre = from + (pixel + 0.5) * step;
    const first = Math.max(0, Math.trunc(centre - reach + 0.5));
    const last = Math.min(cells, Math.trunc(centre + reach + 0.5));
    const shares = [];
    for (let cell = first; cell < last; cell++) {
      shares.push(Math.max(0, 1 - Math.abs(cell + 0.5 - centre) / reach));
    }
    const sum = shares.reduce((total, share) => total + share, 0);
    return { first, shares: shares.map((share) => share / sum) };
  });
}

/**
 * The heat 0..1 of every pixel of `window`, row by row: `values`, rows of cells that divide `region` evenly,
 * interpolated bilinearly at pixel centres.
 */
export function upsampled(values, region, window) {
  const rows = values.length;
  const columns = values[0].length;
  const x = columns / (region.right - region.left); // cells per pixel
  const y = rows / (region.bottom - region.top);
  const width = window.right - window.left;
  const height = window.bottom - window.top;
  const from = (edge, start, cells) => Math.max((edge - start) * cells, 0);
  const across = mixtures(
    columns, width, from(window.left, region.left, x), Math.min((window.right - region.left) * x, columns),
  );
  const down = mixtures(
    rows, height, from(window.top, region.top, y), Math.min((window.bottom - region.top) * y, rows),
  );
  const wide = values.map((row) =>
    Float32Array.from(across, ({ first, shares }) =>
      shares.reduce((sum, share, index) => sum + share * row[first + index], 0)),
  );
  const heat = new Float32Array(width * height);
  down.forEach(({ first, shares }, row) => {
    const line = heat.subarray(row * width, (row + 1) * width);
    shares.forEach((share, index) => {
      const source = wide[first + index];
      for (let column = 0; column < width; column++) line[column] += share * source[column];
    });
  });
  return heat;
}

/** Quantise `heat` 0..1 to the 256 bins of a colormap. */
export function binned(heat) {
  return Uint8Array.from(heat, (value) => Math.min(255, Math.max(0, Math.floor(value * 256))));
}

/**
 * Blend an image with a heatmap: (1 − alpha)·image + alpha·colours(heat) inside `window`, the image elsewhere.
 * `image` is ImageData, `bins` has the bin of each pixel of the window, and `colours` is 256 × [red, green, blue].
 */
export function blended(image, bins, window, colours, alpha) {
  const mixed = new ImageData(new Uint8ClampedArray(image.data), image.width, image.height);
  const hot = Float32Array.from(colours.flat(), (value) => alpha * value);
  const grey = Float32Array.from({ length: 256 }, (_, value) => (1 - alpha) * value + 0.5);
  let bin = 0;
  for (let row = window.top; row < window.bottom; row++) {
    let at = 4 * (row * image.width + window.left);
    for (let column = window.left; column < window.right; column++, at += 4) {
      const colour = 3 * bins[bin++];
      mixed.data[at] = (hot[colour] + grey[image.data[at]]) | 0;
      mixed.data[at + 1] = (hot[colour + 1] + grey[image.data[at + 1]]) | 0;
      mixed.data[at + 2] = (hot[colour + 2] + grey[image.data[at + 2]]) | 0;
    }
  }
  return mixed;
}

const LEVEL = 0.5; // an organ is where at least half of a cell belongs to it
const SIDE = 512; // a picture of this many pixels on its longest side gets a line one pixel wide

/** The mask of an organ on a `width` × `height` image: `values`, its share of each of the cells that divide `region`. */
function organ(values, region, width, height) {
  const inside = new Uint8Array(width * height);
  if (!meets(region, width, height)) return inside;
  const window = visible(region, width, height);
  const shares = upsampled(values, region, window);
  let index = 0;
  for (let row = window.top; row < window.bottom; row++) {
    for (let column = window.left; column < window.right; column++) {
      inside[row * width + column] = shares[index++] >= LEVEL ? 1 : 0;
    }
  }
  return inside;
}

/** The mask with the four neighbours of each of its pixels whose value is `value` taking that value, too. */
function grown(mask, width, value) {
  const result = mask.slice();
  mask.forEach((marked, at) => {
    if (marked !== value) return;
    if (at % width > 0) result[at - 1] = value;
    if (at % width < width - 1) result[at + 1] = value;
    if (at >= width) result[at - width] = value;
    if (at + width < mask.length) result[at + width] = value;
  });
  return result;
}

/** Draw the border of an organ on `image` (ImageData): white along its inside, black along its outside. */
export function outlined(image, values, region) {
  const { width, height } = image;
  const inside = organ(values, region, width, height);
  let inner = inside;
  let outer = inside;
  for (let step = Math.max(1, round(Math.max(width, height) / SIDE)); step > 0; step--) {
    inner = grown(inner, width, 0);
    outer = grown(outer, width, 1);
  }
  inside.forEach((marked, at) => {
    if (marked && !inner[at]) image.data.fill(255, 4 * at, 4 * at + 3);
    if (!marked && outer[at]) image.data.fill(0, 4 * at, 4 * at + 3);
  });
  return image;
}

/**
 * The region of the original that a heatmap covers, in pixels. `answer` is that of the service, `facts` are about its
 * model: a model that crops each image by itself answers the box, others cover the same part of every input.
 */
export function covered({ explanation, image }, { input, feature_layer: layer }) {
  if (explanation.box) return explanation.box;
  const seen = seenRegion(image.width, image.height, input);
  return layer.region ? part(seen, layer.region) : seen;
}

/**
 * Lay the `values` of a heatmap over an image, and return its region and the heat of each pixel in its window.
 * `pixels` is the image as displayed, `original` the size of its file, and `inside` the region of it that the values cover.
 */
export function laid(values, pixels, original, inside) {
  const region = scaled(inside, pixels.width / original.width, pixels.height / original.height);
  const shown = meets(region, pixels.width, pixels.height);
  const window = shown ? visible(region, pixels.width, pixels.height) : { left: 0, top: 0, right: 0, bottom: 0 };
  const cells = shown ? upsampled(values, region, window) : new Float32Array();
  return { values, region, window, cells, bins: binned(cells) };
}

/** Decode an encoded picture {media_type, data: base64} to ImageData, without colour conversion. */
export async function pixelsOf(overlay) {
  const bytes = Uint8Array.from(atob(overlay.data), (character) => character.charCodeAt(0));
  const raw = { colorSpaceConversion: "none", premultiplyAlpha: "none" };
  const bitmap = await createImageBitmap(new Blob([bytes], { type: overlay.media_type }), raw);
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  return context.getImageData(0, 0, bitmap.width, bitmap.height);
}
