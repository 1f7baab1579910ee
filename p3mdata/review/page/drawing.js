/**
 * Masks as canvases whose alpha is the mask, and the mask a person draws: operations replayed over a base mask.
 *
 * All coordinates are pixels of the view. A rectangle is {left, top, right, bottom}, whole numbers.
 */

const STRIP = 512;
const SET = 0xffffffff;
const BLACK = 0xff000000;

export function newCanvas(width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  return canvas;
}

/** Gives a canvas's memory back now; without this it waits for the garbage collector. */
function freeCanvas(canvas) {
  canvas.width = 0;
  canvas.height = 0;
}

export function union(one, two) {
  if (!one || !two) return one || two;
  return {
    left: Math.min(one.left, two.left),
    top: Math.min(one.top, two.top),
    right: Math.max(one.right, two.right),
    bottom: Math.max(one.bottom, two.bottom),
  };
}

function overlap(one, two) {
  return one.left < two.right && two.left < one.right && one.top < two.bottom && two.top < one.bottom;
}

function within(rect, width, height) {
  return {
    left: Math.max(0, Math.floor(rect.left)),
    top: Math.max(0, Math.floor(rect.top)),
    right: Math.min(width, Math.ceil(rect.right)),
    bottom: Math.min(height, Math.ceil(rect.bottom)),
  };
}

function clipTo(context, rect) {
  context.beginPath();
  context.rect(rect.left, rect.top, rect.right - rect.left, rect.bottom - rect.top);
  context.clip();
}

/** Runs `each(words, y, rows)` over the pixels of a picture in strips, so that large ones never block for long. */
async function overStrips(source, width, height, each) {
  const strip = newCanvas(width, Math.min(STRIP, height));
  const context = strip.getContext("2d", { willReadFrequently: true });
  for (let y = 0; y < height; y += STRIP) {
    const rows = Math.min(STRIP, height - y);
    context.clearRect(0, 0, width, rows);
    context.drawImage(source, 0, y, width, rows, 0, 0, width, rows);
    const pixels = context.getImageData(0, 0, width, rows);
    each(new Uint32Array(pixels.data.buffer), y, pixels);
    await new Promise((resume) => setTimeout(resume));
  }
  freeCanvas(strip);
}

/**
 * A grey mask file as {canvas, left, top, width, height}, cut down to the pixels that are set; canvas null when none.
 * `width` and `height` are the view's.
 */
export async function readMask(blob, width, height) {
  const bitmap = await createImageBitmap(blob);
  const canvas = newCanvas(width, height);
  const context = canvas.getContext("2d");
  let box = null;
  await overStrips(bitmap, width, height, (words, y, pixels) => {
    for (let i = 0; i < words.length; i++) words[i] = (words[i] & 255) > 127 ? SET : 0;
    context.putImageData(pixels, 0, y);
    box = union(box, boundsOf(words, width, y));
  });
  bitmap.close();
  return cropped(canvas, box);
}

/** Smallest rectangle around the set pixels of some rows, or null. */
function boundsOf(words, width, firstRow) {
  let box = null;
  for (let start = 0, y = firstRow; start < words.length; start += width, y++) {
    const first = words.indexOf(SET, start);
    if (first < 0) break;
    if (first >= start + width) continue;
    const last = words.lastIndexOf(SET, start + width - 1);
    box = union(box, { left: first - start, top: y, right: last - start + 1, bottom: y + 1 });
  }
  return box;
}

function cropped(canvas, box) {
  if (!box) {
    freeCanvas(canvas);
    return { canvas: null, left: 0, top: 0, width: 0, height: 0 };
  }
  const { left, top } = box;
  const width = box.right - left;
  const height = box.bottom - top;
  const small = newCanvas(width, height);
  small.getContext("2d").drawImage(canvas, -left, -top);
  freeCanvas(canvas);
  return { canvas: small, left, top, width, height };
}

function bounds(operation) {
  const { points } = operation;
  const reach = (operation.kind === "brush" ? operation.radius : 0) + 2;
  let box = null;
  for (let i = 0; i < points.length; i += 2) {
    const [x, y] = [points[i], points[i + 1]];
    box = union(box, { left: x - reach, top: y - reach, right: x + reach, bottom: y + reach });
  }
  return box;
}

/** Draws one operation; a brush from its point number `from` on, so that a stroke can grow. */
function paint(context, operation, from = 0) {
  context.globalCompositeOperation = operation.erase ? "destination-out" : "source-over";
  if (operation.kind === "polygon") paintPolygon(context, operation.points);
  else paintStroke(context, operation, from);
  context.globalCompositeOperation = "source-over";
}

function paintPolygon(context, points) {
  context.beginPath();
  for (let i = 0; i < points.length; i += 2) context.lineTo(points[i], points[i + 1]);
  context.closePath();
  context.fill();
}

