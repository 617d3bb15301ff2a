// The console: asks /console/state once a second and draws it; streams chats from the playground.
// The key lives in a variable, nowhere else. Whatever comes from the server is set as text, never as markup.
"use strict";

const POLL_MS = 1000;
const HISTORY = 120; // samples: two minutes
const WINDOW_SECONDS = 60; // of percentiles

const $ = (id) => document.getElementById(id);
const set = (id, text) => {
  const element = $(id);
  if (element.textContent !== text) element.textContent = text;
};

let key = "";
let dismissed = false; // the key dialog was closed: ask again only when asked to
let model = null;
let samples = []; // {time, generated, prompt, rate, latency}, oldest first

// --- numbers for people ---

const number = (value, digits = 0) => value.toLocaleString("en", {maximumFractionDigits: digits});

function seconds(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (value < 1) return number(value * 1000, value < 0.01 ? 2 : value < 0.1 ? 1 : 0) + " ms";
  return number(value, value < 10 ? 2 : 1) + " s";
}

function bytes(value) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    ++unit;
  }
  return number(value, value < 10 ? 2 : value < 100 ? 1 : 0) + " " + units[unit];
}

// --- talking to the server ---

async function ask(path, options = {}) {
  const headers = {...options.headers};
  if (key) headers.Authorization = "Bearer " + key;
  const response = await fetch(path, {...options, headers, cache: "no-store", credentials: "omit"});
  if (response.status === 401 && !dismissed) askForKey(key ? "The server does not know that key." : "");
  return response;
}

function askForKey(why) {
  if ($("key-dialog").open) return;
  set("key-why", why || "It stays in this page's memory and is gone when you leave.");
  $("key").value = "";
  $("key-dialog").showModal();
  $("key").focus();
}

$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  key = $("key").value;
  $("key").value = "";
  dismissed = false;
  $("key-dialog").close();
  poll();
});
$("key-cancel").addEventListener("click", () => $("key-dialog").close());
$("key-dialog").addEventListener("close", () => {
  if (!key) dismissed = true;
});
$("key-button").addEventListener("click", () => askForKey(""));

// --- theme ---

const THEMES = ["system", "light", "dark"];
let theme = 0;
$("theme-button").addEventListener("click", () => {
  theme = (theme + 1) % THEMES.length;
  document.documentElement.dataset.theme = THEMES[theme];
  set("theme-button", "Theme: " + THEMES[theme]);
  redraw();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => redraw());

// --- rates and percentiles ---

// The quantile of what was counted between two histograms, as Prometheus' histogram_quantile has it.
function quantile(le, before, after, q) {
  const counts = after.map((count, i) => count - (before ? before[i] : 0));
  const total = counts[counts.length - 1];
  if (!total) return null;
  const rank = q * total;
  const i = counts.findIndex((count) => count >= rank);
  if (i >= le.length) return le[le.length - 1];
  const low = i === 0 ? 0 : le[i - 1];
  const below = i === 0 ? 0 : counts[i - 1];
  return low + (le[i] - low) * (counts[i] === below ? 1 : (rank - below) / (counts[i] - below));
}

function percentile(name, q) {
  const now = samples[samples.length - 1];
  const then = samples.find((sample) => sample.time >= now.time - WINDOW_SECONDS);
  const histogram = now.latency[name];
  if (!histogram) return null;
  const recent = quantile(histogram.le, then.latency[name]?.counts, histogram.counts, q);
  // Nothing lately: since the start.
  return recent ?? quantile(histogram.le, null, histogram.counts, q);
}

// Over the last five seconds: steps of large batches are far apart.
function rate(of) {
  const now = samples[samples.length - 1];
  const then = samples.find((sample) => sample.time >= now.time - 5.5);
  return now.time > then.time ? (now[of] - then[of]) / (now.time - then.time) : 0;
}

function remember(state) {
  const last = samples[samples.length - 1];
  if (last && state.load.generated_tokens < last.generated) samples = []; // another process answers
  samples.push({
    time: state.time,
    generated: state.load.generated_tokens,
    prompt: state.load.prompt_tokens_computed,
    latency: state.latency,
    rate: 0,
  });
  samples[samples.length - 1].rate = rate("generated");
  if (samples.length > HISTORY) samples.shift();
}

// --- drawing ---

let lastPages = null;

function canvasOf(id) {
  const canvas = $(id);
  const scale = devicePixelRatio || 1;
  const width = Math.round(canvas.clientWidth * scale);
  const height = Math.round(canvas.clientHeight * scale);
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
  }
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, width, height);
  return {context, width, height, scale};
}

