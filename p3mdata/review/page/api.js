/** What the page asks its server; all addresses are relative, so that the token in the page's own address is used. */

const ENDED =
  "The review server does not answer: it was ended or has stopped. Every decision up to here is stored. " +
  "Start p3mdata review again to go on.";

/** A request that did not work out; `message` is a sentence for the person, `status` 0 when nobody answered. */
export class ApiError extends Error {
  constructor(status, sentence) {
    super(sentence);
    this.status = status;
  }
}

async function send(path, options) {
  let response;
  try {
    response = await fetch(`api/${path}`, { cache: "no-store", credentials: "same-origin", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, ENDED);
  }
  if (!response.ok) throw new ApiError(response.status, await errorSentence(response));
  return response;
}

async function errorSentence(response) {
  try {
    const { error } = await response.json();
    if (typeof error === "string" && error) return error;
  } catch {
    // No JSON: the number has to do.
  }
  return `The server refused this with status ${response.status}.`;
}

/** Bodies can break off after the head has come, when the server ends meanwhile. */
async function body(response, kind) {
  try {
    return await response[kind]();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, ENDED);
  }
}

async function getJson(path, signal) {
  return body(await send(path, { signal }), "json");
}

async function postJson(path, value) {
  const options = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(value) };
  return body(await send(path, options), "json");
}

const itemPath = (id) => `items/${encodeURIComponent(id)}`;

export const getRun = () => getJson("run");
export const getItems = (view, offset, limit) => getJson(`items?view=${view}&offset=${offset}&limit=${limit}`);
export const getItem = (id, view, signal) => getJson(`${itemPath(id)}?view=${view}`, signal);
export const postDecision = (id, decision) => postJson(`${itemPath(id)}/decision`, decision);
export const postFinish = () => postJson("finish", {});

/** A picture or mask of an item; `version` keeps answers about an older decision apart. */
export async function getPicture(id, kind, version, signal) {
  return body(await send(`${itemPath(id)}/${kind}?v=${version}`, { signal }), "blob");
}
