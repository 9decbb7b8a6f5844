// The overlay's geometry and arithmetic: what app/geometry.py and app/overlay.py do, on the browser's pixels.

/** The nearest whole number; halves go to the even one, as Python rounds. */
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

/** The part of `region` that `box` names: left, top, right, bottom in shares of it. */
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

/** The same part of an image that was resized by the factors `x` and `y`. */
export function scaled(region, x, y) {
  return { left: region.left * x, top: region.top * y, right: region.right * x, bottom: region.bottom * y };
}

/** The whole pixels of a `width` × `height` image whose centres lie inside `region`, at least one. */
export function visible(region, width, height) {
  const left = Math.min(Math.max(round(region.left), 0), width - 1);
  const top = Math.min(Math.max(round(region.top), 0), height - 1);
  const right = Math.max(Math.min(round(region.right), width), left + 1);
  const bottom = Math.max(Math.min(round(region.bottom), height), top + 1);
  return { left, top, right, bottom };
}

/** For each of `size` pixels between cells `from` and `to`: the first cell that it mixes, and the share of each. */
function mixtures(cells, size, from, to) {
  const step = (to - from) / size;
  const reach = Math.max(1, step); // a triangle, widened where cells are smaller than pixels
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
 * The heat 0..1 of every pixel of `window`, row by row: `values` (rows of cells that share `region` evenly) sampled
 * bilinearly at half-pixel centres.
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

/** `heat` 0..1 in the 256 bins of a colour map. */
export function binned(heat) {
  return Uint8Array.from(heat, (value) => Math.min(255, Math.max(0, Math.floor(value * 256))));
}

/**
 * (1 − alpha)·film + alpha·colours(heat) inside `window`, the film elsewhere.
 * `film`: ImageData; `bins`: of the window's pixels; `colours`: 256 × [red, green, blue].
 */
export function blended(film, bins, window, colours, alpha) {
  const mixed = new ImageData(new Uint8ClampedArray(film.data), film.width, film.height);
  const hot = Float32Array.from(colours.flat(), (value) => alpha * value);
  const grey = Float32Array.from({ length: 256 }, (_, value) => (1 - alpha) * value + 0.5);
  let bin = 0;
  for (let row = window.top; row < window.bottom; row++) {
    let at = 4 * (row * film.width + window.left);
    for (let column = window.left; column < window.right; column++, at += 4) {
      const colour = 3 * bins[bin++];
      mixed.data[at] = (hot[colour] + grey[film.data[at]]) | 0;
      mixed.data[at + 1] = (hot[colour + 1] + grey[film.data[at + 1]]) | 0;
      mixed.data[at + 2] = (hot[colour + 2] + grey[film.data[at + 2]]) | 0;
    }
  }
  return mixed;
}

/**
 * The heatmap's `values` laid over a film: where, and how hot each pixel of the `window` is. `image`, `input`: sizes;
 * `covered`: the box of the input that the values cover, null for all of it.
 */
export function laid(values, film, image, input, covered) {
  const seen = seenRegion(image.width, image.height, input);
  const region = scaled(covered ? part(seen, covered) : seen, film.width / image.width, film.height / image.height);
  const window = visible(region, film.width, film.height);
  const cells = upsampled(values, region, window);
  return { values, region, window, cells, bins: binned(cells) };
}

/** The pixels of an encoded picture {media_type, data: base64}, as ImageData, exactly as they are in it. */
export async function pixelsOf(overlay) {
  const bytes = Uint8Array.from(atob(overlay.data), (character) => character.charCodeAt(0));
  const raw = { colorSpaceConversion: "none", premultiplyAlpha: "none" };
  const bitmap = await createImageBitmap(new Blob([bytes], { type: overlay.media_type }), raw);
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  return context.getImageData(0, 0, bitmap.width, bitmap.height);
}
