"""/docs: a page to try the models of a server with, whole in one file.

It loads nothing from anywhere, so it works on a site without the internet, and its own policy
forbids it to. What it shows of a model goes through JSON and `textContent`, never through HTML.
"""

import base64
import hashlib
import html
from collections.abc import Sequence

import msgspec

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
const models = JSON.parse(document.getElementById("models").textContent);
const at = id => document.getElementById(id);
const chosen = () => models[at("model").selectedIndex];
for (const model of models) at("model").add(new Option(model.name + ", version " + model.version));
function show() {
  at("body").value = chosen().example;
  at("openapi").href = chosen().openapi;
  at("answer").textContent = "";
  at("where").textContent = "POST " + chosen().score;
}
at("model").addEventListener("change", show);
at("form").addEventListener("submit", async event => {
  event.preventDefault();
  const body = at("body").value, key = at("key").value;
  const json = /^\\s*[\\[{]/.test(body);
  const headers = { "content-type": json ? "application/json" : "text/csv" };
  if (key) headers.authorization = "Bearer " + key;
  const began = performance.now();
  try {
    const answer = await fetch(chosen().score, { method: "POST", headers, body });
    const text = await answer.text(), ms = (performance.now() - began).toFixed(1);
    let shown = text;
    try { shown = JSON.stringify(JSON.parse(text), null, 1) } catch { }
    at("answer").textContent = answer.status + ", " + ms + " ms\\n" + shown;
  } catch (error) { at("answer").textContent = "No answer: " + error.message }
});
if (models.length) show();
"""
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>{style}</style></head>
<body><h1>{title}</h1>
<form id="form">
<label for="model">Model</label><select id="model"></select>
<a id="openapi" href="">OpenAPI</a>
<label for="body">Rows, as JSON or CSV</label>
<textarea id="body" spellcheck="false"></textarea>
<label for="key">Key, if this server wants one</label>
<input id="key" type="password" autocomplete="off">
<p><code id="where"></code></p>
<button>Predict</button>
</form>
<pre id="answer" aria-live="polite"></pre>
<script type="application/json" id="models">{models}</script>
<script>{script}</script>
</body></html>
"""
CONTENT_TYPE = "text/html; charset=utf-8"


class Shown(msgspec.Struct, frozen=True):
    """A model on the page."""

    name: str
    version: str
    score: str
    """Path that scores with it."""
    openapi: str
    """Path of its description."""
    example: str
    """What stands in the form at first: a body for `score`."""


def render(models: Sequence[Shown], *, title: str = "Packhorse") -> bytes:
    """Return the page."""
    data = msgspec.json.encode(models).decode()
    # Inside <script> the only way out is a tag.
    safe = data.replace("<", "\\u003c")
    page = PAGE.format(title=html.escape(title), style=STYLE, script=SCRIPT, models=safe)
    return page.encode()


def policy() -> str:
    """Return the Content-Security-Policy that the page is to be sent with."""
    return (
        f"default-src 'none'; script-src {_hash(SCRIPT)}; style-src {_hash(STYLE)};"
        " connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
