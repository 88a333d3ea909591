// The stage: two dates over one another, a divider between them, overlays, zoom. It knows nothing of lists and buttons.

const MAX_ZOOM = 16;
const STEP = 0.02;
const HANDLE = "M9 7l-5 5 5 5M15 7l5 5-5 5";

class Stage {
  constructor(host, { onPick, onZoom }) {
    this.host = host;
    this.onPick = onPick;
    this.onZoom = onZoom;
    this.cut = 0.5;
    this.view = { zoom: 1, x: 0.5, y: 0.5 }; // of the picture, what lies in the middle of the stage
    this.size = [1, 1];
    this.pointers = new Map();
    this.build();
    new ResizeObserver(() => this.layout()).observe(host);
  }

  build() {
    this.layers = ["left", "right"].map(() => {
      const photo = el("img", { class: "photo", alt: "", decoding: "async", draggable: "false" });
      const mask = el("img", { class: "mask", alt: "", decoding: "async", draggable: "false", hidden: true });
      return { photo, mask, node: el("div", { class: "layer" }, photo, mask) };
    });
    this.marks = el("div", { class: "layer", "data-part": "changes" });
    this.canvas = el("div", { class: "canvas" }, this.layers.map((layer) => layer.node), this.marks);
    this.tags = ["left", "right"].map((side) => el("div", { class: `date-tag ${side}`, "aria-hidden": "true" }));
    this.divider = el("div", {
      class: "divider", role: "slider", tabindex: "0", "aria-label": "Divider between the two dates", "aria-valuemin": 0, "aria-valuemax": 100,
    }, el("div", { class: "knob" }, icon(HANDLE)));
    const control = (label, path, factor) => button(label, icon(path), () => this.zoomBy(factor));
    const buttons = el("div", { class: "zoom", pointerdown: (event) => event.stopPropagation(), dblclick: (event) => event.stopPropagation() },
      control("Zoom in (+)", "M12 5v14M5 12h14", 1.6), control("Zoom out (-)", "M5 12h14", 1 / 1.6),
      button("Whole tile (0)", icon("M4 9V4h5M20 9V4h-5M4 15v5h5M20 15v5h-5"), () => this.reset()));
    this.host.replaceChildren(this.canvas, ...this.tags, this.divider, buttons);
    this.listen();
  }

  // Pictures of the two sides; marks are the outlines of the events between them.
  show({ size, photos, masks, names, marks }) {
    if (size.join() !== this.size.join()) {
      this.size = size;
      this.view = { zoom: 1, x: 0.5, y: 0.5 };
      this.host.style.aspectRatio = `${size[0]} / ${size[1]}`;
    }
    this.layers.forEach((layer, side) => {
      layer.photo.hidden = !photos[side];
      if (photos[side]) layer.photo.src = photos[side];
      layer.mask.src = masks[side];
      layer.photo.alt = layer.mask.alt = `Tile at ${names[side]}`;
      this.tags[side].textContent = names[side];
    });
    this.marks.replaceChildren(marks);
    this.divider.setAttribute("aria-label", `Divider between ${names[0]} on the left and ${names[1]} on the right`);
    this.layout();
  }

  setOverlay(part, shown, opacity) {
    if (part === "mask") {
      for (const { mask } of this.layers) {
        mask.hidden = !shown;
        mask.style.opacity = opacity;
      }
      return;
    }
    this.marks.hidden = !shown;
    this.marks.style.setProperty("fill-opacity", opacity * 0.7);
    this.marks.style.setProperty("stroke-opacity", Math.min(1, 0.5 + opacity));
  }

  layout() {
    const { clientWidth: wide, clientHeight: high } = this.host;
    if (!wide || !high) return;
    const [width, height] = this.size;
    const fit = Math.min(wide / width, high / height);
    const { view } = this;
    const scale = fit * view.zoom;
    const shown = [width * scale, height * scale];
    const place = (middle, inner, outer) => (inner <= outer ? (outer - inner) / 2 : clamp(outer / 2 - middle * inner, outer - inner, 0));
    const left = place(view.x, shown[0], wide), top = place(view.y, shown[1], high);
    if (shown[0] > wide) view.x = (wide / 2 - left) / shown[0];
    if (shown[1] > high) view.y = (high / 2 - top) / shown[1];
    Object.assign(this.canvas.style, { left: `${left}px`, top: `${top}px`, width: `${shown[0]}px`, height: `${shown[1]}px` });
    this.span = [Math.max(0, left), Math.min(wide, left + shown[0])];
    const line = this.span[0] + this.cut * (this.span[1] - this.span[0]);
    this.layers[1].node.style.clipPath = `inset(0 0 0 ${line - left}px)`;
    this.divider.style.left = `${line}px`;
    this.divider.setAttribute("aria-valuenow", Math.round(100 * this.cut));
    this.divider.setAttribute("aria-valuetext", `${Math.round(100 * this.cut)} % left, ${Math.round(100 - 100 * this.cut)} % right`);
    this.tags[0].hidden = line - this.span[0] < 60;
    this.tags[1].hidden = this.span[1] - line < 60;
    this.host.classList.toggle("zoomed", view.zoom > 1.001);
    this.host.classList.toggle("near", scale > 8);
    this.onZoom(view.zoom);
  }

