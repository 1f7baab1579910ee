/** The review page: which picture is shown, what a person does about it, and what is said in return. */

import { ApiError, getItem, getItems, getPicture, getRun, postDecision, postFinish } from "./api.js";
import { Drawing, newCanvas, readMask } from "./drawing.js";
import { Queue, textElement } from "./queue.js";
import { Stage, decodePicture } from "./stage.js";
import {
  DONE_WORDS, count, faceWords, headingOf, isHeld, labelOf, placeOf, reasonWords, sentence, sizeOf, stateOf,
  tell,
} from "./words.js";

const byId = (id) => document.getElementById(id);
const controls = (name) => document.querySelectorAll(`[data-do="${name}"]`);

const NARROW = window.matchMedia("(max-width: 900px)");
const VIEWS = ["open", "decided", "sample", "all"];
const PHOTOS_AHEAD = 2;
// Settings of one picture that hide its faces up to the silhouette.
const RECOMPOSED = { boundary: "recomposite" };
const UNDO_KEPT = 200;
// Radius of the brush as a share of the view's longer side: from the slider's one end to the other.
const [THINNEST, THICKEST] = [0.002, 0.12];
const BRUSH_STEP = 6;
// Distances of a click in CSS pixels that mean the same point.
const [SAME_POINT, FIRST_POINT] = [5, 12];

// What survives a reload -------------------------------------------------------------------------------------------

const PREFIX = `p3mdata:${location.pathname}:`;

function remembered(name, fallback) {
  try {
    return JSON.parse(sessionStorage.getItem(PREFIX + name)) ?? fallback;
  } catch {
    return fallback;
  }
}

/** Keeps a small value for this tab; vectors and ids only, never a picture. */
function remember(name, value) {
  try {
    if (value === null) sessionStorage.removeItem(PREFIX + name);
    else sessionStorage.setItem(PREFIX + name, JSON.stringify(value));
  } catch {
    say("This browser keeps nothing more: a reload would lose the drawing.");
  }
}

// State ------------------------------------------------------------------------------------------------------------

const state = {
  run: null,
  view: VIEWS.includes(remembered("view", "open")) ? remembered("view", "open") : "open",
  id: null,
  item: null,
  // One per shown picture: answers that come for an earlier one are dropped.
  ticket: null,
  // Why the current picture cannot be shown, or null.
  problem: null,
  // Promise of the mask that a drawing starts with.
  base: null,
  drawing: null,
  drawingOn: false,
  // Promise while a drawing waits for its base, else null.
  starting: null,
  keep: false,
  busy: false,
  ended: false,
  tool: remembered("tool", "brush"),
  erase: false,
  brush: remembered("brush", 50),
};
const ahead = new Map();

const toolbox = {
  active: () => state.drawingOn && !state.busy,
  ring: () => (state.drawingOn && !state.busy && state.tool === "brush" ? brushRadius() : null),
  down: startStroke,
  move: (x, y) => {
    if (state.tool === "brush") stage.redrawMask(state.drawing.extend(x, y));
    else hoverPolygon(x, y);
  },
  up: endStroke,
  cancel: () => {
    if (state.drawing?.stroke) stage.redrawMask(state.drawing.cancel());
  },
  click: clickFace,
  hover: (x, y) => {
    if (state.drawing?.polygon.length) hoverPolygon(x, y);
  },
};
const stage = new Stage(byId("stage"), byId("brush-ring"), toolbox);
const queue = new Queue(byId("scroller"), { choose, fail: showError });

// Words ------------------------------------------------------------------------------------------------------------

function say(sentence) {
  tell(byId("status"), sentence);
}

/** Something went wrong: it stays until the person has seen it. */
function warn(sentence, retry = false) {
  tell(byId("alert-text"), sentence);
  byId("alert-retry").hidden = !retry;
  byId("alert").hidden = false;
}

function calm() {
  byId("alert").hidden = true;
}

function showError(error) {
  if (error.name === "AbortError" || state.ended) return;
  if (error instanceof ApiError) warn(error.message, error.status === 0);
  else warn(`The page met an error of its own: ${error.message}. Reload it to go on; nothing is lost.`);
}

// Showing ----------------------------------------------------------------------------------------------------------

async function refreshRun() {
  const [run, all] = await Promise.all([getRun(), getItems("all", 0, 1)]);
  // The run counts all its source files; progress is about those that a person may look at.
  state.run = { ...run, total: all.total };
  const { open, total, decided, sample, method } = state.run;
  byId("run-name").textContent = run.run;
  byId("run-name").title = `${run.run}, method ${method}`;
  byId("progress-text").textContent = `${open.toLocaleString()} of ${total.toLocaleString()} open`;
  byId("progress-fill").style.width = `${total ? (100 * (total - open)) / total : 100}%`;
  document.title = `${open} open - p3mdata review`;
  const numbers = { open, decided, sample, all: total };
  for (const button of document.querySelectorAll("[data-view]")) {
    button.querySelector("b").textContent = numbers[button.dataset.view].toLocaleString();
    button.setAttribute("aria-pressed", String(button.dataset.view === state.view));
  }
}