// Canvases cannot read custom properties: the legend has the colours.
const colour = (letter) => getComputedStyle($("swatch-" + letter)).backgroundColor;

function drawRate() {
  const {context, width, height, scale} = canvasOf("rate-plot");
  const top = Math.max(1, ...samples.map((sample) => sample.rate)) * 1.1;
  const across = Math.max(30, samples.length) - 1; // a short past is not stretched over all of it
  const x = (i) => width - ((samples.length - 1 - i) * width) / across;
  const y = (sample) => height - scale - ((height - 2 * scale) * sample.rate) / top;
  context.strokeStyle = context.fillStyle = colour("p");
  context.lineWidth = 2 * scale;
  context.beginPath();
  samples.forEach((sample, i) => (i ? context.lineTo(x(i), y(sample)) : context.moveTo(x(i), y(sample))));
  context.stroke();
  if (samples.length < 2) return;
  context.lineTo(width, height);
  context.lineTo(x(0), height);
  context.globalAlpha = 0.15;
  context.fill();
  context.globalAlpha = 1;
}

// "f120p3s2c9" -> [["f", 120], ...]
const runsOf = (map) => [...map.matchAll(/([fpsc])(\d+)/g)].map((match) => [match[1], Number(match[2])]);

// A cell is a page, row by row; when pages outnumber what can be seen, a cell is as many pages as it takes, shown as the one of
// them that says most.
function drawPool() {
  if (!lastPages) return;
  const {context, width, height, scale} = canvasOf("pool");
  const total = Math.max(1, lastPages.total);
  const least = 3 * scale;
  const perCell = Math.max(1, Math.ceil((total * least * least) / (width * height)));
  const cells = Math.ceil(total / perCell);
  let columns = Math.ceil(Math.sqrt((cells * width) / height));
  let size = Math.min(width / columns, height / Math.ceil(cells / columns));
  size = Math.min(size, 18 * scale);
  columns = Math.floor(width / size);
  const gap = size > 4 * scale ? scale : 0;
  const colours = Object.fromEntries([..."fpsc"].map((letter) => [letter, colour(letter)]));
  const weight = {f: 0, c: 1, p: 2, s: 3};
  let page = 0;
  let cell = -1;
  let shown = "f";
  const paint = () => {
    if (cell < 0) return;
    context.fillStyle = colours[shown];
    context.fillRect((cell % columns) * size, Math.floor(cell / columns) * size, size - gap, size - gap);
  };
  for (const [letter, count] of runsOf(lastPages.map)) {
    for (const end = page + count; page < end; ) {
      const at = Math.floor(page / perCell);
      if (at !== cell) {
        paint();
        cell = at;
        shown = letter;
      } else if (weight[letter] > weight[shown]) {
        shown = letter;
      }
      page = Math.min(end, (at + 1) * perCell);
    }
  }
  paint();
}

function redraw() {
  if (samples.length) drawRate();
  drawPool();
}
addEventListener("resize", redraw);

