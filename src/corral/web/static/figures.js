// The figures of a run while it goes on: they count by themselves, as far as they are known before its end.

const TICK_MS = 250;
const UNKNOWN = "–";

/** The figures in *list*, a ``dl``: written by name, from the events of ``/p/{id}/events``. */
export class LiveFigures {
  constructor(list) {
    this.places = new Map([...list.querySelectorAll("dt")].map((name) => [name.textContent, name.nextElementSibling]));
    this.stop();
  }

  /** Begin to watch a run that is *ageMs* old; everything that was told of it is told again. */
  begin(ageMs) {
    this.stop();
    this.createdAt = performance.now() - ageMs;
  }

  /** The engine took the run in *runningMs* ago. */
  started(promptTokens, runningMs) {
    this.startedAt = performance.now() - runningMs;
    this.#put("Input tokens", promptTokens.toLocaleString("en"));
    // Not at once: what was there before a reload comes first, and figures must not jump back to nothing.
    this.timer ??= setInterval(() => this.#tick(), TICK_MS);
  }

  /** Choice *choice* has *tokens* tokens so far. */
  text(choice, tokens) {
    if (this.tokens.size === 0 && this.places.get("First token after")?.textContent === UNKNOWN) {
      this.#put("First token after", seconds(performance.now() - this.createdAt));
    }
    this.tokens.set(choice, tokens);
  }

  /** Count no further: the run is over, or another one is shown. */
  stop() {
    clearInterval(this.timer);
    Object.assign(this, { timer: null, createdAt: performance.now(), startedAt: null, tokens: new Map() });
  }

  #tick() {
    const elapsedMs = performance.now() - this.startedAt;
    const tokens = [...this.tokens.values()].reduce((sum, each) => sum + each, 0);
    this.#put("Generated in", seconds(elapsedMs));
    if (tokens === 0) return;
    this.#put("Output tokens", tokens.toLocaleString("en"));
    this.#put("Tokens per second", `${rate((1000 * tokens) / elapsedMs)} tokens / second`);
  }

  #put(name, text) {
    const place = this.places.get(name);
    if (place) place.textContent = text;
  }
}

function seconds(ms) {
  return `${(Math.max(0, ms) / 1000).toFixed(2)} s`;
}

function rate(perSecond) {
  return perSecond.toLocaleString("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
}
