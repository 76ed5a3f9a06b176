// The playground: asks, shows the answer as it comes, stops, and finds a run again after a reload or a lost connection.

import { clear, showMarkdown } from "./answer.js";
import { LiveFigures } from "./figures.js";

const RETRY_MS = [500, 1000, 2000, 4000, 5000];
const form = document.getElementById("ask");
const at = (id) => document.getElementById(id);
const { model } = form.dataset;
const draftKey = `draft:${model}`;
const csrf = document.querySelector('meta[name="csrf-token"]')?.content ?? "";

const live = new LiveFigures(at("figures"));
const run = { id: form.dataset.prediction, text: "", source: null, tries: 0, asked: "", unwanted: false };
let turns = JSON.parse(form.elements.turns.value || "[]");

// 1. What is shown.

function tell(sentence, bad = false) {
  at("told").textContent = sentence;
  at("told").classList.toggle("bad", bad);
}

/** Tell how the run goes; while it is to be stopped, that is what is told. */
function say(sentence, bad = false) {
  if (!run.unwanted) tell(sentence, bad);
}

function busy(on) {
  at("answer").setAttribute("aria-busy", String(on));
  form.classList.toggle("running", on);
  if (!at("run")) return;
  // Focus must not fall out of the page when the button that has it goes.
  const [goes, comes] = on ? [at("run"), at("stop")] : [at("stop"), at("run")];
  const focused = document.activeElement === goes;
  comes.hidden = false;
  goes.hidden = true;
  if (focused) comes.focus({ preventScroll: true });
}

let drawing = false;
function draw() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    const screen = at("screen");
    const follows = screen.scrollHeight - screen.scrollTop - screen.clientHeight < 40;
    showMarkdown(at("answer"), run.text);
    if (follows) screen.scrollTop = screen.scrollHeight;
  });
}

function figures(values) {
  [...at("figures").querySelectorAll("dd")].forEach((place, index) => (place.textContent = values[index] ?? "–"));
}

function drawTurns() {
  const said = at("said");
  const asked = run.asked ? [{ role: "user", content: run.asked }] : [];
  const items = mode() === "chat" ? [...turns, ...asked] : [];
  said.hidden = items.length === 0;
  said.replaceChildren(
    ...items.map(({ role, content }) => {
      const item = document.createElement("li");
      item.className = `turn turn-${role}`;
      const who = document.createElement("span");
      who.className = "who";
      who.textContent = role === "user" ? "You" : model.split("/")[1];
      const words = document.createElement("div");
      words.className = "words";
      words.dir = "auto";
      if (role === "user") words.textContent = content;
      else showMarkdown(words, content);
      item.append(who, words);
      return item;
    }),
  );
}

function faults(found) {
  for (const place of form.querySelectorAll(".fault")) {
    place.hidden = true;
    place.textContent = "";
  }
  for (const control of form.querySelectorAll("[aria-invalid]")) control.removeAttribute("aria-invalid");
  let firstFault = null;
  for (const [name, message] of Object.entries(found)) {
    const place = at(`fault-${name}`) ?? at("fault-form");
    place.textContent = message;
    place.hidden = false;
    const control = at(`in-${name}`);
    control?.setAttribute("aria-invalid", "true");
    firstFault ??= control;
  }
  firstFault?.focus();
}

function view(json) {
  at("answer").hidden = json;
  at("said").classList.toggle("away", json);
  at("json").hidden = !json;
  at("show-preview").setAttribute("aria-pressed", String(!json));
  at("show-json").setAttribute("aria-pressed", String(json));
}

// 2. Asking.

const mode = () => form.elements.mode.value;

