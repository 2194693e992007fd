// The page of the demo. What anybody typed or a model wrote enters the document as textContent
// only; the conversation itself lives in the session, this file merely shows it.

import { account } from "./account.js";

const $ = (id) => document.getElementById(id);
const scroll = $("scroll"), log = $("log"), form = $("form"), input = $("message"), confirmation = $("confirm");
const LIMIT = Number(input.dataset.limit); // characters of a message, the server's own bound
const OVER = "The conversation that stood here has ended: the session expired or was logged out, a new chat was begun in " +
  "another tab, or the server was started anew. Your next message begins a new one.";
const tabs = new BroadcastChannel("chat"); // our other tabs have the same session

let stream = null; // the AbortController of the answer being read
let polling = 0, looks = 0; // of several looks at the server the last one counts
let era = 0; // counts new chats: what was asked for in an earlier one is not shown any more
let views = [], panel = null, panelAt = 0;

// ---- what is shown -------------------------------------------------------------------------

function element(tag, className, text = "") {
  const node = document.createElement(tag);
  node.className = className;
  node.textContent = text;
  return node;
}

function words(text = "") {
  const node = element("span", "text", text);
  node.dir = "auto";
  return node;
}

function turnView({ question, answer, status, error }) {
  const you = element("article", "bubble you"), reply = element("article", "bubble answer");
  const text = words(), note = element("span", "note");
  you.append(element("span", "unseen", "You: "), words(question));
  reply.append(element("span", "unseen", "Answer: "), text, note);
  const view = {
    question,
    nodes: [you, reply],
    remove() { for (const node of view.nodes) node.remove(); },
    write(piece) { following(() => text.append(piece)); },
    end(status, error = "") {
      if (reply.dataset.status === status && status !== "error") return;
      reply.dataset.status = status;
      following(() => { note.textContent = status === "error" ? error : status === "stopped" ? "Stopped" : ""; });
    },
    // Only what is new is written: a screen reader reads it, and what the reader marked stays marked.
    update(turn) {
      const old = text.textContent;
      if (turn.status === "running" && view.left) return; // the server has not noticed yet that we left
      if (turn.answer.startsWith(old)) { if (turn.answer !== old) view.write(turn.answer.slice(old.length)); }
      else text.textContent = turn.answer;
      view.end(turn.status, turn.error);
    },
  };
  view.write(answer);
  view.end(status, error);
  return view;
}

// Keep the newest line in sight, unless the reader scrolled up to read something else.
function following(change) {
  const atEnd = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 60;
  change();
  if (atEnd) toEnd();
}

function toEnd() { scroll.scrollTop = scroll.scrollHeight; }

function add(turn) {
  const view = turnView(turn);
  views.push(view);
  following(() => { log.append(...view.nodes); $("welcome").hidden = true; });
  return view;
}

// Show the first `kept` turns only.
function cut(kept) {
  for (const view of views.splice(kept)) view.remove();
  $("welcome").hidden = views.length > 0;
}

function show({ turns, session }) {
  showPanel(session);
  const same = views.findIndex((view, at) => view.question !== turns[at]?.question);
  cut(same < 0 ? turns.length : same);
  turns.forEach((turn, at) => views[at] ? views[at].update(turn) : add(turn));
  setBusy(turns.some((turn) => turn.status === "running"));
  $("welcome").hidden = turns.length > 0;
}

