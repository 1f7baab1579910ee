/**
 * The viewport: a photograph with zoom and pan, and what is drawn over it.
 *
 * Three canvases of the viewport's own size lie over each other: photograph and tints, the drawn mask, boxes and marks.
 * While a person brushes, only the part of the second one under the brush is painted again, however large the view is.
 * Positions are device pixels: screen = view pixel * scale + offset.
 */

import { newCanvas, union } from "./drawing.js";

// Colours that people with any kind of colour vision tell apart (Okabe and Ito); lines have a dark rim on any picture.
const AGREE = "#009e73";
const ALONE = "#e69f00";
const DOUBT = "#d55e00";
const DROPPED = "#8b949e";
// A press that moves less than this many CSS pixels is a click.
const CLICK_REACH = 4;
const PRIVATE = "#f0e442";
const TRANSITION = "#56b4e9";
const DRAWN = "#d55e00";
const CUT = "#ffffff";
const RIM = "rgb(0 0 0 / 65%)";

const SMALLEST_LEVEL = 1200;
const MOST_ZOOM = 24;
const WHEEL_STEP = 0.0016;
const KEY_STEP = 1.3;
const MARGIN = 16;
const PINCH_FINGERS = 2;

/** A decoded picture with smaller copies, so that drawing it small is quick and smooth. */
export async function decodePicture(blob) {
  const levels = [await createImageBitmap(blob)];
  for (let last = levels[0]; Math.max(last.width, last.height) > 2 * SMALLEST_LEVEL; last = levels.at(-1)) {
    const size = { resizeWidth: Math.ceil(last.width / 2), resizeHeight: Math.ceil(last.height / 2) };
    levels.push(await createImageBitmap(last, { ...size, resizeQuality: "medium" }));
  }
  return { levels, free: () => levels.forEach((level) => level.close()) };
}

const whole = (mask) => ({ canvas: mask, left: 0, top: 0, width: mask.width, height: mask.height });

function inkOf(face) {
  if (face.dropped) return DROPPED;
  if (face.concerned) return DOUBT;
  return face.seen_by.length > 1 ? AGREE : ALONE;
}

export class Stage {
  /**
   * tool: what pointers do beside zoom and pan: {active(), ring(), down(x, y, erase), move(x, y), up(), cancel(),
   * hover(x, y)}.
   */
  constructor(host, ring, tool) {
    this.host = host;
    this.ring = ring;
    this.tool = tool;
    [this.photo, this.mask, this.marks] = host.querySelectorAll("canvas");
    this.scratch = [newCanvas(1, 1), newCanvas(1, 1), newCanvas(1, 1)];
    this.onZoom = () => {};
    // Where the next corner of a polygon would be, in the view, or null.
    this.hoverPoint = null;
    this.overlays = true;
    this.scale = 1;
    this.x = 0;
    this.y = 0;
    this.fitted = true;
    this.pointers = new Map();
    this.gesture = null;
    this.spaceHeld = false;
    this.pending = { photo: false, marks: false, mask: null };
    this.clear();
    new ResizeObserver(() => this.resize()).observe(host);
    window.addEventListener("resize", () => this.resize());
    this.listen();
    this.resize();
  }

  /** Forgets everything that was shown: nothing of the last picture may stay under the next one's name. */
  clear() {
    this.picture?.free();
    this.result?.free();
    this.view = null;
    this.picture = null;
    this.result = null;
    this.showsResult = false;
    this.private = null;
    this.transition = null;
    this.facemask = null;
    this.drawing = null;
    this.keep = false;
    this.faces = [];
    this.pending.mask = "all";
    this.paintNow();
  }

  /** What is looked at: size of the view and its faces; the photograph may come later. */
  open(view, faces) {
    this.view = view;
    this.faces = faces;
    this.fit();
  }

  /** Sets properties by name and paints again. */
  set(values) {
    Object.assign(this, values);
    this.redraw();
  }

  setResult(picture, facemask) {
    this.result?.free();
    this.set({ result: picture, facemask, showsResult: picture !== null });
  }

  // Zoom and pan ----------------------------------------------------------------------------------------------------

  get ratio() {
    return window.devicePixelRatio || 1;
  }

