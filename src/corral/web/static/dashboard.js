// What the dashboard adds to its pages where scripts run: charts, figures that renew themselves, buttons that copy.
// Every page is whole without it. Needs uPlot, which is loaded before it.

const TICK_MS = 2000;
const COLOURS = 6;

function css(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

// 1. Time. One beat for all that renews itself; none while nobody looks.

setInterval(() => {
  if (document.visibilityState === "visible") document.body.dispatchEvent(new Event("corral:tick"));
}, TICK_MS);

// 2. Usage of each day, as bars on top of each other.

const drawn = new Set();

function drawChart(place) {
  const { measure, days, series } = JSON.parse(place.dataset.chart);
  place.replaceChildren();
  if (series.length === 0) return null;
  const heights = stacked(series.map((each) => each.values));
  const positions = days.map((_, index) => index);
  const bars = uPlot.paths.bars({ size: [0.7, 48] });
  // The highest stack is drawn first, so that each bar shows what is above the one that is drawn over it.
  const order = series.map((_, index) => index).reverse();
  const options = {
    width: place.clientWidth,
    height: place.clientHeight,
    legend: { show: false },
    cursor: { show: false },
    scales: { x: { time: false, range: [-0.5, days.length - 0.5] }, y: { range: (_, __, most) => [0, most * 1.05 || 1] } },
    axes: [
      axis({ values: (_, ticks) => ticks.map((tick) => (Number.isInteger(tick) ? days[tick]?.slice(5) : "")), space: 56, size: 32 }),
      axis({ values: (_, ticks) => ticks.map((tick) => spelt(tick, measure)), size: 72 }),
    ],
    series: [
      {},
      ...order.map((index) => ({
        label: series[index].label,
        paths: bars,
        points: { show: false },
        fill: css(`--series-${index % COLOURS}`),
        stroke: css("--panel"),
        width: 1,
      })),
    ],
  };
  return new uPlot(options, [positions, ...order.map((index) => heights[index])], place);
}

function stacked(rows) {
  const below = rows[0].map(() => 0);
  return rows.map((row) => row.map((value, day) => (below[day] += value)));
}

function axis(more) {
  return {
    stroke: css("--muted"),
    font: "12px system-ui, sans-serif",
    grid: { stroke: css("--line"), width: 1 },
    ticks: { show: false },
    ...more,
  };
}

function spelt(number, measure) {
  if (measure === "cost") return "$" + Number(number.toPrecision(6));
  return number.toLocaleString("en", { notation: "compact" });
}

// 3. Tokens per second of the last minute.

function drawSpark(place) {
  const rates = JSON.parse(place.dataset.spark);
  const seconds = 60;
  const padded = [...Array(Math.max(0, seconds - rates.length)).fill(null), ...rates];
  const options = {
    width: place.clientWidth,
    height: place.clientHeight,
    legend: { show: false },
    cursor: { show: false },
    scales: { x: { time: false }, y: { range: (_, __, most) => [0, Math.max(most, 1) * 1.1] } },
    axes: [{ show: false }, axis({ values: (_, ticks) => ticks.map((tick) => spelt(tick, "tokens")), size: 48, space: 24 })],
    series: [{}, { stroke: css("--series-0"), fill: css("--series-0-soft"), width: 2, points: { show: false } }],
  };
  place.replaceChildren();
  return new uPlot(options, [padded.map((_, second) => second - seconds), padded], place);
}

function draw() {
  for (const plot of drawn) plot.destroy();
  drawn.clear();
  for (const place of document.querySelectorAll("[data-chart]")) keep(drawChart(place));
  for (const place of document.querySelectorAll("[data-spark]")) keep(drawSpark(place));
}

function keep(plot) {
  if (plot) drawn.add(plot);
}

// Anew in other colours and other widths, and where htmx has put a new part.

let width = window.innerWidth;
window.addEventListener("resize", () => {
  if (window.innerWidth !== width) draw();
  width = window.innerWidth;
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
document.addEventListener("corral:theme", draw);
document.body.addEventListener("htmx:afterSwap", () => {
  for (const plot of drawn) if (!plot.root.isConnected) drawn.delete(plot);
  for (const place of document.querySelectorAll("[data-spark]")) if (!place.firstChild) keep(drawSpark(place));
});
draw();
