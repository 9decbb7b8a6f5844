// The geometry and arithmetic of overlays, as in app/imaging/geometry.py and app/imaging/overlay.py.

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

/**
 * Lay the `values` of a heatmap over an image, and return its region and the heat of each pixel in its window.
 * `pixels` is the image as displayed, `original` the size of its file, and `input` that of the network's input;
 * `covered` is the box of the input that the values cover, null for all of it.
 */
export function laid(values, pixels, original, input, covered) {
  const seen = seenRegion(original.width, original.height, input);
  const inside = covered ? part(seen, covered) : seen;
  const region = scaled(inside, pixels.width / original.width, pixels.height / original.height);
  const window = visible(region, pixels.width, pixels.height);
  const cells = upsampled(values, region, window);
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