// Whatever session the server tells of that is not the one on the page: that one is gone.
function showPanel(session) {
  const over = panel !== null && session?.id !== panel.id;
  if (over) notify(OVER, "over");
  panel = session;
  panelAt = performance.now();
  $("session").hidden = !session;
  $("no-session").hidden = Boolean(session);
  if (session) {
    $("session-id").textContent = $("session-id").title = session.id;
    $("session-turns").textContent = session.turns;
    $("session-bytes").textContent = size(session.bytes);
    tick();
  }
  return over;
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

// Say something for all to see until it is over; `about` tells which notices a later event makes untrue.
function notify(text, about) {
  const notice = $("notice");
  if (notice.textContent !== text) notice.textContent = text;
  notice.dataset.about = about;
  notice.hidden = false;
}

function unsay(about) {
  if ($("notice").dataset.about === about) $("notice").hidden = true;
}

function setBusy(busy) {
  $("stop").hidden = !stream;
  log.ariaBusy = String(busy); // a screen reader hears the answer once, whole
  ready();
}

function ready() {
  const over = [...input.value.trim()].length - LIMIT;
  const text = over > 0 ? `The message is ${over.toLocaleString("en")} characters too long; ${LIMIT.toLocaleString("en")} can be sent.` : "";
  if ($("too-long").textContent !== text) $("too-long").textContent = text;
  $("too-long").hidden = !text;
  input.ariaInvalid = String(over > 0);
  $("send").disabled = Boolean(stream) || !input.value.trim() || over > 0;
}

// ---- talking to the server -----------------------------------------------------------------

async function call(path, options) {
  const response = await fetch(path, { cache: "no-store", ...options });
  if (!response.ok) throw new Error((await response.json().catch(() => ({}))).error ?? `The server answered ${response.status}.`);
  return response;
}

function post(path, body, signal) {
  const headers = { "content-type": "application/json" };
  return call(path, { method: "POST", headers, body: JSON.stringify(body), signal });
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
  const view = add({ question, answer: "", status: "running", error: "" });
  const began = era;
  toEnd();
  setBusy(true);
  unsay("over");
  unsay("fault");
  announce("Answering");
  let sent = false, ended = null;
  try {
    for await (const [name, data] of events(await post("/chat", { message: question }, own.signal))) {
      if (own.signal.aborted) break; // what had come already is not shown after Stop or New chat
      if (name === "token") view.write(data);
      else if (name === "end") ended = data;
      else if (showPanel(data)) forget(view);
      if (!sent) tabs.postMessage("asked");
      sent = true;
    }
    if (own.signal.aborted) throw own.signal.reason;
    if (!ended) throw new Error("The connection was lost.");
    view.end(ended.status, ended.error);
    showPanel(ended.session);
    announce(ended.error || "Answer complete");
  } catch (error) {
    const stopped = own.signal.aborted, reason = stopped ? "Stopped" : explain(error);
    view.left = true;
    if (sent) view.end(stopped ? "stopped" : "error", reason);
    else if (began === era) giveBack(view, stopped ? "" : reason);
    announce(reason);
  } finally {
    if (stream === own) stream = null;
    setBusy(stream !== null);
  }
  tabs.postMessage("answered");
  // The server may have written a few words more than arrived here: what it keeps is what counts.
  if (began === era) await refresh();
}

// The conversation before this turn is gone: nothing of it is context of the answer.
function forget(view) {
  for (const old of views) if (old !== view) old.remove();
  views = [view];
}

// The server did not take the question: it is no turn, and the user's to send again.
function giveBack(view, reason) {
  if (views.includes(view)) cut(views.indexOf(view));
  input.value = [view.question, input.value].filter(Boolean).join("\n");
  fit();
  if (reason) notify(reason, "fault");
}

function explain(error) {
  return error instanceof TypeError ? "The server cannot be reached. Is it still running?" : error.message;
}

async function refresh() {
  clearTimeout(polling);
  if (stream) return;
  const look = ++looks;
  try {
    const state = await (await call("/history")).json();
    if (stream || look !== looks) return;
    $("model").textContent = state.model === "built-in" ? "built-in model" : state.model;
    show(state);
    showAccount(state);
    unsay("away");
    // Another tab is being answered, or the server has not noticed yet that we left.
    if (state.turns.some((turn) => turn.status === "running")) polling = setTimeout(refresh, 500);
  } catch (error) {
    if (!stream && look === looks) notify(explain(error), "away");
  }
}

// ---- what the user does --------------------------------------------------------------------

function submit() {
  ready();
  if ($("send").disabled) return;
  const question = input.value.trim();
  input.value = "";
  fit();
  input.focus();
  ask(question);
}

function stop() {
  stream?.abort();
  input.focus();
}

// End our session, by a new chat or by a logout.
async function leave(path, body, said = "Logged out") {
  stream?.abort();
  stream = null;
  clearTimeout(polling);
  era += 1;
  looks += 1;
  try {
    await post(path, body);
    panel = null; // we end it ourselves, that is no news
    show({ turns: [], session: null });
    $("notice").hidden = true;
    announce(said);
    tabs.postMessage("new");
    await refresh();
  } catch (error) {
    notify(explain(error), "fault");
  }
  input.focus();
}

const startAnew = () => leave("/new", {}, "New chat");

// Change who is logged in, or where. What an answer that runs writes after a login is dropped: it stops before.
async function change(path, body) {
  const news = path === "/login" ? "login" : "account";
  if (news === "login") stream?.abort();
  try {
    await post(path, body);
    unsay("fault");
    tabs.postMessage(news);
  } catch (error) {
    notify(explain(error), "fault");
  }
  await refresh();
}

const showAccount = account({ change, leave, ago: age });

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
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && stream && !event.isComposing && !confirmation.open) stop();
});
$("stop").addEventListener("click", stop);
$("ideas").addEventListener("click", (event) => {
  const idea = event.target.closest(".idea");
  if (idea && !stream) ask(idea.textContent);
});
$("new").addEventListener("click", () => {
  if (panel || views.length) confirmation.showModal();
  else startAnew();
});
$("keep").addEventListener("click", () => confirmation.close());
$("delete").addEventListener("click", () => { confirmation.close(); startAnew(); });
tabs.addEventListener("message", ({ data }) => {
  if (data === "new" || data === "login") stream?.abort(); // the session of this answer is gone, or has another cookie
  refresh();
});
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
addEventListener("focus", refresh);
// What no other tab tells of: an end by the clock, by the server, or by an administrator. While the page is in sight
// this keeps its session from idling out.
setInterval(() => { if (!document.hidden) refresh(); }, 10_000);
setInterval(tick, 1000);

setBusy(false);
await refresh();
toEnd();
if (!matchMedia("(pointer: coarse)").matches) input.focus();