async function ask() {
  if (form.classList.contains("running") || !at("run")) return;
  form.elements.turns.value = turns.length ? JSON.stringify(turns) : "";
  const body = new URLSearchParams(new FormData(form));
  body.set("once", [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join(""));
  faults({});
  Object.assign(run, { id: "", unwanted: false });
  busy(true);
  tell("Sending…");
  const answer = await send(`/${model}/run`, body);
  if (!answer) return;
  if (answer.faults) {
    busy(false);
    tell(answer.faults[""] ?? "Something in the form does not fit.", true);
    return faults(answer.faults);
  }
  begin(answer.id);
  if (run.unwanted) await cancel();
}

function begin(id) {
  Object.assign(run, { id, text: "", tries: 0, asked: form.elements.prompt.value });
  history.replaceState(null, "", `?prediction=${id}`);
  at("of-example")?.classList.add("gone");
  clear(at("answer"));
  drawTurns();
  figures([]);
  at("json").textContent = "";
  if (mode() === "chat") form.elements.prompt.value = "";
  // In one column the answer would come below what is in sight.
  const below = at("screen").getBoundingClientRect().top > innerHeight * 0.5;
  if (below && matchMedia("(max-width: 61.99rem)").matches) at("output-heading").scrollIntoView();
  watch();
}

/** Post, again and again while there is no answer at all; *once* in the body makes one run of it. */
async function send(path, body) {
  const headers = { accept: "application/json", "x-csrf-token": csrf };
  for (let tries = 0; form.classList.contains("running"); tries += 1) {
    try {
      const answer = await fetch(path, { method: "POST", headers, body });
      if (answer.headers.get("content-type")?.startsWith("application/json")) return await answer.json();
      refused(answer.status);
      return null;
    } catch {
      if (run.unwanted) {
        busy(false);
        tell("The server cannot be reached. If it got the question, the answer is among your predictions.", true);
        return null;
      }
      tell("The server cannot be reached. Trying again…", true);
      await pause(tries);
    }
  }
  return null;
}

function refused(status) {
  busy(false);
  if (status === 401 || status === 403) tell("You are not signed in any more. Load the page again, and sign in.", true);
  else tell(`The server refused, with status ${status}. Load the page again.`, true);
}

const pause = (tries) => new Promise((done) => setTimeout(done, RETRY_MS[Math.min(tries, RETRY_MS.length - 1)]));

// 3. Watching. Each connection tells everything from the beginning, so there is nothing to catch up.

function watch() {
  run.source?.close();
  live.stop();
  busy(true);
  const source = new EventSource(`/p/${run.id}/events`);
  run.source = source;
  at("permalink").href = `/p/${run.id}`;
  at("permalink").hidden = false;
  source.addEventListener("begin", (event) => {
    run.text = "";
    run.tries = 0;
    live.begin(JSON.parse(event.data).age_ms);
    say("Waiting for the model…");
  });
  source.addEventListener("started", (event) => {
    const { prompt_tokens: promptTokens, running_ms: runningMs } = JSON.parse(event.data);
    live.started(promptTokens, runningMs);
  });
  source.addEventListener("queued", (event) => {
    const queued = JSON.parse(event.data);
    const why = queued.recovering ? " The engine recovers from a crash." : "";
    say(`Waiting: place ${queued.position} in the queue.${why}`);
  });
  source.addEventListener("text", (event) => {
    const { choice, text, tokens } = JSON.parse(event.data);
    live.text(choice, tokens);
    if (choice !== 0) return;
    if (!run.text) say("The answer is coming…");
    run.text += text;
    draw();
  });
  source.addEventListener("end", () => {
    source.close();
    conclude();
  });
  source.addEventListener("error", () => {
    source.close();
    if (run.source === source) lost();
  });
}

async function lost() {
  live.stop();
  say("The connection is lost. Trying again; the run goes on meanwhile…", true);
  await pause(run.tries);
  run.tries += 1;
  if (!form.classList.contains("running")) return;
  await conclude();
}

/** Ask what became of the run; watch again if it goes on. */
async function conclude() {
  const id = run.id;
  try {
    const answer = await fetch(`/run/${id}`, { headers: { "hx-request": "true" } });
    if (run.id !== id) return;
    if (answer.status === 503 || answer.status === 429) return await lost();
    if (!answer.ok) return refused(answer.status);
    const told = await answer.json();
    if (!told.over) return run.tries ? watch() : await lost();
    conclusion(told);
  } catch {
    say("The server cannot be reached. Trying again; the run goes on as soon as it is back…", true);
    await pause(run.tries);
    run.tries += 1;
    if (form.classList.contains("running") && run.id === id) await conclude();
  }
}

function conclusion(told) {
  busy(false);
  live.stop();
  sessionStorage.removeItem(unwantedKey(told.id));
  run.unwanted = false;
  figures(told.figures);
  at("json").textContent = told.json;
  if (told.text !== null) run.text = told.text;
  draw();
  if (told.status === "failed") tell(told.error ?? "It failed.", true);
  else if (told.status === "canceled") tell("Canceled.");
  else tell("Done.");
  if (mode() === "chat" && run.asked && told.status === "failed") {
    // Nothing was answered, so nothing was said: the message is there to be sent again.
    form.elements.prompt.value ||= run.asked;
    run.asked = "";
    drawTurns();
  } else if (mode() === "chat" && run.asked) {
    // The answer is a turn now; what comes next is asked after it.
    const answer = run.text.trim();
    turns = [...turns, { role: "user", content: run.asked }, { role: "assistant", content: answer }];
    run.asked = "";
    run.text = "";
    drawTurns();
    clear(at("answer"));
    at("screen").scrollTop = at("screen").scrollHeight;
  }
}

async function stop() {
  if (run.unwanted) return;
  run.unwanted = true;
  tell("Stopping…");
  // Without a name it may have begun all the same: it is stopped as soon as its name is known.
  if (run.id) await cancel();
}

const unwantedKey = (id) => `unwanted:${id}`;

/** Cancel the run, again and again until the server has it: also after a reload of the page. */
async function cancel() {
  const { id } = run;
  sessionStorage.setItem(unwantedKey(id), "yes");
  const headers = { accept: "application/json", "x-csrf-token": csrf, "content-type": "application/x-www-form-urlencoded" };
  // Not by ``disabled``, which would drop the focus.
  at("stop").setAttribute("aria-disabled", "true");
  for (let tries = 0; run.id === id && form.classList.contains("running"); tries += 1) {
    try {
      const answer = await fetch(`/run/${id}/cancel`, { method: "POST", headers });
      if (answer.ok) break;
      if (answer.status === 401 || answer.status === 403 || answer.status === 404) {
        run.source?.close();
        refused(answer.status);
        break;
      }
      tell("The server is busy. The run is stopped as soon as it answers…", true);
    } catch {
      tell("The server cannot be reached. The run is stopped as soon as it is back…", true);
    }
    await pause(tries);
  }
  at("stop").removeAttribute("aria-disabled");
}

function reset() {
  run.source?.close();
  sessionStorage.removeItem(draftKey);
  location.assign(`/${model}`);
}

// 4. Keys, sliders, the form in other hands.

form.addEventListener("submit", (event) => {
  if (event.submitter?.id === "as-code") return;
  event.preventDefault();
  ask();
});
const byTouch = matchMedia("(pointer: coarse)");
form.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.target.tagName !== "TEXTAREA") return;
  if (byTouch.matches) return; // a keyboard on the screen has no Shift and Return: Return is a new line
  event.preventDefault();
  ask();
});
form.addEventListener("input", (event) => {
  const slid = event.target.dataset.slides;
  if (slid) at(slid).value = event.target.value;
  showOnSlider(event.target);
  keepDraft();
});
document.addEventListener("change", (event) => {
  if (event.target.name === "mode") {
    form.dataset.mode = mode();
    drawTurns();
    keepDraft();
  }
});
at("stop")?.addEventListener("click", stop);
at("reset").addEventListener("click", reset);
at("show-preview").addEventListener("click", () => view(false));
at("show-json").addEventListener("click", () => view(true));