function showItem() {
  const { item } = state;
  document.body.classList.toggle("has-item", Boolean(item));
  document.body.classList.toggle("no-item", !state.id);
  document.body.classList.toggle("no-picture", Boolean(state.problem));
  const drawn = Boolean(item && state.drawing?.unapplied);
  const [heading, advice] = item ? headingOf(item) : [state.id ? "Loading" : "", ""];
  const confirmable = Boolean(item && canConfirm(item));
  byId("reason").textContent = state.problem ? "This picture cannot be shown" : heading;
  tell(byId("detail"), sentence(state.problem ?? (confirmable ? "" : item?.detail)));
  showDoubts();
  byId("held").hidden = !confirmable;
  tell(byId("held-text"), confirmable ? sentence(item.detail ?? reasonWords(item.reason)[0]) : "");
  tell(byId("advice"), advice);
  byId("source").textContent = item?.source ?? "";
  byId("state").textContent = item ? stateOf(item) : "";
  byId("size").textContent = item ? sizeOf(item) : "";
  byId("place").textContent = item ? placeOf(item) : "";
  byId("faces").replaceChildren(...(item ? faceWords(item) : []).map((words) => textElement("li", words)));
  byId("stage").setAttribute("aria-label", item ? labelOf(item) : "No picture");
  byId("reopen").hidden = !item?.decision || state.drawingOn;
  byId("discard").hidden = !drawn || state.drawingOn;
  showControls();
}

/** Every doubt of a held picture; the first one alone stands in the sentence above. */
function showDoubts() {
  const doubts = state.problem || !state.item ? [] : state.item.doubts;
  const shown = doubts.length > 1 ? doubts : [];
  byId("doubts").replaceChildren(
    ...shown.map(({ sentence: words, faces }) => {
      const which = faces.map((number) => number + 1).join(", ");
      return tell(document.createElement("li"), which ? `${sentence(words)} (box ${which})` : sentence(words));
    }),
  );
  if (shown.length) byId("detail").textContent = "";
}

/** Marks the faces of an item that a doubt is about, and those that the person dropped. */
function marked(item) {
  const concerned = new Set(item.doubts.flatMap(({ faces }) => faces));
  item.faces.forEach((face, number) => {
    face.concerned = concerned.has(number);
    face.dropped = false;
  });
  return item;
}

/** Drops a box that is no face, or takes it back; the next decision carries it out. */
function toggleFace(number) {
  const face = state.item?.faces[number];
  if (!face || state.busy || state.drawingOn || stage.showsResult) return;
  face.dropped = !face.dropped;
  stage.redrawMarks();
  showItem();
  const all = state.item.faces.every(({ dropped }) => dropped);
  const then = all ? "No face is left: x releases the picture untouched." : "a releases with the others.";
  say(face.dropped ? `Box ${number + 1} is no face. ${then}` : `Box ${number + 1} counts again.`);
}

function clickFace(x, y) {
  if (!state.item || !stage.overlays) return;
  const area = ([left, top, right, bottom]) => (right - left) * (bottom - top);
  const hit = state.item.faces
    .map(({ box }, number) => ({ box, number }))
    .filter(({ box: [left, top, right, bottom] }) => x >= left && x <= right && y >= top && y <= bottom)
    .sort((a, b) => area(a.box) - area(b.box))[0];
  if (hit) toggleFace(hit.number);
}

/** Whether the detectors' objection is the only thing in the way, and the mask is the one they objected to. */
function canConfirm(item) {
  return isHeld(item) && Boolean(item.decision) && item.decision.action !== "exclude" && !state.drawing?.unapplied;
}

const nothingToAccept = (item) => !item.faces.length && !item.decision && item.reason === "no_face_found";

const NEED_PICTURE = ["no_face", "exclude", "permit", "draw", "apply", "leave", "confirm", "reopen", "discard"];
NEED_PICTURE.push("keep", "result");

