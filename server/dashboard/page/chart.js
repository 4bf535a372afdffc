// One uPlot chart of the last minutes. Colours come from the page's style, so that a theme holds for it too.

import { byId } from "./dom.js";
import { clock } from "./format.js";

const FONT = "11px system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', sans-serif";
const SYNC = "wattline";
const LEAST_SECONDS = 30;

/** `series` are `{ name, colour, fill, dash, steps }`, colours being names of the style's variables. */
export class Chart {
  constructor(id, history, series, axisText, readout) {
    this.holder = byId(`${id}-chart`);
    this.readoutText = byId(`${id}-readout`);
    this.history = history;
    this.series = series;
    this.axisText = axisText;
    this.readout = readout;
    this.minutes = 2;
    this.index = null;
    this.plot = null;
    new ResizeObserver(() => this.resize()).observe(this.holder);
  }

  show() {
    if (this.plot === null) this.make();
    this.plot.setData(this.history.columns(this.series.map((one) => one.name)));
    this.tell();
  }

  /** As before the first figures. */
  clear() {
    this.plot?.destroy();
    this.plot = null;
    this.index = null;
    this.readoutText.textContent = "";
  }

  /** Anew, in the colours of now. */
  restyle() {
    if (this.plot === null) return;
    this.plot.destroy();
    this.plot = null;
    this.show();
  }

  resize() {
    if (this.plot !== null && this.holder.clientWidth > 0) this.plot.setSize(this.size());
  }

  size() {
    return { width: Math.max(160, this.holder.clientWidth), height: this.holder.clientHeight || 180 };
  }

  /** The values under the pointer, or else the latest. */
  tell() {
    const times = this.history.times;
    const at = this.index ?? times.length - 1;
    const values = Object.fromEntries(
      this.series.map((one) => [one.name, (this.history.series[one.name] ?? [])[at] ?? null]),
    );
    const when = this.index === null || times[at] === undefined ? "" : `${clock(times[at])} · `;
    const text = when + this.readout(values);
    if (this.readoutText.textContent !== text) this.readoutText.textContent = text;
  }

  make() {
    const grid = { stroke: colour("--grid"), width: 1 };
    const axis = { stroke: colour("--faint"), font: FONT, grid, ticks: { show: false } };
    this.plot = new uPlot(
      {
        ...this.size(),
        legend: { show: false },
        cursor: { y: false, drag: { x: false, y: false }, sync: { key: SYNC }, points: { size: 7 } },
        scales: {
          x: { time: true, range: () => this.span() },
          y: { range: (_, __, most) => [0, most > 0 ? most * 1.18 : 1] },
        },
        axes: [
          { ...axis, space: 64, size: 30, gap: 8, values: (_, splits) => splits.map((at) => this.clockText(at)) },
          { ...axis, space: 34, size: 52, values: (_, splits) => splits.map((value) => this.axisText(value)) },
        ],
        series: [{}, ...this.series.map(drawn)],
        hooks: { setCursor: [(plot) => this.point(plot)] },
      },
      this.history.columns(this.series.map((one) => one.name)),
      this.holder,
    );
  }

  point(plot) {
    this.index = plot.cursor.left >= 0 ? (plot.cursor.idx ?? null) : null;
    this.tell();
  }

  /** The last minutes, or as many of them as have been seen. */
  span() {
    const { times } = this.history;
    const last = times.at(-1) ?? Date.now() / 1000;
    const seen = last - (times[0] ?? last);
    return [last - Math.min(this.minutes * 60, Math.max(seen, LEAST_SECONDS)), last];
  }

  clockText(at) {
    return clock(at, { withSeconds: this.minutes <= 2 });
  }
}

function drawn(series) {
  return {
    stroke: colour(series.colour),
    fill: series.fill ? colour(series.fill) : undefined,
    width: series.dash ? 1.25 : 1.75,
    dash: series.dash,
    points: { show: false },
    paths: series.steps ? uPlot.paths.stepped({ align: 1 }) : undefined,
    spanGaps: false,
  };
}

/** A variable of the style as a canvas takes it: what `light-dark()` comes to. */
function colour(name) {
  const probe = document.createElement("i");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const seen = getComputedStyle(probe).color;
  probe.remove();
  return seen;
}