  resize() {
    const width = Math.max(1, Math.round(this.host.clientWidth * this.ratio));
    const height = Math.max(1, Math.round(this.host.clientHeight * this.ratio));
    if (width === this.photo.width && height === this.photo.height) return;
    const [dx, dy] = [(width - this.photo.width) / 2, (height - this.photo.height) / 2];
    for (const canvas of [this.photo, this.mask, this.marks, ...this.scratch]) {
      canvas.width = width;
      canvas.height = height;
    }
    if (this.fitted) {
      this.fit();
    } else {
      this.x += dx;
      this.y += dy;
      this.redraw();
    }
    // A canvas that was resized is empty: painting it in the same frame keeps it from flickering.
    this.paintNow();
  }

  fit() {
    this.fitted = true;
    if (this.view) {
      const margin = 2 * MARGIN * this.ratio;
      const { width, height } = this.photo;
      const factor = Math.min((width - margin) / this.view.width, (height - margin) / this.view.height);
      this.scale = Math.max(Math.min(factor, 4 * this.ratio), 0.001);
      this.x = (width - this.view.width * this.scale) / 2;
      this.y = (height - this.view.height * this.scale) / 2;
    }
    this.redraw();
  }

  /** Zooms around a point of the screen, by default the middle. */
  zoom(factor, x = this.photo.width / 2, y = this.photo.height / 2) {
    const smallest = 0.05 * Math.min(1, this.scale);
    const scale = Math.min(MOST_ZOOM * this.ratio, Math.max(smallest, this.scale * factor));
    this.x = x - ((x - this.x) * scale) / this.scale;
    this.y = y - ((y - this.y) * scale) / this.scale;
    this.scale = scale;
    this.fitted = false;
    this.keepInSight();
    this.redraw();
  }

  zoomIn() {
    this.zoom(KEY_STEP);
  }

  zoomOut() {
    this.zoom(1 / KEY_STEP);
  }

  pan(dx, dy) {
    this.x += dx;
    this.y += dy;
    this.fitted = false;
    this.keepInSight();
    this.redraw();
  }

  /** A corner of the picture stays on the screen, so that nobody loses it. */
  keepInSight() {
    if (!this.view) return;
    const spare = 60 * this.ratio;
    this.x = Math.min(this.photo.width - spare, Math.max(spare - this.view.width * this.scale, this.x));
    this.y = Math.min(this.photo.height - spare, Math.max(spare - this.view.height * this.scale, this.y));
  }

  /** Position of a pointer on the screen, and in the view. */
  at(event) {
    const frame = this.host.getBoundingClientRect();
    const screen = [(event.clientX - frame.left) * this.ratio, (event.clientY - frame.top) * this.ratio];
    return { screen, view: [(screen[0] - this.x) / this.scale, (screen[1] - this.y) / this.scale] };
  }

  // Pointers --------------------------------------------------------------------------------------------------------

  listen() {
    const { host } = this;
    host.addEventListener("pointerdown", (event) => this.down(event));
    host.addEventListener("pointermove", (event) => this.move(event));
    host.addEventListener("pointerup", (event) => this.up(event));
    host.addEventListener("pointercancel", (event) => this.up(event));
    host.addEventListener("pointerleave", () => (this.ring.hidden = true));
    host.addEventListener("contextmenu", (event) => event.preventDefault());
    host.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
  }

  wheel(event) {
    event.preventDefault();
    const lines = event.deltaMode === WheelEvent.DOM_DELTA_PIXEL ? 1 : 30;
    // A pinch on a touchpad comes as a wheel with ctrl and in small steps.
    const speed = event.ctrlKey ? 5 : 1;
    const { screen } = this.at(event);
    this.zoom(Math.exp(-event.deltaY * lines * WHEEL_STEP * speed), ...screen);
    this.moveRing(event);
  }

  down(event) {
    this.host.focus({ preventScroll: true });
    this.host.setPointerCapture(event.pointerId);
    event.preventDefault();
    const position = this.at(event);
    this.pointers.set(event.pointerId, position.screen);
    this.moved = event.button !== 0 || this.spaceHeld;
    this.pressed = position.screen;
    if (this.pointers.size === PINCH_FINGERS) {
      if (this.gesture === "draw") this.tool.cancel();
      this.gesture = "pinch";
    } else if (this.pointers.size === 1) {
      this.gesture = this.startGesture(event, position.view);
    }
    this.mode("panning", this.gesture === "pan");
    this.moveRing(event);
  }