function showControls() {
  const { item, drawingOn, busy } = state;
  const idle = Boolean(item) && !busy;
  byId("actions").hidden = drawingOn;
  byId("tools").hidden = !drawingOn;
  byId("keep-box").hidden = !item?.transition || !drawingOn;
  byId("keep-warning").hidden = !state.keep;
  document.body.classList.toggle("drawing", drawingOn);
  stage.mode("draws", drawingOn);
  enable("accept", idle && !nothingToAccept(item));
  for (const name of NEED_PICTURE) enable(name, idle);
  enable("recompose", idle && item.matte);
  enable("apply-recomposed", idle && item.matte);
  enable("undo-stroke", idle && Boolean(state.drawing?.operations.length || state.drawing?.polygon.length));
  enable("clear", idle);
  enable("undo", !busy && remembered("undo", []).length > 0);
  enable("next", !busy && Boolean(state.id));
  enable("previous", !busy && Boolean(state.id));
  press("brush", state.tool === "brush");
  press("polygon", state.tool === "polygon");
  press("add", !state.erase);
  press("erase", state.erase);
  press("keep", state.keep);
  press("result", stage.showsResult);
  press("overlays", stage.overlays);
  byId("draw-hint").textContent = drawHint();
  byId("brush-size").value = String(state.brush);
  byId("brush-size").disabled = state.tool !== "brush";
  byId("brush-text").textContent = item ? `${Math.round(2 * brushRadius())} px` : "";
  byId("finish").disabled = busy || !state.run;
  showLegend();
  showMode();
  stage.refreshRing();
}

function drawHint() {
  if (state.drawing?.unapplied) return "go on where you were";
  return state.item?.faces.length ? "start with the private area" : "by brush or polygon";
}

function enable(name, on) {
  for (const button of controls(name)) button.disabled = !on;
}

function press(name, on) {
  for (const button of controls(name)) button.setAttribute("aria-pressed", String(on));
}

function showLegend() {
  const { shown } = stage;
  let any = false;
  for (const entry of document.querySelectorAll("#legend [data-mark]")) {
    entry.hidden = !shown[entry.dataset.mark];
    any ||= !entry.hidden;
  }
  byId("legend").hidden = !any;
}

function showMode() {
  const mode = byId("stage-mode");
  const decided = state.item && (state.item.decision || state.item.released);
  const preview = decided ? "Result" : "Result if accepted as detected";
  const pending = state.drawing?.unapplied ? ", without the drawing" : "";
  const drawing = `${state.erase ? "Erasing" : "Drawing"} with the ${state.tool}`;
  mode.textContent = stage.showsResult ? preview + pending : drawing;
  mode.hidden = !state.item || !(stage.showsResult || state.drawingOn);
}

function noteOnStage(text) {
  byId("stage-note").textContent = text;
  byId("stage-note").hidden = !text;
}

function setBusy(text) {
  state.busy = Boolean(text);
  byId("busy-text").textContent = text ?? "";
  byId("busy").hidden = !text;
  document.body.setAttribute("aria-busy", String(state.busy));
  showControls();
}

stage.onZoom = () => {
  byId("zoom-text").textContent = `${Math.round((100 * stage.scale) / stage.ratio)}%`;
};

// Going from picture to picture ------------------------------------------------------------------------------------

function leaveItem() {
  state.ticket?.abort.abort();
  state.drawing?.free();
  Object.assign(state, { id: null, item: null, ticket: null, problem: null });
  Object.assign(state, { base: null, drawing: null, drawingOn: false, keep: false, erase: false });
  stage.clear();
  stage.hoverPoint = null;
  noteOnStage("");
  byId("done").hidden = true;
}

async function open(id) {
  leaveItem();
  const ticket = { abort: new AbortController() };
  Object.assign(state, { id, ticket });
  history.replaceState(null, "", `#${encodeURIComponent(id)}`);
  noteOnStage("Loading");
  queue.mark(id);
  showItem();
  try {
    const item = await getItem(id, state.view, ticket.abort.signal);
    if (state.ticket !== ticket) return;
    state.item = marked(item);
    const kept = remembered(`item:${id}`, {});
    state.keep = Boolean(item.transition && (kept.keep ?? item.decision?.keep_transition));
    stage.open(item.view, item.faces);
    stage.set({ keep: state.keep });
    queue.mark(id, item.position?.view === queue.view ? item.position.index : null);
    showItem();
    await Promise.all([showPhoto(ticket), loadAreas(ticket)]);
    if (state.ticket !== ticket) return;
    fetchAhead(item.next);
    // What was released by itself is looked at as it was released.
    if (item.released && !item.decision && !state.drawingOn) await toggleResult();
  } catch (error) {
    if (state.ticket !== ticket || error.name === "AbortError") return;
    state.problem = error.message;
    noteOnStage("This picture cannot be shown.");
    showItem();
    if (error.status === 0) showError(error);
  }
}

