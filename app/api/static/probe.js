// The probe, which shows the heat and the pixel value under the pointer. Arrow keys move it, too.

import { element } from "./view.js";

const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class Probe {
  #pixels; // ImageData of the image
  #heat; // the result of `laid`
  #place = null; // {x, y} in pixels of the image

  /** `image` is the canvas, `mark` the marker over it, `readout` the visible text and `spoken` a live region. */
  constructor({ image, mark, readout, spoken, onSpace }) {
    Object.assign(this, { image, mark, readout, spoken, onSpace });
    image.onpointermove = image.onpointerdown = (event) => this.#point(event);
    image.onkeydown = (event) => this.#press(event);
  }

  /** Switch to another image or heatmap. */
  over(pixels, heat) {
    this.#pixels = pixels;
    this.#heat = heat;
    this.#place = null;
    this.mark.hidden = true;
    this.readout.textContent = "Point at the image";
  }

  #point(event) {
    const box = this.image.getBoundingClientRect();
    const { width, height } = this.#pixels;
    this.mark.hidden = event.pointerType === "mouse";
    this.#moveTo(((event.clientX - box.left) * width) / box.width, ((event.clientY - box.top) * height) / box.height);
  }

  #press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = STEPS[event.key];
    if (event.key === " ") {
      this.onSpace();
    } else if (event.key === "Home" || (step && !this.#place)) {
      const { x, y } = this.#hottest();
      this.#moveTo(x, y);
    } else if (step) {
      const { x, y } = event.shiftKey ? { x: 1, y: 1 } : this.#cell();
      this.#moveTo(this.#place.x + Math.round(step[0] * x), this.#place.y + Math.round(step[1] * y));
    } else {
      return;
    }
    event.preventDefault();
    if (event.key === " ") return;
    this.mark.hidden = false;
    this.spoken.textContent = this.readout.textContent;
  }

  #moveTo(x, y) {
    const { width, height } = this.#pixels;
    const within = (value, limit) => Math.min(limit - 1, Math.max(0, Math.floor(value)));
    this.#place = { x: within(x, width), y: within(y, height) };
    const left = `${(100 * (this.#place.x + 0.5)) / width}%`;
    const top = `${(100 * (this.#place.y + 0.5)) / height}%`;
    Object.assign(this.mark.style, { left, top });
    this.#read();
  }

  #read() {
    const { x, y } = this.#place;
    const { window, cells } = this.#heat;
    const inside = x >= window.left && x < window.right && y >= window.top && y < window.bottom;
    const cell = (y - window.top) * (window.right - window.left) + (x - window.left);
    const heat = inside ? `Heat ${cells[cell].toFixed(2)}` : "Not seen by the model";
    const [red, green, blue] = this.#pixels.data.subarray(4 * (y * this.#pixels.width + x));
    const value = red === green && green === blue ? red : `${red}, ${green}, ${blue}`;
    const place = element("span", { className: "place", textContent: ` · at ${x}, ${y}` });
    this.readout.replaceChildren(`${heat} · image ${value}`, place);
  }

  #hottest() {
    const { cells, window } = this.#heat;
    const index = cells.reduce((best, value, place) => (value > cells[best] ? place : best), 0);
    const width = window.right - window.left;
    return { x: window.left + (index % width), y: window.top + Math.floor(index / width) };
  }

  /** The size of one cell of the heatmap in pixels, at least 1. */
  #cell() {
    const { values, region } = this.#heat;
    return {
      x: Math.max(1, (region.right - region.left) / values[0].length),
      y: Math.max(1, (region.bottom - region.top) / values.length),
    };
  }
}