  startGesture(event, [x, y]) {
    if (!this.view) return null;
    if (event.button === 1 || this.spaceHeld || !this.tool.active()) return event.button === 2 ? null : "pan";
    // The eraser end of a pen is button 5.
    if (![0, 2, 5].includes(event.button)) return null;
    return this.tool.down(x, y, event.button !== 0) ? "draw" : null;
  }

  move(event) {
    this.moveRing(event);
    const last = this.pointers.get(event.pointerId);
    const position = this.at(event);
    if (!last) {
      this.tool.hover(...position.view);
      return;
    }
    if (this.gesture === "pinch") this.pinch(event.pointerId, position.screen);
    this.pointers.set(event.pointerId, position.screen);
    const [dx, dy] = [position.screen[0] - this.pressed[0], position.screen[1] - this.pressed[1]];
    if (Math.hypot(dx, dy) > CLICK_REACH * this.ratio) this.moved = true;
    if (this.gesture === "pan" && this.moved) this.pan(position.screen[0] - last[0], position.screen[1] - last[1]);
    if (this.gesture !== "draw") return;
    const steps = event.getCoalescedEvents?.() ?? [];
    for (const step of steps.length ? steps : [event]) this.tool.move(...this.at(step).view);
  }

  /** Zooms and pans so that what was under the two fingers stays there. */
  pinch(id, screen) {
    const [other] = [...this.pointers].filter(([key]) => key !== id).map(([, point]) => point);
    const last = this.pointers.get(id);
    if (!other) return;
    const spread = (point) => Math.hypot(point[0] - other[0], point[1] - other[1]);
    const middle = (point) => [(point[0] + other[0]) / 2, (point[1] + other[1]) / 2];
    const [from, to] = [middle(last), middle(screen)];
    this.pan(to[0] - from[0], to[1] - from[1]);
    this.zoom(spread(screen) / Math.max(1, spread(last)), ...to);
  }

  up(event) {
    if (!this.pointers.delete(event.pointerId)) return;
    if (this.gesture === "draw") {
      if (event.type === "pointercancel") this.tool.cancel();
      else this.tool.up();
    }
    const clicked = this.gesture === "pan" && event.type === "pointerup" && !this.moved;
    if (clicked) this.tool.click(...this.at(event).view);
    // A finger that is left over after a pinch does nothing until it is lifted too.
    this.gesture = this.pointers.size ? "rest" : null;
    this.mode("panning", false);
  }

  /** Cursor of the viewport. */
  mode(name, on) {
    this.host.classList.toggle(name, on);
  }

  holdSpace(held) {
    this.spaceHeld = held;
    this.mode("grab", held);
    if (held) this.ring.hidden = true;
  }

  /** The ring that shows the brush; an element of its own, so that moving it paints nothing. */
  moveRing(event) {
    const radius = this.tool.ring();
    const drawing = this.gesture === null || this.gesture === "draw";
    this.ring.hidden = radius === null || this.spaceHeld || !drawing || event.pointerType === "touch";
    this.lastPointer = { clientX: event.clientX, clientY: event.clientY, pointerType: event.pointerType };
    if (this.ring.hidden) return;
    const frame = this.host.getBoundingClientRect();
    const size = (2 * radius * this.scale) / this.ratio;
    const [x, y] = [event.clientX - frame.left - size / 2, event.clientY - frame.top - size / 2];
    this.ring.style.width = `${size}px`;
    this.ring.style.height = `${size}px`;
    this.ring.style.transform = `translate(${x}px, ${y}px)`;
  }

  /** Shows the ring where the pointer was seen last: size or tool changed by a key. */
  refreshRing() {
    if (this.lastPointer && this.host.matches(":hover")) this.moveRing(this.lastPointer);
    else this.ring.hidden = true;
  }

  // Painting --------------------------------------------------------------------------------------------------------

  redraw() {
    this.later({ photo: true, marks: true, mask: "all" });
    this.onZoom();
  }