async function showPhoto(ticket) {
  const { item } = state;
  const early = ahead.get(item.id);
  ahead.delete(item.id);
  const blob = (await early) ?? (await getPicture(item.id, "photo", item.version, ticket.abort.signal));
  const picture = await decodePicture(blob);
  if (state.ticket !== ticket) {
    picture.free();
    return;
  }
  stage.set({ picture });
  noteOnStage("");
}

/** Private and transition area; a drawing that was under way goes on when its base is there. */
async function loadAreas(ticket) {
  const { item } = state;
  const { width, height } = item.view;
  const read = async (kind) =>
    readMask(await getPicture(item.id, kind, item.version, ticket.abort.signal), width, height);
  const base = read("private");
  state.base = base;
  const [area, transition] = await Promise.all([base, item.transition ? read("transition") : null]);
  if (state.ticket !== ticket) return;
  stage.set({ private: area, transition });
  const kept = remembered(`item:${item.id}`, {});
  if (kept.drawing && !state.drawing) {
    state.drawing = new Drawing(width, height, area, kept.drawing);
    if (kept.on) showDrawing(true);
  }
  showItem();
}

/** Fetches the photograph that probably comes next; it is in memory only, and few are. */
function fetchAhead(id) {
  if (!id || ahead.has(id)) return;
  // A failure here is nobody's concern yet: the photograph is asked for again when it is wanted.
  ahead.set(id, getPicture(id, "photo", 0).catch(() => null));
  while (ahead.size > PHOTOS_AHEAD) ahead.delete(ahead.keys().next().value);
}

function choose(id, event) {
  if (state.busy) return;
  if (NARROW.matches) toggleQueue(false);
  if (event.detail > 0) byId("stage").focus({ preventScroll: true });
  calm();
  open(id);
}

function go(direction) {
  if (state.busy || !state.id) return;
  // A picture that cannot be shown names no neighbours; the list knows them.
  const id = state.item ? state.item[direction] : queue.beside(state.id, direction === "next" ? 1 : -1);
  if (!id) return say("There is no other picture in this list.");
  calm();
  say("");
  open(id);
}

/** An open picture: the one after the picture just decided, else the first of all. */
async function openNext(after = null) {
  const next = after ?? (await getItems("open", 0, 1)).items[0]?.id;
  if (next) await open(next);
  else showDone();
}

function showDone() {
  leaveItem();
  history.replaceState(null, "", "#");
  queue.mark(null);
  const { total, decided } = state.run;
  byId("done-title").textContent = total ? "Everything is decided" : "There is nothing to review";
  byId("done-text").textContent = total
    ? `${count(decided, "decision")} made. Finishing writes the manifest and the report and ends this review.`
    : "This run held nothing back.";
  byId("done-look").hidden = !decided;
  byId("done").hidden = false;
  showItem();
}

async function showView(view) {
  if (state.busy) return;
  state.view = view;
  remember("view", view);
  calm();
  try {
    await Promise.all([refreshRun(), queue.show(view)]);
    const first = queue.pages.get(0)?.[0]?.id;
    if (first) await open(first);
    else if (view === "open") showDone();
  } catch (error) {
    showError(error);
  }
}

// Deciding ---------------------------------------------------------------------------------------------------------

function mayDecide(action) {
  if (state.busy || !state.item) return false;
  if (state.drawingOn && action !== "mask") {
    say("A drawing is under way: Enter applies it, Escape leaves it.");
    return false;
  }
  if (state.drawing?.unapplied && ["accept", "no_face"].includes(action)) {
    say("A drawing of this picture is not applied: d goes on with it, the button Discard drops it.");
    return false;
  }
  if (action === "accept" && nothingToAccept(state.item)) {
    say("No face was found, so there is nothing to accept: x says no face, d draws a mask.");
    return false;
  }
  return true;
}

async function decide(action, confirmed = false, basis = null, chosen = null) {
  if (!mayDecide(action)) return;
  const { item, keep } = state;
  calm();
  setBusy(action === "exclude" ? "Excluding" : "Obfuscating and proving this picture again");
  try {
    const mask = action === "mask" ? await maskPng() : null;
    // A new drawing is applied as it is asked for; one that is confirmed, as it was before.
    const fresh = action === "mask" && !confirmed;
    const before = chosen ?? (fresh ? {} : (item.decision?.settings ?? {}));
    const settings = action === "redo" ? { ...before, ...RECOMPOSED } : before;
    const dropped = item.faces.flatMap((face, number) => (face.dropped ? [number] : []));
    const said = { action, confirmed, basis, version: item.version };
    const decision = { ...said, keep_transition: keep, settings, dropped, mask };
    const answer = await postDecision(item.id, decision);
    pushUndo(item.id);
    await refreshAll();
    setBusy(null);
    if (answer.released || action === "exclude") await settle(action, answer);
    else await stillHeld(answer);
  } catch (error) {
    setBusy(null);
    await decisionFailed(error);
  }
}

