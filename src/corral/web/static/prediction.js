// A prediction that runs, watched: its text grows in place, and when it ends the page's figures are asked for again.

const answer = document.querySelector("#answer[data-events]");
if (answer) watch(answer);

function watch(answer) {
  const source = new EventSource(answer.dataset.events);
  // Whoever connects (again) is told everything from the beginning.
  source.addEventListener("begin", () => {
    for (const place of answer.children) place.textContent = "";
  });
  source.addEventListener("text", (event) => {
    const { choice, text } = JSON.parse(event.data);
    placeOf(answer, choice).append(text);
    showProcessing();
  });
  source.addEventListener("end", () => finish(source, answer));
  source.addEventListener("error", () => {
    if (source.readyState === EventSource.CLOSED) finish(source, answer);
  });
  document.body.addEventListener("htmx:beforeSwap", (event) => {
    if (event.detail.target.id === "now") source.close();
  });
}

function finish(source, answer) {
  source.close();
  answer.removeAttribute("aria-busy");
  document.body.dispatchEvent(new Event("corral:end"));
}

function placeOf(answer, choice) {
  while (answer.children.length <= choice) {
    const place = answer.lastElementChild.cloneNode();
    place.dataset.choice = answer.children.length;
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
