// A prediction's answer as Markdown. While it runs it is watched: its text grows in place, and when it ends the page's
// figures are asked for again.

import { showMarkdown } from "./answer.js";
import { LiveFigures } from "./figures.js";

const texts = new WeakMap();

function show(place, text) {
  texts.set(place, text);
  place.classList.remove("plain");
  showMarkdown(place, text);
}

function begin() {
  const answer = document.getElementById("answer");
  if (!answer) return;
  for (const place of answer.children) {
    const text = place.textContent;
    place.replaceChildren();
    show(place, text);
  }
  if (answer.dataset.events) watch(answer);
}

function watch(answer) {
  const source = new EventSource(answer.dataset.events);
  const figures = new LiveFigures(document.querySelector(".metrics"));
  // Whoever connects (again) is told everything from the beginning.
  source.addEventListener("begin", (event) => {
    figures.begin(JSON.parse(event.data).age_ms);
    for (const place of answer.children) texts.set(place, "");
  });
  source.addEventListener("started", (event) => {
    const { prompt_tokens: promptTokens, running_ms: runningMs } = JSON.parse(event.data);
    figures.started(promptTokens, runningMs);
    showProcessing();
  });
  source.addEventListener("text", (event) => {
    const { choice, text, tokens } = JSON.parse(event.data);
    figures.text(choice, tokens);
    const place = placeOf(answer, choice);
    show(place, texts.get(place) + text);
  });
  source.addEventListener("end", () => finish(source, answer, figures));
  source.addEventListener("error", () => {
    if (source.readyState === EventSource.CLOSED) finish(source, answer, figures);
  });
}

function finish(source, answer, figures) {
  source.close();
  figures.stop();
  answer.removeAttribute("aria-busy");
  document.body.dispatchEvent(new Event("corral:end"));
}

function placeOf(answer, choice) {
  while (answer.children.length <= choice) {
    const place = answer.lastElementChild.cloneNode();
    place.dataset.choice = answer.children.length;
    texts.set(place, "");
    answer.append(place);
  }
  return answer.children[choice];
}

function showProcessing() {
  const badge = document.querySelector("#status .badge-starting");
  if (!badge) return;
  badge.className = "badge badge-processing";
  badge.textContent = "processing";
}

document.body.addEventListener("htmx:afterSwap", (event) => {
  if (event.detail.target.id === "now") begin();
});
begin();