/** The mask to post; without a drawing the one that the last decision was made with. */
async function maskPng() {
  if (state.drawing) return state.drawing.png();
  const { width, height } = state.item.view;
  const drawing = new Drawing(width, height, await state.base, null);
  const png = await drawing.png();
  drawing.free();
  return png;
}

async function settle(action, item) {
  remember(`item:${item.id}`, null);
  say(`${DONE_WORDS[action]}: ${item.source}.`);
  // The server names the next open picture of all; among samples a person goes on with samples.
  await openNext((state.view === "sample" && queue.openAfter(item.id)) || item.next);
}

/** The decision stands, but something is in the way of a release: the person goes on, or says that it is right. */
async function stillHeld(answer) {
  if (state.drawing) {
    state.drawing.applied = state.drawing.operations.length;
    keepDrawing();
  }
  say(`Still held back: ${sentence(answer.detail ?? answer.reason)}`);
  if (state.drawingOn) {
    state.item = marked(state.view === "open" ? answer : await getItem(answer.id, state.view));
    stage.set({ faces: state.item.faces });
    stage.set({ showsResult: false });
    // From now on the drawn mask is the base.
    await loadAreas(state.ticket);
  } else {
    await open(answer.id);
  }
  byId("panel").scrollTop = 0;
}

async function decisionFailed(error) {
  if (error.status !== 409) return showError(error);
  const { id } = state;
  await refreshAll().catch(showError);
  await open(id);
  warn(`${sentence(error.message)} Your decision was not taken; this is how it stands now.`);
}

function refreshAll() {
  return Promise.all([refreshRun(), queue.refresh()]);
}

function confirmRelease() {
  if (state.item && canConfirm(state.item)) decideAnyway(state.item.decision.action);
}

/** Posts the decision that is held back again, as one that the person answers for. */
function decideAnyway(action) {
  if (action !== "mask" && state.drawingOn) showDrawing(false);
  return decide(action, true);
}

/** Asks on what ground a picture may be shown with its faces. */
function permit() {
  if (!mayDecide("show")) return;
  byId("permit-basis").value = state.item.decision?.basis ?? "";
  byId("permit").showModal();
  byId("permit-basis").focus();
}

function permitted(event) {
  event.preventDefault();
  const basis = byId("permit-basis").value.trim();
  if (!basis) return;
  byId("permit").close();
  decide("show", false, basis);
}

function pushUndo(id) {
  remember("undo", [...remembered("undo", []), id].slice(-UNDO_KEPT));
}

/** Takes back this tab's last decision and goes to its picture. */
async function undoDecision() {
  if (state.busy) return;
  const stack = remembered("undo", []);
  const id = stack.pop();
  if (!id) return say("There is no decision of this tab to take back.");
  await reopen(id, () => remember("undo", stack));
}

async function reopen(id, then = () => {}) {
  if (state.busy) return;
  calm();
  setBusy("Taking the decision back");
  try {
    const item = id === state.id && state.item ? state.item : await getItem(id, state.view);
    if (item.decision) {
      const rest = { keep_transition: false, confirmed: false, mask: null };
      await postDecision(id, { action: "reopen", version: item.version, ...rest });
    }
    then();
    await refreshAll();
    setBusy(null);
    await open(id);
    say(item.decision ? `${DONE_WORDS.reopen}: ${item.source}.` : `${item.source} was open already.`);
  } catch (error) {
    setBusy(null);
    await decisionFailed(error);
  }
}

// Drawing ----------------------------------------------------------------------------------------------------------

function brushRadius() {
  if (!state.item) return 1;
  const { width, height } = state.item.view;
  const share = THINNEST * (THICKEST / THINNEST) ** (state.brush / 100);
  return Math.max(0.5, share * Math.max(width, height));
}

function setBrush(value) {
  state.brush = Math.min(100, Math.max(0, value));
  remember("brush", state.brush);
  showControls();
}

/** Drawing begins when its base is there; keys that are pressed meanwhile wait for it (`onKey`). */
function startDrawing() {
  if (state.busy || state.starting || !state.base || state.drawingOn) return;
  state.starting = beginDrawing().finally(() => (state.starting = null));
}

async function beginDrawing() {
  const { ticket, item } = state;
  try {
    const base = await state.base;
    if (state.ticket !== ticket || state.drawingOn) return;
    state.drawing ??= new Drawing(item.view.width, item.view.height, base, null);
    showDrawing(true);
    say(item.faces.length ? "The mask starts with the private area." : "Draw around every face, then Enter.");
  } catch (error) {
    showError(error);
  }
}