function showTiles(state) {
  set("tokens-rate", number(rate("generated"), 0));
  set("prompt-rate", "prompts: " + number(rate("prompt"), 0));
  set("running", number(state.load.running));
  set("running-limit", "of " + number(state.model.max_num_seqs) + " slots");
  set("step", "last step: " + number(state.load.last_step_tokens) + " tokens");
  set("waiting", number(state.load.waiting));
  set("queue-time", "p95 " + seconds(percentile("queue", 0.95)));
  for (const [name, id] of [["first_token", "first-token"], ["inter_token", "inter-token"], ["request", "request"]]) {
    set(id, seconds(percentile(name, 0.5)));
    set(id + "-tail", "p95 " + seconds(percentile(name, 0.95)) + "\np99 " + seconds(percentile(name, 0.99)));
  }
}

function showPages(state) {
  const pages = state.pages;
  lastPages = pages;
  for (const name of ["free", "private", "shared", "cached", "promised"]) set("count-" + name, number(pages[name]));
  const queried = state.load.prefix_queried_tokens;
  set("hit-rate", queried ? number((100 * state.load.prompt_tokens_cached) / queried, 0) + " %" : "–");
  set(
    "pool-summary",
    `${number(pages.total)} pages of ${state.cache.page_tokens} tokens, ${bytes(pages.total * state.cache.page_tokens * state.cache.bytes_per_token)}: ` +
      `${number(pages.private)} private, ${number(pages.shared)} shared, ${number(pages.cached)} cached, ${number(pages.free)} free`
  );
}

function showBytes(state) {
  const {bytes_per_token: kv, mha_bytes_per_token: mha} = state.cache;
  set("attention", state.cache.attention);
  set("kv-bytes", bytes(kv));
  set("mha-bytes", bytes(mha));
  const most = Math.max(kv, mha);
  $("kv-bar").style.width = (100 * kv) / most + "%";
  $("mha-bar").style.width = (100 * mha) / most + "%";
  const tokens = state.pages.total * state.cache.page_tokens;
  set(
    "bytes-summary",
    mha > kv
      ? `${number(mha / kv, 1)} times less: this cache holds ${number(tokens)} tokens; as full keys and values ${number(Math.floor((tokens * kv) / mha))}.`
      : `This cache holds ${number(tokens)} tokens.`
  );
}

function cellOf(text, className) {
  const cell = document.createElement("td");
  cell.textContent = text;
  if (className) cell.className = className;
  return cell;
}

let shownRequests = "";
function showRequests(requests) {
  const same = JSON.stringify(requests);
  if (same === shownRequests) return;
  shownRequests = same;
  $("requests").replaceChildren(
    ...requests.map((request) => {
      const row = document.createElement("tr");
      const fine = request.status === "200" || request.status === "OK";
      const id = cellOf(request.id, "id");
      id.title = request.id;
      row.append(
        cellOf(new Date(request.ended * 1000).toLocaleTimeString("en-GB")),
        cellOf(request.call),
        cellOf(request.status, fine ? "" : "wrong"),
        cellOf(number(request.prompt_tokens), "number"),
        cellOf(number(request.cached_tokens), "number"),
        cellOf(number(request.completion_tokens), "number"),
        cellOf(seconds(request.queue_seconds), "number"),
        cellOf(request.completion_tokens ? seconds(request.first_token_seconds) : "–", "number"),
        cellOf(seconds(request.seconds), "number"),
        cellOf(bytes(request.kv_byte_seconds) + " s", "number"),
        id
      );
      return row;
    })
  );
}

function showState(text, className) {
  $("state").className = "state " + className;
  set("state", text);
}

function show(state) {
  showState(state.state, state.state);
  if (!state.model) return;
  model = state.model;
  set("model", `${model.name} · ${model.architecture} · ${model.device} · ${model.kv_cache_dtype} cache · context ${number(model.max_model_len)} · version ${state.version}`);
  remember(state);
  showTiles(state);
  showPages(state);
  showBytes(state);
  showRequests(state.requests);
  redraw();
}

// --- the loop ---

