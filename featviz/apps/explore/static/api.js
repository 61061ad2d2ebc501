// The calls of the server. Each returns the parsed answer or throws an ApiError.

/** A refused or failed call: `message` is one plain line, `position` the offset in a typed objective. */
export class ApiError extends Error {
  constructor(message, {status = 0, position = null} = {}) {
    super(message);
    this.status = status;
    this.position = position;
  }

  /** Whether the server could not be reached at all. */
  get offline() {
    return this.status === 0;
  }

  /** Whether the same call may succeed a moment later. */
  get passing() {
    return [0, 409, 429, 502, 503, 504].includes(this.status);
  }
}

async function call(path, options = {}) {
  let response, answer;
  try {
    response = await fetch(`./api/${path}`, {cache: "no-store", credentials: "same-origin", ...options});
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The server cannot be reached.");
  }
  try {
    answer = await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    answer = {error: `The server answered with status ${response.status}.`};
  }
  if (response.ok) return answer;
  const {error, position = null} = answer;
  throw new ApiError(String(error || `status ${response.status}`), {status: response.status, position});
}

const query = values => new URLSearchParams(values).toString();

function post(path, body, options = {}) {
  return call(path, {method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(body), ...options});
}

export const about = () => call("about");
export const complete = (text, caret, signal) => call(`complete?${query({text, at: caret})}`, {signal});
export const check = (objective, signal) => post("check", {objective}, {signal});
export const images = (page, wanted, priority) => post("images", {page, wanted, priority});
export const cancel = (page, ids) => post("cancel", ids ? {page, ids} : {page, all: true}, {keepalive: true});
export const image = (id, signal) => call(`image/${encodeURIComponent(id)}`, {signal});
export const unit = (layer, channel, page, signal) => call(`unit?${query({layer, channel, ...(page && {page})})}`, {signal});
export const dream = body => post("dream", body);
export const explain = body => post("explain", body);
export const blocks = body => post("blocks", body);
export const board = () => call("board");
export const saveBoard = (items, revision) => post("board", {items, revision});
export const exportBoard = () => post("board/export", {});
export const uploaded = id => call(`uploads/${encodeURIComponent(id)}`);
export const upload = file =>
  call("uploads", {method: "POST", headers: {"Content-Type": file.type || "application/octet-stream"}, body: file});

/** Return whether the server is there: "here", "gone", or "moved" when it no longer knows this address. */
export async function reachable() {
  try {
    const response = await fetch("./", {cache: "no-store"});
    return response.ok ? "here" : response.status === 404 ? "moved" : "gone";
  } catch {
    return "gone";
  }
}