/** Segment by segment, while drawing as well as in a replay: soft edges add up, and both must come out the same. */
function paintStroke(context, { points, radius }, from) {
  context.lineWidth = 2 * radius;
  context.lineCap = "round";
  for (let i = from; i < points.length / 2; i++) {
    const [x, y] = [points[2 * i], points[2 * i + 1]];
    context.beginPath();
    if (i === 0) {
      context.arc(x, y, radius, 0, 2 * Math.PI);
      context.fill();
    } else {
      context.moveTo(points[2 * i - 2], points[2 * i - 1]);
      context.lineTo(x, y);
      context.stroke();
    }
  }
}

const tenth = (value) => Math.round(value * 10) / 10;

/** The mask under a person's hands. Methods that change it return the rectangle that changed, or null. */
export class Drawing {
  /**
   * base: mask as of `readMask`. saved: what `save` returned, or null.
   */
  constructor(width, height, base, saved) {
    this.width = width;
    this.height = height;
    this.base = base;
    this.operations = saved?.operations ?? [];
    this.polygon = saved?.polygon ?? [];
    // How many operations the server has seen; null when it has seen none of this drawing.
    this.applied = saved?.applied ?? null;
    this.canvas = newCanvas(width, height);
    this.context = this.canvas.getContext("2d");
    this.context.fillStyle = "#fff";
    this.context.strokeStyle = "#fff";
    this.stroke = null;
    this.replay(this.all);
  }

  get all() {
    return { left: 0, top: 0, right: this.width, bottom: this.height };
  }

  get unapplied() {
    return this.operations.length !== (this.applied ?? 0) || this.polygon.length > 0;
  }

  /** Vectors only: no pixel of a photograph or mask leaves the page this way. */
  save() {
    return { operations: this.operations, polygon: this.polygon, applied: this.applied };
  }

  free() {
    freeCanvas(this.canvas);
  }

  begin(x, y, radius, erase) {
    this.stroke = { kind: "brush", erase, radius: tenth(radius), points: [tenth(x), tenth(y)] };
    paint(this.context, this.stroke);
    return this.clipped(bounds(this.stroke));
  }

  /** Goes on with the stroke to a point; points that are too close to matter are left out. */
  extend(x, y) {
    const { points, radius } = this.stroke;
    const [lastX, lastY] = points.slice(-2);
    if (Math.hypot(x - lastX, y - lastY) < Math.max(0.7, radius / 10)) return null;
    points.push(tenth(x), tenth(y));
    paint(this.context, this.stroke, points.length / 2 - 1);
    return this.clipped(bounds({ ...this.stroke, points: points.slice(-4) }));
  }

  end() {
    this.operations.push(this.stroke);
    this.stroke = null;
  }

  /** Takes an unfinished stroke back: a second finger has made it a gesture. */
  cancel() {
    const rect = this.clipped(bounds(this.stroke));
    this.stroke = null;
    this.replay(rect);
    return rect;
  }

  closePolygon(erase) {
    const operation = { kind: "polygon", erase, points: this.polygon };
    this.polygon = [];
    this.operations.push(operation);
    paint(this.context, operation);
    return this.clipped(bounds(operation));
  }

  clear() {
    this.polygon = [];
    this.operations.push({ kind: "clear", points: [] });
    this.replay(this.all);
    return this.all;
  }

  undo() {
    if (this.polygon.length) {
      this.polygon.splice(-2);
      return { left: 0, top: 0, right: 0, bottom: 0 };
    }
    const last = this.operations.pop();
    if (!last) return null;
    // One that the server has seen is gone: whatever is drawn instead is news to it.
    if (this.applied !== null && this.applied > this.operations.length) this.applied = -1;
    const rect = last.kind === "clear" ? this.all : this.clipped(bounds(last));
    this.replay(rect);
    return rect;
  }

  clipped(rect) {
    return within(rect, this.width, this.height);
  }

  /** Builds a rectangle again from the base and every operation that touches it. */
  replay(rect) {
    const { context, base, operations } = this;
    const cleared = operations.findLastIndex((operation) => operation.kind === "clear");
    context.save();
    clipTo(context, rect);
    context.clearRect(0, 0, this.width, this.height);
    if (cleared < 0 && base.canvas) context.drawImage(base.canvas, base.left, base.top);
    for (const operation of operations.slice(cleared + 1)) {
      if (overlap(bounds(operation), rect)) paint(context, operation);
    }
    context.restore();
  }

  /** The mask as base64 of a PNG, white = obfuscate; soft edges are decided at the half. */
  async png() {
    const canvas = newCanvas(this.width, this.height);
    const context = canvas.getContext("2d");
    await overStrips(this.canvas, this.width, this.height, (words, y, pixels) => {
      for (let i = 0; i < words.length; i++) words[i] = words[i] >>> 24 > 127 ? SET : BLACK;
      context.putImageData(pixels, 0, y);
    });
    const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
    freeCanvas(canvas);
    return base64(blob);
  }
}

function base64(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}