let timer = 0;
async function poll() {
  clearTimeout(timer);
  try {
    const response = await ask("/console/state");
    if (response.ok) show(await response.json());
    else showState(response.status === 401 ? "a key is needed" : "answers " + response.status, "lost");
  } catch {
    showState("not reachable", "lost");
  }
  clearTimeout(timer);
  if (!document.hidden) timer = setTimeout(poll, POLL_MS);
}
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) poll();
});

// --- playground ---

let messages = [];
let running = null; // AbortController

function addTurn(who) {
  const turn = document.createElement("p");
  turn.className = "turn";
  const name = document.createElement("span");
  name.className = "who";
  name.textContent = who;
  const text = document.createElement("span");
  turn.append(name, text);
  if (!$("talk").querySelector(".turn")) $("talk").replaceChildren(); // the greeting
  $("talk").append(turn);
  $("talk").scrollTop = $("talk").scrollHeight;
  return {name, text, turn};
}

// Calls `take` with the JSON of each event of a stream.
async function readEvents(body, take) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const {value, done} = await reader.read();
    if (done) return;
    const events = (rest + value).split("\n\n");
    rest = events.pop();
    for (const event of events) {
      const data = event.startsWith("data: ") ? event.slice(6) : "";
      if (data && data !== "[DONE]") take(JSON.parse(data));
    }
  }
}

function requestBody(prompt) {
  const common = {
    max_tokens: Number($("max-tokens").value),
    temperature: Number($("temperature").value),
    stream: true,
    stream_options: {include_usage: true},
  };
  // A model without a chat template completes texts.
  if (model && !model.converses) return ["/v1/completions", {...common, prompt}];
  return ["/v1/chat/completions", {...common, messages: [...messages, {role: "user", content: prompt}]}];
}

async function stream(prompt, answer) {
  const [path, body] = requestBody(prompt);
  const begin = performance.now();
  let first = 0;
  let usage = null;
  const response = await ask(path, {
    method: "POST",
    headers: {"Content-Type": "application/json"},
    body: JSON.stringify(body),
    signal: running.signal,
  });
  if (!response.ok) throw new Error((await response.json()).error.message);
  await readEvents(response.body, (event) => {
    if (event.error) throw new Error(event.error.message);
    if (event.usage) usage = event.usage;
    const choice = event.choices?.[0];
    const piece = choice?.delta?.content ?? choice?.text ?? "";
    if (!piece) return;
    if (!first) first = performance.now() - begin;
    answer.text.textContent += piece;
    $("talk").scrollTop = $("talk").scrollHeight;
  });
  const after = (performance.now() - begin - first) / 1000;
  if (usage) {
    const speed = usage.completion_tokens > 1 && after > 0 ? `, ${number((usage.completion_tokens - 1) / after)} a second` : "";
    answer.name.textContent += ` · ${usage.completion_tokens} tokens${speed} · first after ${seconds(first / 1000)}`;
  }
}

async function converse(prompt) {
  addTurn("you").text.textContent = prompt;
  const answer = addTurn(model ? model.name : "model");
  running = new AbortController();
  $("send").disabled = true;
  $("stop").disabled = false;
  try {
    await stream(prompt, answer);
    messages.push({role: "user", content: prompt}, {role: "assistant", content: answer.text.textContent});
  } catch (error) {
    answer.turn.classList.add("wrong");
    answer.name.textContent += error.name === "AbortError" ? " · stopped" : " · failed: " + error.message;
  }
  running = null;
  $("send").disabled = false;
  $("stop").disabled = true;
}

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  if (running) return;
  const prompt = $("message").value;
  $("message").value = "";
  converse(prompt);
});
$("message").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("ask").requestSubmit();
});
$("stop").addEventListener("click", () => running?.abort());
$("clear").addEventListener("click", () => {
  running?.abort();
  messages = [];
  $("talk").replaceChildren();
  $("message").focus();
});

poll();
