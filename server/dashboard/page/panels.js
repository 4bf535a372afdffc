// The server's figures as tiles, lists and tables.

import { badge, byId, element, fillTable, meterBadge, unknown } from "./dom.js";
import { clock, count, duration, figures, joules, percent, seconds, wattHours, watts } from "./format.js";
import { sum, totalWatts } from "./history.js";

const ACCOUNTS = {
  prefill: "reading prompts",
  decode: "writing answers",
  in_flight: "requests that have not ended",
  idle: "awake, with nothing to do",
  loading: "starting workers and reading models",
  unattributed: "of nobody we know: an error if it grows",
};

export function showTiles(body) {
  const { last_minute: lastMinute, since_start: sinceStart } = body.joules_per_output_token;
  const spent = accountsOf(body);
  const total = totalOf(spent);
  const requests = body.requests;
  const parts = Object.entries(body.power_watts).map(([name, value]) => `${name} ${watts(value) ?? "not known"}`);
  byId("tiles").replaceChildren(
    tile("Power now", watts(totalWatts(body)), body.reason ?? "no worker has told yet", [
      parts.length > 1 ? parts.join(" · ") : null,
      missing(body),
      body.sources.length > 0 ? meterBadge(body.measured, body.sources.join(", ")) : null,
    ]),
    tile("Per output token", joules(lastMinute), "no request ended in the last minute", [
      `since start ${joules(sinceStart) ?? "not known"}`,
    ]),
    tile("Energy so far", joules(total), body.reason ?? "no worker has told yet", [
      total === null ? null : `${wattHours(total)} · ${percent(requestShare(spent, total))} in requests`,
      missing(body),
    ]),
    tile("Requests", count(requests.completed), "", [
      `${count(body.tokens.output)} tokens out`,
      ...["failed", "refused", "aborted"].filter((name) => requests[name]).map((name) => `${requests[name]} ${name}`),
    ]),
    tile("First token, p99", seconds(body.latency.ttft_p99_seconds), "no stream in the last 5 minutes", [
      `target ${seconds(body.targets.ttft_seconds)}`,
      body.latency.slo_attainment_ratio === null ? null : `${percent(body.latency.slo_attainment_ratio)} in time`,
    ]),
  );
}

/** Why a sum that is shown is not the whole, if it is not. */
function missing(body) {
  return body.reason === null ? null : `not the whole: ${body.reason}`;
}

function tile(label, value, reason, notes) {
  const kept = notes.filter(Boolean);
  const shown = kept.flatMap((note, index) => (index > 0 && typeof note === "string" ? [" · ", note] : [" ", note]));
  return element("div", { class: "tile" },
    element("dt", {}, label),
    element("dd", { class: "value" }, value ?? element("span", { class: "unknown" }, "not known")),
    element("dd", { class: "note" }, ...(value === null ? [reason] : shown)),
  );
}

function accountsOf(body) {
  const { prefill, decode, ...others } = body.accounts_joules;
  return { prefill, decode, in_flight: body.in_flight_joules, ...others };
}

function totalOf(accounts) {
  const known = Object.values(accounts).filter((value) => value !== null);
  return known.length > 0 ? sum(known) : null;
}

function requestShare(spent, total) {
  return total > 0 ? ((spent.prefill ?? 0) + (spent.decode ?? 0) + (spent.in_flight ?? 0)) / total : 0;
}

export function showAccounts(body) {
  const spent = accountsOf(body);
  const total = totalOf(spent);
  byId("accounts-total").textContent = total === null ? "" : `${joules(total)} in all`;
  byId("accounts-bar").replaceChildren(
    ...Object.entries(spent).filter(([, value]) => value / total > 0.0005).map(([name, value]) => {
      const part = element("span", { class: `account-${name}` });
      part.style.width = `${(value / total) * 100}%`;
      return part;
    }),
  );
  byId("accounts-list").replaceChildren(
    ...Object.entries(spent).map(([name, value]) =>
      element("div", {},
        element("dt", {}, element("i", { class: `swatch account-${name}` }), name.replace("_", " "),
          element("span", { class: "faint small" }, ACCOUNTS[name] ?? "")),
        element("dd", {}, joules(value) ?? unknown(body.reason), " ",
          element("span", { class: "faint share" }, value === null ? "" : percent(total > 0 ? value / total : 0))),
      ),
    ),
  );
}

export function showQueue(body) {
  byId("queue-list").replaceChildren(
    ...Object.entries(body.queue_requests).map(([tier, waiting]) =>
      element("div", {}, element("dt", {}, `${tier} waiting`), element("dd", {}, count(waiting))),
    ),
  );
}