  redrawMarks() {
    this.later({ marks: true });
  }

  /** The drawn mask changed inside a rectangle of the view. */
  redrawMask(rect) {
    if (rect) this.later({ mask: this.toScreen(rect) });
  }

  toScreen(rect) {
    return {
      left: Math.floor(rect.left * this.scale + this.x) - 4,
      top: Math.floor(rect.top * this.scale + this.y) - 4,
      right: Math.ceil(rect.right * this.scale + this.x) + 4,
      bottom: Math.ceil(rect.bottom * this.scale + this.y) + 4,
    };
  }

  later({ photo = false, marks = false, mask = null }) {
    const { pending } = this;
    pending.photo ||= photo;
    pending.marks ||= marks;
    if (mask === "all" || pending.mask === "all") pending.mask = mask ? "all" : pending.mask;
    else if (mask && pending.mask) pending.mask = union(mask, pending.mask);
    else pending.mask = mask ?? pending.mask;
    this.frame ??= requestAnimationFrame(() => this.paintPending());
  }

  paintNow() {
    this.pending = { photo: true, marks: true, mask: "all" };
    this.paintPending();
  }

  paintPending() {
    cancelAnimationFrame(this.frame);
    this.frame = null;
    const { photo, marks, mask } = this.pending;
    this.pending = { photo: false, marks: false, mask: null };
    if (photo) this.paintPhoto();
    if (mask) this.paintMask(mask === "all" ? null : mask);
    if (marks) this.paintMarks();
  }

  /** Which marks can be seen now, for the legend. */
  get shown() {
    const drawing = Boolean(this.drawing) && !this.showsResult;
    const seen = this.overlays && Boolean(this.view) && !this.showsResult;
    return {
      agree: seen && this.faces.some((face) => face.seen_by.length > 1),
      alone: seen && this.faces.some((face) => face.seen_by.length < 2),
      doubt: seen && this.faces.some((face) => face.concerned && !face.dropped),
      dropped: seen && this.faces.some((face) => face.dropped),
      private: seen && !drawing && Boolean(this.private?.canvas),
      transition: seen && Boolean(this.transition?.canvas),
      drawn: drawing,
      cut: drawing && this.overlays && !this.keep && Boolean(this.transition?.canvas),
      facemask: this.showsResult && this.overlays && Boolean(this.facemask?.canvas),
    };
  }

