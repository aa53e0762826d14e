"""/docs: a page to try the models of a server with, whole in one file.

It is the same for every server: it asks the server it came from which models there are and what
they take, with the key that is typed in if the server wants one. It loads nothing from anywhere
else, so it works on a site without the internet, and its own policy forbids it to. What it shows
goes through `textContent` and values of fields, never through HTML.
"""

import base64
import hashlib

STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
textarea, pre { width: 100%; box-sizing: border-box; font: 14px/1.4 ui-monospace, monospace }
textarea { min-height: 14rem }
pre { padding: .5rem; border: 1px solid; overflow: auto; min-height: 3rem; white-space: pre-wrap }
label { display: block; margin: .75rem 0 .25rem }
button { margin: .75rem 0; padding: .4rem 1.2rem; font: inherit }
"""
SCRIPT = """
const at = id => document.getElementById(id);
const models = [];
const chosen = () => models[at("model").selectedIndex];
const say = text => { at("answer").textContent = text };
function headers(more) {
  const key = at("key").value;
  return key ? { ...more, authorization: "Bearer " + key } : more;
}
async function ask(path, options) {
  const answer = await fetch(path, options);
  if (!answer.ok) throw new Error(answer.status + " " + await answer.text());
  return answer.json();
}
async function describe({ name, version }) {
  const place = "/v2/models/" + encodeURIComponent(name)
    + "/versions/" + encodeURIComponent(version);
  const openapi = place + "/openapi.json";
  const { paths } = await ask(openapi, { headers: headers({}) });
  const score = Object.keys(paths).find(path => path.endsWith("/score"));
  const body = paths[score].post.requestBody.content["application/json"];
  const example = body.example ? JSON.stringify(body.example, null, 1) : "";
  return { name, version, openapi, example, score: place + "/score" };
}
async function load() {
  models.length = 0;
  at("model").replaceChildren();
  try {
    const index = await ask("/v2/repository/index", { method: "POST", headers: headers({}) });
    for (const entry of index.filter(entry => entry.state === "READY")) {
      models.push(await describe(entry));
      at("model").add(new Option(entry.name + ", version " + entry.version));
    }
    say(models.length ? "" : "No model is served.");
  } catch (error) { say("The models cannot be listed: " + error.message) }
  show();
}
function show() {
  const model = chosen();
  at("body").value = model ? model.example : "";
  at("where").textContent = model ? "POST " + model.score : "";
  at("openapi").href = model ? model.openapi : "";
}
at("key").addEventListener("change", load);
at("model").addEventListener("change", show);
at("form").addEventListener("submit", async event => {
  event.preventDefault();
  if (!chosen()) return load();
  const body = at("body").value;
  const json = /^\\s*[\\[{]/.test(body);
  const began = performance.now();
  try {
    const answer = await fetch(chosen().score, {
      method: "POST", body,
      headers: headers({ "content-type": json ? "application/json" : "text/csv" }),
    });
    const text = await answer.text(), ms = (performance.now() - began).toFixed(1);
    let shown = text;
    try { shown = JSON.stringify(JSON.parse(text), null, 1) } catch { }
    say(answer.status + ", " + ms + " ms\\n" + shown);
  } catch (error) { say("No answer: " + error.message) }
});
load();
"""
PAGE = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Models</title><style>{STYLE}</style></head>
<body><h1>Models</h1>
<form id="form">
<label for="key">Key, if this server wants one</label>
<input id="key" type="password" autocomplete="off">
<label for="model">Model</label><select id="model"></select>
<a id="openapi">OpenAPI</a>
<label for="body">Rows, as JSON or CSV</label>
<textarea id="body" spellcheck="false"></textarea>
<p><code id="where"></code></p>
<button>Predict</button>
</form>
<pre id="answer" aria-live="polite"></pre>
<script>{SCRIPT}</script>
</body></html>
""".encode()
CONTENT_TYPE = "text/html; charset=utf-8"


def policy() -> str:
    """Return the Content-Security-Policy that the page is to be sent with."""
    return (
        f"default-src 'none'; script-src {_hash(SCRIPT)}; style-src {_hash(STYLE)};"
        " connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