  setCut(share) {
    this.cut = clamp(share, 0, 1);
    this.layout();
  }

  zoomBy(factor, at) {
    const { view } = this;
    const zoom = clamp(view.zoom * factor, 1, MAX_ZOOM);
    const box = this.canvas.getBoundingClientRect(), stage = this.host.getBoundingClientRect();
    const point = at ?? [stage.left + stage.width / 2, stage.top + stage.height / 2];
    const grown = zoom / view.zoom;
    // What lies under the pointer stays there.
    const keep = (edge, length, spot, middle) => ((spot - edge) / length) + (middle - spot) / (length * grown);
    view.x = keep(box.left, box.width, point[0], stage.left + stage.width / 2);
    view.y = keep(box.top, box.height, point[1], stage.top + stage.height / 2);
    view.zoom = zoom;
    this.layout();
  }

  pan(dx, dy) {
    const box = this.canvas.getBoundingClientRect();
    this.view.x -= dx / box.width;
    this.view.y -= dy / box.height;
    this.layout();
  }

  reset() {
    this.view = { zoom: 1, x: 0.5, y: 0.5 };
    this.layout();
  }

  // Bring a box of the tile, [row0, col0, row1, col1], to the middle, with some ground around it.
  focus([row0, col0, row1, col1]) {
    const [width, height] = this.size;
    const { clientWidth: wide, clientHeight: high } = this.host;
    const fit = Math.min(wide / width, high / height);
    const around = 4;
    const zoom = Math.min(wide / (fit * Math.max(24, col1 - col0) * around), high / (fit * Math.max(24, row1 - row0) * around));
    this.view = { zoom: clamp(zoom, 1, 8), x: (col0 + col1) / 2 / width, y: (row0 + row1) / 2 / height };
    this.layout();
  }

  listen() {
    const { host, divider } = this;
    host.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.metaKey && window.matchMedia("(max-width: 860px)").matches) return;
      event.preventDefault();
      this.zoomBy(Math.exp(-event.deltaY * 0.0022), [event.clientX, event.clientY]);
    }, { passive: false });
    host.addEventListener("dblclick", (event) => (this.view.zoom > 1.001 ? this.reset() : this.zoomBy(3, [event.clientX, event.clientY])));
    host.addEventListener("pointerdown", (event) => this.press(event));
    host.addEventListener("pointermove", (event) => this.move(event));
    for (const end of ["pointerup", "pointercancel"]) host.addEventListener(end, (event) => this.release(event));
    divider.addEventListener("keydown", (event) => {
      const reach = { ArrowLeft: -STEP, ArrowRight: STEP, ArrowDown: -STEP, ArrowUp: STEP, PageDown: -0.1, PageUp: 0.1, Home: -1, End: 1 }[event.key];
      if (!reach) return;
      event.preventDefault();
      event.stopPropagation();
      this.setCut(this.cut + reach * (event.shiftKey ? 5 : 1));
    });
  }

  press(event) {
    if (event.button) return;
    const onDivider = this.divider.contains(event.target);
    this.pointers.set(event.pointerId, [event.clientX, event.clientY]);
    this.start = { x: event.clientX, y: event.clientY, still: true, target: event.target };
    this.slides = onDivider || this.view.zoom <= 1.001;
    this.host.setPointerCapture(event.pointerId);
    this.host.classList.toggle("moving", !this.slides);
    if (onDivider) this.divider.focus({ preventScroll: true });
  }

  move(event) {
    const last = this.pointers.get(event.pointerId);
    if (!last) return;
    if (Math.hypot(event.clientX - this.start.x, event.clientY - this.start.y) > 4) this.start.still = false;
    const others = [...this.pointers].filter(([id]) => id !== event.pointerId).map(([, point]) => point);
    this.pointers.set(event.pointerId, [event.clientX, event.clientY]);
    if (others.length) {
      const [x, y] = others[0];
      const before = Math.hypot(last[0] - x, last[1] - y), now = Math.hypot(event.clientX - x, event.clientY - y);
      if (before > 0) this.zoomBy(now / before, [(event.clientX + x) / 2, (event.clientY + y) / 2]);
    } else if (this.slides) {
      if (!this.start.still) this.slideTo(event.clientX);
    } else {
      this.pan(event.clientX - last[0], event.clientY - last[1]);
    }
  }

  release(event) {
    if (!this.pointers.delete(event.pointerId)) return;
    this.host.classList.remove("moving");
    if (event.type !== "pointerup" || !this.start.still || this.divider.contains(this.start.target)) return;
    const mark = this.start.target.closest?.("path[data-event]");
    if (mark) this.onPick(Number(mark.dataset.event));
    else if (this.slides) this.slideTo(event.clientX);
  }

  slideTo(x) {
    const [left, right] = this.span;
    this.setCut((x - this.host.getBoundingClientRect().left - left) / Math.max(1, right - left));
  }
}
