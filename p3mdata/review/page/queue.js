/** The list of pictures: only rows in sight exist, and only pages near them are kept, so that 10,000 are no burden. */

import { getItems } from "./api.js";
import { decisionWord, reasonWords } from "./words.js";

const ROW = 54;
const PAGE = 100;
const PAGES_KEPT = 12;
const SPARE_ROWS = 6;

const GLYPHS = { accept: "✓", no_face: "∅", exclude: "✕", mask: "✎", redo: "✓" };
const EMPTY = {
  open: "Nothing is waiting.",
  decided: "Nothing is decided yet.",
  sample: "No sample was drawn.",
  all: "There are no pictures.",
};

export class Queue {
  /** `choose(id, event)`: a row was clicked. `fail(error)`: a page did not come. */
  constructor(scroller, { choose, fail }) {
    this.scroller = scroller;
    this.rows = scroller.querySelector("#rows");
    this.empty = scroller.querySelector("#queue-empty");
    this.fail = fail;
    this.view = "open";
    this.total = 0;
    this.current = null;
    this.pages = new Map();
    this.asked = new Map();
    this.round = 0;
    scroller.addEventListener("scroll", () => this.draw(), { passive: true });
    new ResizeObserver(() => this.draw()).observe(scroller);
    this.rows.addEventListener("click", (event) => {
      const row = event.target.closest("button[data-id]");
      if (row) choose(row.dataset.id, event);
    });
  }

  /** Shows another view from its top. */
  async show(view) {
    this.view = view;
    this.pages.clear();
    this.scroller.scrollTop = 0;
    await this.refresh();
  }

  /** Asks again for what is in sight; rows stay until the answer is there. */
  async refresh() {
    this.round += 1;
    this.asked.clear();
    const seen = this.pagesInSight();
    for (const page of [...this.pages.keys()]) if (!seen.includes(page)) this.pages.delete(page);
    await Promise.all(seen.map((page) => this.load(page)));
  }

  /** Marks the current picture, and scrolls to it where its place is known. */
  mark(id, index = null) {
    this.current = id;
    if (index !== null) {
      const { scrollTop, clientHeight } = this.scroller;
      const top = index * ROW;
      if (top < scrollTop || top + ROW > scrollTop + clientHeight) {
        this.resizeSpace(Math.max(this.total, index + 1));
        this.scroller.scrollTop = top - (clientHeight - ROW) / 2;
      }
    }
    this.draw();
  }

  /** The picture some rows below (or above) another, where both are known. */
  beside(id, step) {
    for (const [page, items] of this.pages) {
      const at = items.findIndex((item) => item.id === id);
      if (at < 0) continue;
      const index = (page * PAGE + at + step + this.total) % this.total;
      return this.pages.get(Math.floor(index / PAGE))?.[index % PAGE]?.id ?? null;
    }
    return null;
  }

  /** The first open picture below another, round the corner, among those that are known. */
  openAfter(id) {
    const known = [...this.pages.keys()].sort((a, b) => a - b).flatMap((page) => this.pages.get(page));
    const at = known.findIndex((item) => item.id === id);
    return [...known.slice(at + 1), ...known.slice(0, at)].find((item) => item.open && item.id !== id)?.id ?? null;
  }

  pagesInSight() {
    const [first, last] = this.rowsInSight(Infinity);
    const pages = [];
    for (let page = Math.floor(first / PAGE); page <= Math.floor(last / PAGE); page++) pages.push(page);
    return pages;
  }

  rowsInSight(total = this.total) {
    const first = Math.floor(this.scroller.scrollTop / ROW) - SPARE_ROWS;
    const last = Math.ceil((this.scroller.scrollTop + this.scroller.clientHeight) / ROW) + SPARE_ROWS;
    return [Math.max(0, first), Math.min(total - 1, last)];
  }

  async load(page) {
    if (this.asked.has(page)) return;
    const { round } = this;
    this.asked.set(page, true);
    try {
      const { total, items } = await getItems(this.view, page * PAGE, PAGE);
      if (round !== this.round) return;
      this.total = total;
      this.pages.set(page, items);
      this.forgetFarPages(page);
      this.draw();
    } catch (error) {
      this.asked.delete(page);
      if (round === this.round) this.fail(error);
    }
  }

  forgetFarPages(near) {
    const byDistance = [...this.pages.keys()].sort((a, b) => Math.abs(a - near) - Math.abs(b - near));
    for (const page of byDistance.slice(PAGES_KEPT)) {
      this.pages.delete(page);
      this.asked.delete(page);
    }
  }

  resizeSpace(total) {
    this.rows.style.height = `${total * ROW}px`;
  }

  draw() {
    this.resizeSpace(this.total);
    const known = this.pages.size > 0;
    this.empty.hidden = !known || this.total > 0;
    this.empty.textContent = EMPTY[this.view];
    const [first, last] = this.rowsInSight();
    const focused = this.rows.contains(document.activeElement) ? document.activeElement.dataset.id : null;
    const rows = [];
    for (let index = first; index <= last; index++) rows.push(this.row(index));
    this.rows.replaceChildren(...rows);
    const entry = this.rows.querySelector("[aria-current]") ?? this.rows.querySelector("button");
    if (entry) entry.tabIndex = 0;
    if (focused !== null) {
      for (const button of this.rows.querySelectorAll("button")) if (button.dataset.id === focused) button.focus();
    }
    if (known) for (const page of this.pagesInSight()) if (page * PAGE < this.total) this.load(page);
  }

  row(index) {
    const item = this.pages.get(Math.floor(index / PAGE))?.[index % PAGE];
    const line = document.createElement("div");
    line.setAttribute("role", "listitem");
    line.setAttribute("aria-setsize", String(this.total));
    line.setAttribute("aria-posinset", String(index + 1));
    line.style.transform = `translateY(${index * ROW}px)`;
    if (item) line.append(this.button(item));
    return line;
  }

  stateOf({ action, open, outcome, reason }) {
    const decision = action && decisionWord(action);
    if (!open) return decision ?? outcome.replaceAll("_", " ");
    return [decision, reasonWords(reason)[0] || "sample of the release"].filter(Boolean).join(": ");
  }

  button(item) {
    const button = document.createElement("button");
    button.type = "button";
    button.tabIndex = -1;
    button.dataset.id = item.id;
    button.title = item.source;
    if (item.id === this.current) button.setAttribute("aria-current", "true");
    const glyph = textElement("i", glyphOf(item));
    glyph.className = item.open ? "waiting" : "decided";
    glyph.setAttribute("aria-hidden", "true");
    button.append(glyph, textElement("span", item.source), textElement("small", this.stateOf(item)));
    return button;
  }
}

/** A tick stands for a released picture and for nothing else. */
function glyphOf(item) {
  if (item.open) return "○";
  if (item.outcome === "excluded" || item.action === "exclude") return GLYPHS.exclude;
  const released = ["anonymized", "no_face_confirmed", "masked_by_hand", "shown_by_permission"].includes(item.outcome);
  return released ? (GLYPHS[item.action] ?? "●") : "○";
}

/** File names and reasons come from outside: text, never markup. */
export function textElement(name, text) {
  const element = document.createElement(name);
  element.textContent = text;
  return element;
}
