// Requests to the service, and its errors in words for people.

const TITLES = {
  400: "The image did not arrive completely",
  401: "This server requires an API key",
  403: "This API key has no access",
  413: "The image is too large",
  415: "This file is not a supported image",
  422: "The server can't answer this question",
  429: "Too many requests",
  503: "The server is busy",
  504: "The server took too long",
};

/** A failed request: `title` says what happened, `message` why, and `retry` whether another attempt may help. */
export class Problem extends Error {
  constructor(title, detail, { status = 0, kind = "", retry = false } = {}) {
    super(detail);
    Object.assign(this, { title, status, kind, retry });
  }
}

let key = ""; // kept in memory only

export function useKey(value) {
  key = value.trim();
}

/** The URL of `path` with the `parameters` that have a value. */
export function address(path, parameters = {}) {
  const url = new URL(path, document.baseURI);
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== "" && value !== null && value !== undefined) url.searchParams.set(name, value);
  }
  return url;
}

/** Send a request and return the response. Throws `Problem`, or `AbortError` if `signal` aborts the request. */
export async function ask(path, { parameters, image, accept = "application/json", signal } = {}) {
  const headers = { Accept: accept };
  if (key) headers.Authorization = `Bearer ${key}`;
  if (image) headers["Content-Type"] = "application/octet-stream";
  const request = { method: image ? "POST" : "GET", headers, body: image?.blob, signal, cache: image ? "no-store" : "default" };
  let response;
  try {
    response = await fetch(address(path, parameters), request);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw unreachable(image);
  }
  if (!response.ok) throw await problem(response);
  return response;
}

export async function askJson(path, options) {
  return (await ask(path, options)).json();
}

/** The curl command for the same overlay, or for the JSON if a picture can't contain the whole answer. */
export function curl(parameters, name) {
  const whole = parameters.all_classes || parameters.faithfulness;
  const wanted = whole ? "'Accept: application/json' -o answer.json" : "'Accept: image/png' -o overlay.png";
  const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  const secret = key ? ` \\\n  -H "Authorization: Bearer $LIGHTBOX_KEY"` : "";
  const url = quoted(address("explain", parameters).href);
  return `curl --data-binary ${quoted(`@${name}`)}${secret} \\\n  -H ${wanted} \\\n  ${url}`;
}

async function problem(response) {
  const body = await response.json().catch(() => ({})); // the response may come from a proxy
  const kind = (body.type ?? "").split(":").at(-1);
  const title = kind === "CorruptImage" ? "The image is damaged" : TITLES[response.status] ?? "The server failed";
  const wait = response.headers.get("Retry-After");
  const detail = [body.detail || `It returned ${response.status} ${response.statusText}.`];
  if (wait && /^\d+$/.test(wait)) detail.push(`Try again in ${wait} s.`);
  return new Problem(title, detail.join(" "), { status: response.status, kind, retry: response.status >= 500 });
}

function unreachable(image) {
  const large = image && image.blob.size > 4e6;
  const size = large ? ` The image has ${(image.blob.size / 1e6).toFixed(1)} MB, which may exceed the limit of the server.` : "";
  return new Problem("The server can't be reached", `The connection failed.${size}`, { retry: true });
}