  paintPhoto() {
    const context = this.photo.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.photo.width, this.photo.height);
    const picture = this.showsResult ? this.result : this.picture;
    if (!this.view || !picture) return;
    const needed = this.view.width * this.scale;
    const level = picture.levels.findLast((one) => one.width >= needed) ?? picture.levels[0];
    context.imageSmoothingEnabled = this.scale < 3;
    context.imageSmoothingQuality = "medium";
    context.setTransform(this.scale, 0, 0, this.scale, this.x, this.y);
    context.drawImage(level, 0, 0, this.view.width, this.view.height);
    context.setTransform(1, 0, 0, 1, 0, 0);
    const { shown } = this;
    if (shown.transition) this.tint(context, this.transition, TRANSITION, 0.24, 1);
    if (shown.private) this.tint(context, this.private, PRIVATE, 0.14, 2);
    if (shown.facemask) this.tint(context, this.facemask, PRIVATE, 0, 1.5);
  }

  /** Tints an area and draws a line around it. */
  tint(context, area, colour, strength, line) {
    const [shape, ring] = this.scratch;
    const all = { left: 0, top: 0, right: shape.width, bottom: shape.height };
    this.shapeOf(area, shape, all);
    this.outline(context, shape, ring, all, colour, line);
    if (strength) this.flood(context, shape, all, colour, strength);
  }

  /** Draws a mask as it lies on the screen into a scratch canvas, inside a rectangle of the screen. */
  shapeOf(area, target, rect, operation = "source-over") {
    const context = target.getContext("2d");
    clipped(context, rect, () => {
      if (operation === "source-over") context.clearRect(rect.left, rect.top, widthOf(rect), heightOf(rect));
      context.imageSmoothingEnabled = this.scale < 2;
      context.globalCompositeOperation = operation;
      context.setTransform(this.scale, 0, 0, this.scale, this.x, this.y);
      context.drawImage(area.canvas, area.left, area.top);
    });
  }

  /** A line around a shape: the shape moved in eight directions less the shape, first wider and dark. */
  outline(context, shape, ring, rect, colour, line) {
    const width = line * this.ratio;
    for (const [reach, ink] of [[width + this.ratio, RIM], [width, colour]]) {
      const scratch = ring.getContext("2d");
      clipped(scratch, rect, () => {
        scratch.clearRect(rect.left, rect.top, widthOf(rect), heightOf(rect));
        for (let turn = 0; turn < 8; turn++) {
          const angle = (turn * Math.PI) / 4;
          scratch.drawImage(shape, Math.round(reach * Math.cos(angle)), Math.round(reach * Math.sin(angle)));
        }
        scratch.globalCompositeOperation = "destination-out";
        scratch.drawImage(shape, 0, 0);
        scratch.globalCompositeOperation = "source-in";
        scratch.fillStyle = ink;
        scratch.fillRect(rect.left, rect.top, widthOf(rect), heightOf(rect));
      });
      copy(context, ring, rect);
    }
  }

  /** Fills a shape; the scratch canvas it is in takes the colour. */
  flood(context, shape, rect, ink, strength) {
    const scratch = shape.getContext("2d");
    clipped(scratch, rect, () => {
      scratch.globalCompositeOperation = "source-in";
      scratch.fillStyle = ink;
      scratch.fillRect(rect.left, rect.top, widthOf(rect), heightOf(rect));
    });
    context.globalAlpha = strength;
    copy(context, shape, rect);
    context.globalAlpha = 1;
  }

  /** Paints the drawn mask, or the part of it inside a rectangle of the screen. */
  paintMask(part) {
    const all = { left: 0, top: 0, right: this.mask.width, bottom: this.mask.height };
    const inner = part ? common(part, all) : all;
    if (widthOf(inner) <= 0 || heightOf(inner) <= 0) return;
    const context = this.mask.getContext("2d");
    clipped(context, inner, () => {
      context.clearRect(inner.left, inner.top, widthOf(inner), heightOf(inner));
      if (!this.drawing || this.showsResult) return;
      // Lines at the edge of the part are made from what lies beyond it.
      const spare = Math.ceil(8 * this.ratio);
      const { left, top, right, bottom } = inner;
      const outer = common({ left: left - spare, top: top - spare, right: right + spare, bottom: bottom + spare }, all);
      this.paintDrawing(context, outer);
    });
  }

  paintDrawing(context, rect) {
    const [shape, ring, cut] = this.scratch;
    const area = whole(this.drawing.canvas);
    this.shapeOf(area, shape, rect);
    this.outline(context, shape, ring, rect, DRAWN, 1.5);
    if (!this.overlays) return;
    if (!this.keep && this.transition?.canvas) {
      this.shapeOf(area, cut, rect);
      this.shapeOf(this.transition, cut, rect, "destination-in");
      this.shapeOf(this.transition, shape, rect, "destination-out");
      this.flood(context, cut, rect, this.hatch(context), 0.9);
    }
    this.flood(context, shape, rect, DRAWN, 0.42);
  }

  hatch(context) {
    if (this.hatchRatio !== this.ratio) {
      const side = Math.round(8 * this.ratio);
      const tile = newCanvas(side, side);
      const ink = tile.getContext("2d");
      for (const [colour, width] of [[RIM, 3.2], [CUT, 1.6]]) {
        ink.strokeStyle = colour;
        ink.lineWidth = width * this.ratio;
        for (const shift of [-side, 0, side]) {
          ink.beginPath();
          ink.moveTo(shift - side, 2 * side);
          ink.lineTo(shift + 2 * side, -side);
          ink.stroke();
        }
      }
      this.hatchPattern = context.createPattern(tile, "repeat");
      this.hatchRatio = this.ratio;
    }
    return this.hatchPattern;
  }

  paintMarks() {
    const context = this.marks.getContext("2d");
    context.clearRect(0, 0, this.marks.width, this.marks.height);
    if (!this.view || this.showsResult) return;
    if (this.overlays && this.picture) for (const [i, face] of this.faces.entries()) this.paintFace(context, face, i);
    if (this.drawing?.polygon.length) this.paintPolygon(context, this.drawing.polygon);
  }

  paintFace(context, face, number) {
    const agree = face.seen_by.length > 1;
    const [left, top, right, bottom] = this.screenBox(face.box);
    context.setLineDash(agree ? [] : [7 * this.ratio, 4 * this.ratio]);
    for (const [width, ink] of [[4, RIM], [2, inkOf(face)]]) {
      context.lineWidth = width * this.ratio;
      context.strokeStyle = ink;
      context.strokeRect(left, top, right - left, bottom - top);
    }
    context.setLineDash([]);
    if (face.dropped) {
      context.beginPath();
      context.moveTo(left, top);
      context.lineTo(right, bottom);
      context.moveTo(right, top);
      context.lineTo(left, bottom);
      context.stroke();
    }
    const who = agree ? "both" : `${face.seen_by[0] ?? "no detector"} alone`;
    if (right - left > 24 * this.ratio) this.label(context, `${number + 1}: ${face.score.toFixed(2)} ${face.dropped ? "dropped" : who}`, left, top, bottom);
  }

  screenBox([left, top, right, bottom]) {
    const { scale, x, y } = this;
    return [left * scale + x, top * scale + y, right * scale + x, bottom * scale + y].map(Math.round);
  }

  /** A line of text above a box, below it where there is no room, and always inside the viewport. */
  label(context, text, left, top, bottom) {
    const size = 12 * this.ratio;
    context.font = `600 ${size}px system-ui, sans-serif`;
    const width = context.measureText(text).width + size;
    const height = 1.6 * size;
    const x = Math.max(0, Math.min(left - this.ratio, this.marks.width - width));
    const above = top - height - 2 * this.ratio;
    const y = above >= 0 ? above : Math.min(bottom + 2 * this.ratio, this.marks.height - height);
    context.fillStyle = "rgb(0 0 0 / 78%)";
    context.beginPath();
    context.roundRect(x, y, width, height, 4 * this.ratio);
    context.fill();
    context.fillStyle = "#fff";
    context.textBaseline = "middle";
    context.fillText(text, x + size / 2, y + height / 2);
  }

  /** The polygon that is not closed yet, with a line to the pointer. */
  paintPolygon(context, points) {
    const corners = [];
    for (let i = 0; i < points.length; i += 2) {
      corners.push([points[i] * this.scale + this.x, points[i + 1] * this.scale + this.y]);
    }
    const line = [...corners];
    if (this.hoverPoint) {
      const [x, y] = this.hoverPoint;
      line.push([x * this.scale + this.x, y * this.scale + this.y]);
    }
    for (const [width, ink] of [[4, RIM], [2, DRAWN]]) {
      context.lineWidth = width * this.ratio;
      context.strokeStyle = ink;
      context.beginPath();
      for (const [x, y] of line) context.lineTo(x, y);
      context.stroke();
    }
    for (const [index, [x, y]] of corners.entries()) {
      context.beginPath();
      context.arc(x, y, (index === 0 ? 6 : 4) * this.ratio, 0, 2 * Math.PI);
      context.fillStyle = index === 0 ? "#fff" : DRAWN;
      context.fill();
      context.strokeStyle = index === 0 ? DRAWN : RIM;
      context.lineWidth = 2 * this.ratio;
      context.stroke();
    }
  }
}

const widthOf = (rect) => rect.right - rect.left;
const heightOf = (rect) => rect.bottom - rect.top;

function common(one, two) {
  return {
    left: Math.max(one.left, two.left),
    top: Math.max(one.top, two.top),
    right: Math.min(one.right, two.right),
    bottom: Math.min(one.bottom, two.bottom),
  };
}

/** Paints inside a rectangle of the screen and leaves the context as it was. */
function clipped(context, rect, work) {
  context.save();
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.beginPath();
  context.rect(rect.left, rect.top, widthOf(rect), heightOf(rect));
  context.clip();
  work();
  context.restore();
}

function copy(context, from, rect) {
  const [width, height] = [widthOf(rect), heightOf(rect)];
  context.drawImage(from, rect.left, rect.top, width, height, rect.left, rect.top, width, height);
}
