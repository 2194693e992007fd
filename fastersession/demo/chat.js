// The page of the demo. What anybody typed or a model wrote enters the document as textContent
// only; the conversation itself lives in the session, this file merely shows it.

const $ = (id) => document.getElementById(id);
const scroll = $("scroll"), log = $("log"), form = $("form"), input = $("message");

let stream = null; // the AbortController of the answer being read
let polling = 0;
let era = 0; // counts new chats: what was asked for in an earlier one is not shown any more
let shown = "", panel = null, panelAt = 0;

// ---- what is shown -------------------------------------------------------------------------

function element(tag, className, text = "") {
  const node = document.createElement(tag);
  node.className = className;
  node.textContent = text;
  return node;
}

function turnView(turn) {
  const you = element("article", "bubble you");
  const answer = element("article", "bubble answer");
  const text = element("span", "text"), note = element("span", "note");
  you.append(element("span", "unseen", "You: "), element("span", "text", turn.question));
  answer.append(element("span", "unseen", "Answer: "), text, note);
  const view = {
    nodes: [you, answer],
    write(piece) { following(() => text.append(piece)); },
    end(status, error = "") {
      answer.dataset.status = status;
      following(() => { note.textContent = status === "error" ? error : status === "stopped" ? "Stopped" : ""; });
    },
  };
  view.write(turn.answer);
  view.end(turn.status, turn.error);
  return view;
}

// Keep the newest line in sight, unless the reader scrolled up to read something else.
function following(change) {
  const atEnd = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 60;
  change();
  if (atEnd) toEnd();
}

function toEnd() { scroll.scrollTop = scroll.scrollHeight; }

function show({ turns, session }) {
  showPanel(session);
  const state = JSON.stringify(turns);
  if (state === shown) return;
  shown = state;
  const place = scroll.scrollTop;
  following(() => {
    log.replaceChildren(...turns.flatMap((turn) => turnView(turn).nodes));
    $("welcome").hidden = turns.length > 0;
    scroll.scrollTop = place;
  });
}

function showPanel(session) {
  panel = session;
  panelAt = performance.now();
  $("session").hidden = !session;
  $("no-session").hidden = Boolean(session);
  if (!session) return;
  $("session-id").textContent = $("session-id").title = session.id;
  $("session-turns").textContent = session.turns;
  $("session-bytes").textContent = size(session.bytes);
  tick();
}

function tick() {
  if (panel) $("session-age").textContent = age(panel.age + (performance.now() - panelAt) / 1000);
}

function age(seconds) {
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
}

function size(bytes) {
  return bytes < 1024 ? `${bytes} bytes` : `${(bytes / 1024).toFixed(1)} KB`;
}

function announce(text) { $("status").textContent = text; }

function setBusy(busy) {
  $("send").hidden = busy;
  $("stop").hidden = !busy;
  log.ariaBusy = String(busy); // a screen reader hears the answer once, whole
  ready();
}

function ready() { $("send").disabled = !input.value.trim(); }

// ---- talking to the server -----------------------------------------------------------------

async function post(path, body, signal) {
  const response = await fetch(path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
    signal,
  });
  if (!response.ok) throw new Error((await response.json().catch(() => ({}))).error ?? `The server answered ${response.status}.`);
  return response;
}

// Server-sent events out of a POST, which EventSource cannot send.
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const blocks = (buffer + value).split("\n\n");
    buffer = blocks.pop();
    for (const block of blocks) {
      const [, name, data] = block.match(/^event: (\w+)\ndata: (.*)$/);
      yield [name, JSON.parse(data)];
    }
  }
}

async function ask(question) {
  const own = (stream = new AbortController());
  const view = turnView({ question, answer: "", status: "running", error: "" });
  const began = era;
  shown = "";
  $("welcome").hidden = true;
  log.append(...view.nodes);
  toEnd();
  setBusy(true);
  announce("Answering");
  let sent = false, ended = null;
  try {
    for await (const [name, data] of events(await post("/chat", { message: question }, own.signal))) {
      sent = true;
      if (name === "token") view.write(data);
      else if (name === "session") showPanel(data);
      else ended = data;
    }
    if (!ended) throw new Error("The connection was lost.");
    view.end(ended.status, ended.error);
    showPanel(ended.session);
    announce(ended.error || "Answer complete");
  } catch (error) {
    if (own.signal.aborted) view.end("stopped");
    else view.end("error", explain(error));
    announce(own.signal.aborted ? "Stopped" : explain(error));
    if (!sent && !own.signal.aborted && !input.value) input.value = question;
  } finally {
    if (stream === own) stream = null;
    setBusy(stream !== null);
  }
  // The server may have written a few words more than arrived here: what it keeps is what counts,
  // as soon as it has noticed that we left.
  if (sent && !ended && began === era) refresh(true);
}

function explain(error) {
  return error instanceof TypeError ? "The server cannot be reached. Is it still running?" : error.message;
}

async function refresh(onlyWhenStill = false) {
  clearTimeout(polling);
  if (stream) return;
  const began = era;
  try {
    const state = await (await fetch("/history", { cache: "no-store" })).json();
    if (stream || began !== era) return;
    $("model").textContent = state.model === "built-in" ? "built-in model" : state.model;
    const running = state.turns.some((turn) => turn.status === "running");
    if (!(running && onlyWhenStill)) show(state);
    // Another tab is being answered, or the server has not noticed yet that we left.
    if (running) polling = setTimeout(refresh, 300, onlyWhenStill);
  } catch (error) {
    announce(explain(error));
  }
}

// ---- what the user does --------------------------------------------------------------------

function submit() {
  const question = input.value.trim();
  if (!question || stream) return;
  input.value = "";
  fit();
  ask(question);
}

// For browsers without field-sizing.
function fit() {
  if (!CSS.supports("field-sizing", "content")) {
    input.style.height = "auto";
    input.style.height = `${input.scrollHeight}px`;
  }
  ready();
}

form.addEventListener("submit", (event) => { event.preventDefault(); submit(); });
input.addEventListener("input", fit);
input.addEventListener("keydown", (event) => {
  // Enter sends, but not while an input method composes, and on a touch keyboard it breaks the line.
  const touch = matchMedia("(pointer: coarse)").matches;
  if (event.key !== "Enter" || event.shiftKey || event.isComposing || touch) return;
  event.preventDefault();
  submit();
});
$("stop").addEventListener("click", () => { stream?.abort(); input.focus(); });
$("ideas").addEventListener("click", (event) => {
  const idea = event.target.closest(".idea");
  if (idea && !stream) ask(idea.textContent);
});
$("new").addEventListener("click", async () => {
  stream?.abort();
  stream = null;
  clearTimeout(polling);
  era += 1;
  try {
    show(await (await post("/new", {})).json());
    announce("New chat");
  } catch (error) {
    announce(explain(error));
  }
  input.focus();
});
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
setInterval(tick, 1000);

setBusy(false);
await refresh();
toEnd();
if (!matchMedia("(pointer: coarse)").matches) input.focus();