/** The page with code asks for what stands in the form. */
function keepDraft() {
  form.elements.turns.value = turns.length ? JSON.stringify(turns) : "";
  const draft = new URLSearchParams(new FormData(form));
  draft.delete("csrf");
  sessionStorage.setItem(draftKey, draft.toString());
}

/** What was typed before another page was looked at. */
function takeDraft() {
  const draft = new URLSearchParams(sessionStorage.getItem(draftKey) ?? "");
  for (const control of form.querySelectorAll("[data-control] [name]")) {
    if (control.type === "checkbox") control.checked = draft.has(control.name);
    else if (draft.has(control.name)) control.value = draft.get(control.name);
    showOnSlider(control);
  }
  form.elements.mode.value = draft.get("mode") ?? mode();
  form.dataset.mode = mode();
  turns = JSON.parse(draft.get("turns") || "[]");
  if (turns.length === 0) return;
  clear(at("answer"));
  drawTurns();
}

function showOnSlider(control) {
  const slider = form.querySelector(`[data-slides="${control.id}"]`);
  if (slider) slider.value = control.value || slider.min;
}

// 5. A page that was loaded while its run goes on, while its answer is a turn of a chat, or on the way back.

if (!location.search && sessionStorage.getItem(draftKey)) takeDraft();
if (form.dataset.prediction) {
  run.asked = mode() === "chat" ? form.elements.prompt.value : "";
  if (form.dataset.over === "no") {
    if (run.asked) form.elements.prompt.value = "";
    drawTurns();
    clear(at("answer"));
    watch();
    if (sessionStorage.getItem(unwantedKey(run.id))) stop();
  } else if (run.asked) {
    form.elements.prompt.value = "";
    conclude();
  }
}
keepDraft();
form.dataset.ready = "yes";
