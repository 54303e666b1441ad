// Talks to the service: every request carries the API key if there is one, and every failure
// becomes a Failure with words for the user.

const KEY = "patchlight-key";
const key = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value) => (value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY)),
};

/** An answer that is not what was asked for. `status` is 0 when there was no answer at all. */
export class Failure extends Error {
  constructor(status, title, detail, code = "", requestId = "") {
    super(detail || title);
    Object.assign(this, { status, title, detail, code, requestId });
  }
}

export const hasKey = () => key.get() !== "";
export const setKey = (value) => key.set(value.trim());

/** Labels of a picture. `query` is `{attention: "heads"}` and the like. */
export async function classify(picture, query, signal) {
  const answer = await ask(path("classify", query), {
    method: "POST",
    // The bytes decide what it is.
    headers: { "content-type": "application/octet-stream" },
    body: picture,
    signal,
  });
  return answer.json();
}

export async function json(url, signal) {
  return (await ask(url, { signal, headers: { accept: "application/json" } })).json();
}

export async function blob(url, signal) {
  return (await ask(url, { signal })).blob();
}

export const start = async (url, signal) => (await ask(url, { method: "POST", signal })).json();

export const forget = (url) => ask(url, { method: "DELETE" });

/** A path of the service as seen from this page: a proxy may have put another one before it. */
const here = (path) => path.replace(/^\//, "");

/** What comes before paths of the service, for other programs. */
export const base = () => new URL(".", document.baseURI).href;

/** A path with the query parameters that are not empty. */
export function path(plain, query) {
  const given = Object.entries(query).filter(([, value]) => value !== "" && value != null);
  const text = new URLSearchParams(given).toString();
  return here(text ? `${plain}?${text}` : plain);
}

async function ask(url, options) {
  const headers = new Headers(options.headers);
  if (hasKey()) headers.set("authorization", `Bearer ${key.get()}`);
  let answer;
  try {
    answer = await fetch(here(url), { ...options, headers });
  } catch (why) {
    if (why.name === "AbortError") throw why;
    throw new Failure(
      0,
      "No answer.",
      "The server cannot be reached, or it hung up while the picture was on its way; it may be larger than the server takes.",
    );
  }
  if (answer.ok) return answer;
  throw await failure(answer);
}

/** What each status means for someone in front of the page; the server's detail follows it. */
const TITLES = {
  401: "This server asks for an API key.",
  403: "This server does not do that.",
  404: "It is no longer there.",
  409: "This map was not kept.",
  413: "Too large.",
  415: "Unknown format.",
  422: "This picture cannot be used.",
  429: "That was a little too often.",
  503: "The server is busy.",
  504: "It took too long.",
};

async function failure(answer) {
  const problem = await answer.json().catch(() => ({}));
  const wait = answer.headers.get("retry-after");
  const again = wait ? ` Try again in ${wait} s.` : "";
  return new Failure(
    answer.status,
    TITLES[answer.status] ?? (answer.status >= 500 ? "Something went wrong on the server." : "That cannot be done."),
    `${readable(problem.detail ?? answer.statusText)}${again}`,
    problem.code ?? String(answer.status),
    problem.request_id ?? "",
  );
}

/** Problems are written for terminals; here they are sentences, and marks of code are quotation marks. */
const readable = (detail) =>
  detail
    .replace(/`([^`]*)`/g, "“$1”")
    .replace(/^\p{Ll}/u, (letter) => letter.toUpperCase())
    .replace(/([^.!?])$/, "$1.");
