/** What the page says about pictures and decisions, in words. */

const FACE_OR_NOT = "A face, and its area fits: a. A false box: click it or press its number. No face at all: x.";
// A heading, and what usually helps.
const REASONS = {
  no_face_found: ["No face was found", "Really none: x. A face that was missed: draw it with d."],
  detectors_disagree: ["The detectors disagree", FACE_OR_NOT],
  suspected_face: ["A second look found a face that was left bare", FACE_OR_NOT],
  implausible_size: ["A face of odd shape was found", FACE_OR_NOT],
  mask_too_small: [
    "The mask leaves part of a face bare",
    "k hides it up to the silhouette and keeps the matte. Where the matte is unsure: d, then k, then Enter.",
  ],
  face_outside_matte: [
    "A face lies outside the matte",
    "The areas fit: a. Otherwise draw with d, or leave it out with e.",
  ],
  matte_without_person: ["The matte shows nobody", "A wrong file? e leaves the picture out. Otherwise: a, or d."],
  redetected: [
    "A face is still found on the result",
    "Look at the result with r. k hides faces up to the silhouette; d draws over what is bare.",
  ],
  hand_mask_leaves_face: [
    "The drawn mask leaves a face bare",
    "Draw over it. Where the detectors are wrong, release anyway.",
  ],
  hand_mask_covers_most: [
    "The drawn mask covers most of the picture",
    "Is it the wrong way round? Draw again with d. Where it is meant so, release anyway.",
  ],
  nearly_black: ["The picture is nearly black", "It is shown brighter here. Really no face: x. Otherwise draw with d."],
  matte_is_picture: ["The matte is a picture", "A wrong file? It would be published: e leaves the picture out."],
  others_shown: [
    "More than one face would be shown",
    "A permission is one person's. False boxes: click them. Where it covers everybody, release anyway; otherwise u.",
  ],
  mask_and_permission: ["A mask and a permission", "Both cannot be: u takes the permission back."],
  hand_mask_empty: ["Nothing is left of the drawn mask", "The transition area cuts it off: draw more, or use k."],
  hand_mask_covers_most: ["The drawn mask covers most of the picture", "Draw faces only; is it inverted?"],
};
const OTHER_ADVICE = "Draw a mask with d, or leave the picture out with e.";
const SAMPLE_WORDS = [
  "A sample of what was released",
  "Everything is hidden: a. Otherwise draw with d, or take it back with e.",
];
// As a heading, and inside a line.
const DECIDED = {
  accept: ["Accepted", "accepted"],
  no_face: ["No face in it", "no face"],
  exclude: ["Excluded", "excluded"],
  mask: ["Masked by hand", "masked by hand"],
  redo: ["Hidden up to the silhouette", "hidden up to the silhouette"],
  show: ["Shown by permission", "shown by permission"],
  remove: ["Taken down", "taken down"],
};

export const DONE_WORDS = {
  accept: "Released with the areas shown",
  no_face: "Released as a picture without a face",
  exclude: "Excluded",
  mask: "Released with the drawn mask",
  redo: "Released, hidden up to the silhouette",
  show: "Released with its faces, by permission",
  reopen: "Open again",
};

export function reasonWords(reason) {
  if (!reason) return ["", ""];
  return REASONS[reason] ?? [sentence(reason.replaceAll("_", " ")).replace(/\.$/, ""), OTHER_ADVICE];
}

/** A sentence from the server with a capital and a full stop; a file name at its beginning stays as it is. */
export function sentence(text) {
  if (!text) return "";
  const first = /^[a-z]+( |$)/.test(text) ? text.charAt(0).toUpperCase() + text.slice(1) : text;
  return /[.!?]$/.test(first) ? first : `${first}.`;
}

// Options as they are typed.
const OPTION = /(?<![\w-])--?[a-z][a-z0-9-]*/g;

/** Puts a sentence into an element as text; names of options in it are not broken at their hyphens. */
export function tell(element, text) {
  const pieces = [];
  let end = 0;
  for (const { 0: name, index } of text.matchAll(OPTION)) {
    const whole = document.createElement("span");
    whole.className = "option";
    whole.textContent = name;
    pieces.push(text.slice(end, index), whole);
    end = index + name.length;
  }
  element.replaceChildren(...pieces, text.slice(end));
  return element;
}

export const count = (number, noun) => `${number.toLocaleString()} ${noun}${number === 1 ? "" : "s"}`;

export const isHeld = (item) => item.outcome === "needs_review";
const isSettled = (item) => Boolean(item.decision) && !isHeld(item);

export const decisionWord = (action) => DECIDED[action]?.[1] ?? action;

export function headingOf(item) {
  if (isSettled(item)) return [DECIDED[item.decision.action]?.[0] ?? item.decision.action, ""];
  if (item.released) return SAMPLE_WORDS;
  return reasonWords(item.reason ?? "held back");
}

export function stateOf(item) {
  const where = item.released ? "released" : isHeld(item) ? "held back" : "not released";
  const { decision } = item;
  if (!decision) return where;
  const when = new Date(decision.time);
  const time = Number.isNaN(when.getTime()) ? String(decision.time) : when.toLocaleString();
  const who = decision.reviewer ? ` by ${decision.reviewer}` : "";
  const parts = [`${where}: ${decisionWord(decision.action)}${who}, ${time}`];
  if (decision.keep_transition) parts.push("transition area obfuscated too");
  if (decision.settings?.boundary === "recomposite") parts.push("hidden up to the silhouette");
  if (decision.basis) parts.push(`on the ground of: ${decision.basis}`);
  if (decision.dropped?.length) parts.push(`${decision.dropped.length} dropped`);
  if (decision.confirmed) parts.push("released anyway");
  return parts.join("; ");
}

export function sizeOf({ view, width, height }) {
  // What was left out was not looked at, so that its own size is not known.
  if (!width) return `shown at ${view.width} x ${view.height}`;
  const reduced = view.width === width ? "" : `, shown at ${view.width} x ${view.height}`;
  return `${width} x ${height}${reduced}`;
}

/** One line for each face. */
export function faceWords({ faces, outcome }) {
  if (!faces.length) return [outcome === "excluded" ? "not looked for" : "none found"];
  return faces.map(({ score, seen_by: seenBy, landmarks, dropped, concerned }, number) => {
    const seen = `${number + 1}: ${score.toFixed(2)}, ${seenBy.join(" and ")}`;
    const words = `${seen}, ${landmarks ? "landmarks" : "no landmarks"}`;
    return words + (dropped ? ", dropped: no face" : concerned ? ", in doubt" : "");
  });
}

export function labelOf(item) {
  const found = item.outcome === "excluded" ? "left out" : `${count(item.faces.length, "face")} found`;
  return `${item.source}: ${found}, ${item.released ? "released" : "not released"}`;
}

export function placeOf({ position }) {
  if (!position) return "not in this list";
  return `${(position.index + 1).toLocaleString()} of ${position.total.toLocaleString()}, ${position.view}`;
}