export function showWorkers(body) {
  fillTable(byId("workers-table"), [
    { title: "Worker", cell: (worker) => [worker.worker_id, element("span", { class: "sub" }, worker.model ?? "")] },
    { title: "State", cell: (worker) => badge(worker.state.replace("_", " "), worker.state) },
    { title: "Batch", number: true, cell: (worker) => String(worker.running_requests) +
        (worker.waiting_requests ? ` + ${worker.waiting_requests}` : "") },
    { title: "Power", number: true, cell: (worker) => watts(totalWatts(worker)) ?? unknown(worker.reason) },
    { title: "Tokens/s", number: true, minor: true, cell: (worker) => worker.output_tokens_per_second === null
        ? unknown() : figures(worker.output_tokens_per_second) },
    { title: "Energy", number: true, cell: (worker) => joules(worker.energy_joules) ?? unknown(worker.reason) },
    { title: "Meter", cell: (worker) => meterBadge(worker.measured, worker.source) },
  ], body.workers, "There are no workers.");
}

/** What anybody may know of the workers. */
export function showWorkerStates(ready) {
  fillTable(byId("workers-table"), [
    { title: "Worker", cell: (worker) => worker.id },
    { title: "State", cell: (worker) => badge(worker.state.replace("_", " "), worker.state) },
  ], ready.workers, "There are no workers.");
}

export function showTenants(body) {
  fillTable(byId("tenants-table"), [
    { title: "Tenant", cell: (tenant) => tenant.tenant },
    { title: "Requests", number: true, cell: (tenant) => count(tenant.requests) },
    { title: "Tokens out", number: true, minor: true, cell: (tenant) => count(tenant.output_tokens) },
    { title: "Energy", number: true, cell: (tenant) => joules(tenant.energy_joules) ??
        (tenant.requests ? unknown("its requests told none") : element("span", { class: "faint" }, "none yet")) },
    { title: "Budget left", number: true, cell: (tenant) => tenant.budgets.length > 0
        ? tenant.budgets.map(budget) : element("span", { class: "faint" }, "none set") },
  ], body.tenants, "Nobody has asked for anything yet.");
}

function budget({ period, budget_joules: whole, remaining_joules: left }) {
  const bar = element("span", { class: "budget-bar", "aria-hidden": "true" }, element("i"));
  bar.firstChild.style.width = `${(left / whole) * 100}%`;
  bar.dataset.level = left / whole < 0.1 ? "low" : "fine";
  return element("span", { class: "budget" }, `${joules(left)} of ${joules(whole)} a ${period}`, bar);
}

export function showRecent(body, ownIds) {
  const rows = body.recent_requests.map((one) => ({ ...one, isOwn: ownIds.has(one.request_id) }));
  const most = Math.max(0, ...rows.map((one) => one.energy_joules ?? 0));
  fillTable(byId("recent-table"), [
    { title: "Ended", cell: (one) => clock(one.ended_unix_seconds) },
    { title: "Request", minor: true, cell: (one) => [
      element("code", {}, one.request_id.length > 13 ? `${one.request_id.slice(0, 12)}…` : one.request_id),
      one.isOwn ? badge("yours", "own") : null,
    ] },
    { title: "Tenant", cell: (one) => one.tenant },
    { title: "Model", minor: true, cell: (one) => one.model },
    { title: "Tier", minor: true, cell: (one) => one.tier },
    { title: "Outcome", cell: (one) => badge(one.outcome, one.outcome) },
    { title: "Tokens", number: true, cell: (one) => one.output_tokens === null
        ? unknown() : `${count(one.prompt_tokens)} → ${count(one.output_tokens)}` },
    { title: "Took", number: true, minor: true, cell: (one) => seconds(one.duration_seconds) },
    { title: "Energy", number: true, cell: (one) => energyCell(one, most) },
    { title: "Per token", number: true, minor: true, cell: (one) => one.energy_joules !== null && one.output_tokens
        ? joules(one.energy_joules / one.output_tokens) : unknown() },
    { title: "Meter", minor: true, cell: (one) => meterBadge(one.measured, one.source) },
  ], rows, "No request has ended since this start of the server.");
}

function energyCell(one, most) {
  if (one.energy_joules === null) return unknown(one.reason);
  const bar = element("i", { class: "energy-bar", "aria-hidden": "true" });
  bar.style.width = `${most > 0 ? Math.max(1, (one.energy_joules / most) * 64) : 0}px`;
  return element("span", { class: "energy" }, bar, joules(one.energy_joules));
}

/** Take every figure off the page: who looks now may not see what a key before theirs has opened. */
export function clear() {
  const shown = ["facts", "tiles", "accounts-total", "accounts-bar", "accounts-list", "queue-list"];
  for (const id of [...shown, "workers-table", "tenants-table", "recent-table"]) byId(id).replaceChildren();
}

export function showFacts(body) {
  byId("facts").textContent =
    `v${body.version} · policy ${body.policy} · up ${duration(body.at_unix_seconds - body.started_unix_seconds)}`;
}