function showDrawing(on) {
  state.drawingOn = on;
  if (!on) state.erase = false;
  stage.set({ drawing: on ? state.drawing : null, showsResult: false });
  keepDrawing();
  showItem();
}

function leaveDrawing() {
  if (!state.drawingOn || state.busy) return;
  const untouched = !state.drawing.unapplied;
  showDrawing(false);
  if (untouched) discardDrawing("");
  else say("The drawing is kept and not applied: d goes on with it.");
}

function discardDrawing(sentenceAfter = "The drawing is discarded.") {
  state.drawing?.free();
  state.drawing = null;
  keepDrawing();
  showItem();
  say(sentenceAfter);
}

function keepDrawing() {
  const { id, drawing, drawingOn, keep } = state;
  const decided = Boolean(state.item?.decision?.keep_transition);
  if (!drawing && keep === decided) remember(`item:${id}`, null);
  else remember(`item:${id}`, { on: drawingOn, keep, drawing: drawing?.save() ?? null });
}

/** Begins a stroke or a corner; false when this press draws nothing. */
function startStroke(x, y, erase) {
  if (stage.showsResult) {
    stage.set({ showsResult: false });
    showControls();
    return false;
  }
  if (state.tool === "brush") stage.redrawMask(state.drawing.begin(x, y, brushRadius(), erase || state.erase));
  else if (erase) return false;
  hoverPolygon(x, y);
  return true;
}

function endStroke() {
  if (state.tool === "brush") {
    state.drawing.end();
    drawingChanged();
  } else {
    addCorner(...stage.hoverPoint);
  }
}

function hoverPolygon(x, y) {
  stage.hoverPoint = [x, y];
  if (state.tool === "polygon") stage.redrawMarks();
}

/** A corner where the pointer was lifted; on the first corner, or twice on the last, it closes the polygon. */
function addCorner(x, y) {
  const { polygon } = state.drawing;
  const near = (i, reach) => (Math.hypot(polygon[i] - x, polygon[i + 1] - y) * stage.scale) / stage.ratio < reach;
  const onLast = polygon.length > 0 && near(polygon.length - 2, SAME_POINT);
  if (polygon.length >= 6 && (onLast || near(0, FIRST_POINT))) return closePolygon();
  if (!onLast) polygon.push(Math.round(x * 10) / 10, Math.round(y * 10) / 10);
  drawingChanged();
}

function closePolygon() {
  if (state.drawing.polygon.length < 6) return say("A polygon needs three corners.");
  stage.redrawMask(state.drawing.closePolygon(state.erase));
  drawingChanged();
  say("The polygon is closed: Enter applies the mask.");
}

function dropPolygon() {
  state.drawing.polygon = [];
  drawingChanged();
}

function drawingChanged() {
  keepDrawing();
  stage.redrawMarks();
  showItem();
}

function undoStroke() {
  const rect = state.drawing.undo();
  if (!rect) return say("Nothing is drawn that could be taken back.");
  stage.redrawMask(rect);
  drawingChanged();
}

function clearDrawing() {
  if (!state.drawingOn) return;
  stage.redrawMask(state.drawing.clear());
  drawingChanged();
  say("The mask is empty; u brings it back.");
}

function setTool(tool) {
  if (!state.drawingOn) return;
  if (state.drawing.polygon.length && tool !== "polygon") dropPolygon();
  state.tool = tool;
  remember("tool", tool);
  showControls();
}

function setErase(erase) {
  if (!state.drawingOn) return;
  state.erase = erase;
  showControls();
  say(erase ? "Erasing." : "Adding.");
}

function enter() {
  if (!state.drawingOn) return;
  if (state.drawing.polygon.length) closePolygon();
  else decide("mask");
}

/** Applies the drawing up to the silhouette: the matte stays exact, the transition area inside it too. */
function enterRecomposed() {
  if (!state.drawingOn || state.busy) return;
  if (!state.item.matte) return say("Hiding up to the silhouette needs a matte: Enter applies the mask as it is.");
  if (state.drawing.polygon.length) closePolygon();
  else decide("mask", false, null, RECOMPOSED);
}

function escape() {
  if (!state.drawingOn || state.busy) return;
  if (state.drawing.polygon.length) dropPolygon();
  else leaveDrawing();
}

function toggleKeep() {
  if (!state.item || state.busy) return;
  if (!state.item.transition) return say("This picture has no transition area.");
  if (!state.drawingOn) return recompose();
  state.keep = !state.keep;
  stage.set({ keep: state.keep });
  keepDrawing();
  showControls();
  say(state.keep ? "The transition area inside the mask will be obfuscated too." : "The transition area stays exact.");
}

