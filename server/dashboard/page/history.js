// What the figures were while this page was open: the charts' data. The server keeps none for us.

const KEPT_SECONDS = 30 * 60;
const GAP_SECONDS = 8;

export class History {
  constructor() {
    this.times = [];
    this.series = {};
    this.began = null;
  }

  /** Take in the figures of an instant; where one is not known its line has a gap. */
  add(body) {
    if (body.started_unix_seconds !== this.began) this.clear();
    this.began = body.started_unix_seconds;
    const at = body.at_unix_seconds;
    const last = this.times.at(-1);
    if (last !== undefined && at <= last) return;
    if (last !== undefined && at - last > GAP_SECONDS) this.push(last + 0.001, {});
    this.push(at, figuresOf(body));
    while (at - this.times[0] > KEPT_SECONDS) {
      this.times.shift();
      for (const values of Object.values(this.series)) values.shift();
    }
  }

  /** uPlot's columns: times, then these series. */
  columns(names) {
    return [this.times, ...names.map((name) => this.series[name] ?? this.times.map(() => null))];
  }

  clear() {
    this.times = [];
    this.series = {};
  }

  push(at, figures) {
    for (const name of Object.keys(figures)) this.series[name] ??= this.times.map(() => null);
    this.times.push(at);
    for (const [name, values] of Object.entries(this.series)) values.push(figures[name] ?? null);
  }
}

function figuresOf(body) {
  return {
    power: totalWatts(body),
    lastMinute: body.joules_per_output_token.last_minute,
    sinceStart: body.joules_per_output_token.since_start,
    running: sum(body.workers.map((worker) => worker.running_requests)),
    waiting: sum(Object.values(body.queue_requests)) + sum(body.workers.map((worker) => worker.waiting_requests)),
  };
}

/** All components together, null where nothing is known. */
export function totalWatts(body) {
  const known = Object.values(body.power_watts).filter((value) => value !== null);
  return known.length > 0 ? sum(known) : null;
}

export const sum = (values) => values.reduce((total, value) => total + value, 0);
