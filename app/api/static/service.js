// What the page asks of the service, and what went wrong in words that a person can use.

const TITLES = {
  400: "The film did not arrive whole",
  401: "This server asks for a key",
  403: "This key does not open it",
  413: "The film is too large",
  415: "This is not a picture that can be read here",
  422: "This can't be answered",
  429: "Too many questions at once",
  503: "The server is busy",
  504: "It took too long",
};

/** A question that was not answered: `title` says what happened, `message` why, `retry` whether asking again may help. */
export class Problem extends Error {
  constructor(title, detail, { status = 0, kind = "", retry = false } = {}) {
    super(detail);
    Object.assign(this, { title, status, kind, retry });
  }
}

let key = ""; // in memory only: it goes when the page goes

export function useKey(value) {
  key = value.trim();
}

/** The address of `path` with those `parameters` that are set. */
export function address(path, parameters = {}) {
  const url = new URL(path, document.baseURI);
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== "" && value !== null && value !== undefined) url.searchParams.set(name, value);
  }
  return url;
}

/** Ask, and give the response; raises `Problem`, or `AbortError` once `signal` says that nobody waits any more. */
export async function ask(path, { parameters, film, accept = "application/json", signal } = {}) {
  const headers = { Accept: accept };
  if (key) headers.Authorization = `Bearer ${key}`;
  if (film) headers["Content-Type"] = "application/octet-stream";
  const request = { method: film ? "POST" : "GET", headers, body: film?.blob, signal, cache: film ? "no-store" : "default" };
  let response;
  try {
    response = await fetch(address(path, parameters), request);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw unreachable(film);
  }
  if (!response.ok) throw await problem(response);
  return response;
}

export async function askJson(path, options) {
  return (await ask(path, options)).json();
}

/** The command that gets the same overlay; or the same answer, where not all that was asked for is in a picture. */
export function curl(parameters, name) {
  const whole = parameters.all_classes || parameters.faithfulness;
  const wanted = whole ? "'Accept: application/json' -o answer.json" : "'Accept: image/png' -o overlay.png";
  const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  const secret = key ? ` \\\n  -H "Authorization: Bearer $LIGHTBOX_KEY"` : "";
  const url = quoted(address("explain", parameters).href);
  return `curl --data-binary ${quoted(`@${name}`)}${secret} \\\n  -H ${wanted} \\\n  ${url}`;
}

async function problem(response) {
  const told = await response.json().catch(() => ({})); // a proxy in between may answer in its own words
  const kind = (told.type ?? "").split(":").at(-1);
  const title = kind === "CorruptImage" ? "The film is damaged" : TITLES[response.status] ?? "The server could not answer";
  const wait = response.headers.get("Retry-After");
  const detail = [told.detail || `It answered ${response.status} ${response.statusText}.`];
  if (wait && /^\d+$/.test(wait)) detail.push(`Try again in ${wait} s.`);
  return new Problem(title, detail.join(" "), { status: response.status, kind, retry: response.status >= 500 });
}

function unreachable(film) {
  const large = film && film.blob.size > 4e6;
  const size = large ? ` The film has ${(film.blob.size / 1e6).toFixed(1)} MB, which may be more than it takes.` : "";
  return new Problem("The server can't be reached", `The connection failed.${size}`, { retry: true });
}