/** Hides faces up to the silhouette; the picture is released only if no doubt is left. */
function recompose() {
  if (!state.item || state.busy) return;
  if (!state.item.matte) return say("Hiding up to the silhouette needs a matte: d draws a mask.");
  decide("redo");
}

// Looking ----------------------------------------------------------------------------------------------------------

async function toggleResult() {
  if (!state.item || state.busy) return;
  if (stage.showsResult) stage.set({ showsResult: false });
  else await showResult();
  showControls();
}

async function showResult() {
  const { item, ticket } = state;
  if (state.resultWanted === ticket) return;
  state.resultWanted = ticket;
  noteOnStage("Making the result");
  try {
    const { signal } = ticket.abort;
    const [picture, mask] = await Promise.all(
      ["result", "facemask"].map((kind) => getPicture(item.id, kind, item.version, signal)),
    );
    const decoded = await decodePicture(picture);
    const facemask = await readMask(mask, item.view.width, item.view.height);
    if (state.ticket === ticket) stage.setResult(decoded, facemask);
    else decoded.free();
  } catch (error) {
    if (state.ticket === ticket) showError(error);
  } finally {
    state.resultWanted = null;
    if (state.ticket === ticket) noteOnStage("");
  }
}

function toggleOverlays() {
  stage.set({ overlays: !stage.overlays });
  remember("overlays", stage.overlays);
  showControls();
}

function toggleQueue(on = !document.body.classList.contains("queue-on")) {
  document.body.classList.toggle("queue-on", on);
  byId("toggle-queue").setAttribute("aria-expanded", String(on));
  if (!NARROW.matches) remember("queue", on);
}

// Ending -----------------------------------------------------------------------------------------------------------

function askFinish() {
  if (state.busy || !state.run) return;
  const { open: left } = state.run;
  const rest = left ? `${count(left, "picture")} still open: held back until somebody decides. ` : "";
  byId("end-text").textContent = `${rest}Manifest and report are written, and this review ends.`;
  byId("end").showModal();
}

async function finish() {
  byId("end").close();
  setBusy("Writing manifest and report");
  try {
    const { released, open: left } = await postFinish();
    const outcome = released === null ? "Nothing was decided" : `${count(released, "picture")} released in all`;
    state.ended = true;
    setBusy(null);
    leaveItem();
    showEnd(`${outcome}, ${left.toLocaleString()} still open. This page can be closed.`);
  } catch (error) {
    setBusy(null);
    showError(error);
  }
}

function showEnd(text) {
  document.body.classList.add("ended");
  calm();
  byId("done-title").textContent = "The review is finished";
  byId("done-text").textContent = text;
  byId("done-finish").hidden = true;
  byId("done-look").hidden = true;
  byId("done").hidden = false;
  showItem();
  for (const button of document.querySelectorAll("button")) button.disabled = true;
  say("The review is finished.");
}

// Keys and buttons -------------------------------------------------------------------------------------------------

const COMMANDS = {
  next: () => go("next"),
  previous: () => go("previous"),
  accept: () => decide("accept"),
  no_face: () => decide("no_face"),
  exclude: () => decide("exclude"),
  draw: startDrawing,
  undo: undoDecision,
  "undo-stroke": undoStroke,
  brush: () => setTool("brush"),
  polygon: () => setTool("polygon"),
  add: () => setErase(false),
  erase: () => setErase(true),
  apply: enter,
  "apply-recomposed": enterRecomposed,
  leave: leaveDrawing,
  clear: clearDrawing,
  keep: toggleKeep,
  recompose,
  permit,
  overlays: toggleOverlays,
  result: toggleResult,
  confirm: confirmRelease,
  reopen: () => reopen(state.id),
  discard: () => discardDrawing(),
  fit: () => stage.fit(),
  "zoom-in": () => stage.zoomIn(),
  "zoom-out": () => stage.zoomOut(),
};

const KEYS = {
  n: () => go("next"),
  ArrowRight: () => go("next"),
  ArrowLeft: () => go("previous"),
  a: COMMANDS.accept,
  x: COMMANDS.no_face,
  e: COMMANDS.exclude,
  d: startDrawing,
  u: () => (state.drawingOn ? !state.busy && undoStroke() : undoDecision()),
  b: COMMANDS.brush,
  p: COMMANDS.polygon,
  "[": () => setBrush(state.brush - BRUSH_STEP),
  "]": () => setBrush(state.brush + BRUSH_STEP),
  t: () => setErase(!state.erase),
  c: () => !state.busy && clearDrawing(),
  h: enterRecomposed,
  k: toggleKeep,
  s: permit,
  o: toggleOverlays,
  r: toggleResult,
  Enter: enter,
  Escape: escape,
  "+": () => stage.zoomIn(),
  "=": () => stage.zoomIn(),
  "-": () => stage.zoomOut(),
  0: () => stage.fit(),
  "?": () => byId("help").showModal(),
};
const REPEATABLE = new Set(["n", "ArrowRight", "ArrowLeft", "[", "]", "+", "=", "-"]);

/** Keys that an element needs for itself while it has the focus. */
function belongsTo(element, key) {
  if (element.isContentEditable || element.matches("textarea, select, input:not([type=range])")) return true;
  if (element.matches("input[type=range]")) return key.startsWith("Arrow");
  return element.matches("button, a[href]") && (key === "Enter" || key === " ");
}

function onKey(event) {
  // The brackets of many keyboards are typed with AltGr, which looks like ctrl and alt.
  const plain = event.getModifierState("AltGraph") || !(event.ctrlKey || event.altKey || event.metaKey);
  if (!plain || event.isComposing || state.ended || document.querySelector("dialog[open]")) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const confirms = key === "Enter" && event.shiftKey;
  if (!(event.target instanceof Element) || (belongsTo(event.target, key) && !confirms)) return;
  if (key === " ") {
    event.preventDefault();
    stage.holdSpace(true);
    return;
  }
  if (event.repeat && !REPEATABLE.has(key)) return;
  const number = !event.shiftKey && /^[1-9]$/.test(key) ? Number(key) - 1 : null;
  const command = number !== null ? () => toggleFace(number) : event.shiftKey ? shifted(key) : KEYS[key];
  if (!command) return;
  event.preventDefault();
  if (state.starting) state.starting.then(command);
  else command();
}

/** With shift only what is typed with it: a capital A is no decision. */
function shifted(key) {
  if (key === "n") return () => go("previous");
  if (key === "Enter") return confirmRelease;
  return /^[a-z]$/.test(key) || key.length > 1 ? undefined : KEYS[key];
}

function listen() {
  document.addEventListener("keydown", onKey);
  document.addEventListener("keyup", (event) => event.key === " " && stage.holdSpace(false));
  window.addEventListener("blur", () => stage.holdSpace(false));
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-do], button[data-view]");
    if (!button) return;
    // After a click with the mouse the keys belong to the picture again: Enter must not press the button once more.
    if (event.detail > 0) byId("stage").focus({ preventScroll: true });
    if (button.dataset.view) showView(button.dataset.view);
    else COMMANDS[button.dataset.do]();
  });
  byId("brush-size").addEventListener("input", (event) => setBrush(Number(event.target.value)));
  byId("toggle-queue").addEventListener("click", () => toggleQueue());
  byId("show-help").addEventListener("click", () => byId("help").showModal());
  byId("finish").addEventListener("click", askFinish);
  byId("done-finish").addEventListener("click", finish);
  byId("done-look").addEventListener("click", () => showView("decided"));
  byId("end-yes").addEventListener("click", finish);
  byId("end-no").addEventListener("click", () => byId("end").close());
  byId("permit-form").addEventListener("submit", permitted);
  byId("permit-no").addEventListener("click", () => byId("permit").close());
  byId("alert-close").addEventListener("click", calm);
  byId("alert-retry").addEventListener("click", start);
  window.addEventListener("hashchange", () => {
    const id = idInAddress();
    if (id && id !== state.id && !state.busy) open(id);
  });
}

function idInAddress() {
  try {
    return decodeURIComponent(location.hash.slice(1));
  } catch {
    return "";
  }
}

async function start() {
  calm();
  try {
    await Promise.all([refreshRun(), queue.show(state.view)]);
    const id = idInAddress() || queue.pages.get(0)?.[0]?.id;
    if (id) await open(id);
    else await openNext();
  } catch (error) {
    showError(error);
  }
}

/** A small picture for the browser's tab, drawn here: a head with a covered face. */
function drawIcon() {
  const side = 64;
  const canvas = newCanvas(side, side);
  const context = canvas.getContext("2d");
  context.fillStyle = "#0a58ca";
  context.beginPath();
  context.roundRect(0, 0, side, side, 14);
  context.fill();
  context.fillStyle = "#fff";
  context.beginPath();
  context.ellipse(32, 32, 19, 24, 0, 0, 2 * Math.PI);
  context.fill();
  context.fillStyle = "#1b2026";
  context.fillRect(8, 25, 48, 14);
  const icon = document.createElement("link");
  icon.rel = "icon";
  document.head.append(icon);
  canvas.toBlob((blob) => (icon.href = URL.createObjectURL(blob)));
}

toggleQueue(!NARROW.matches && remembered("queue", true));
stage.overlays = remembered("overlays", true);
drawIcon();
listen();
say("? shows every key.");
showItem();
start();
