// Puts the page together: what is asked of the server, and where it is shown.

import { isSendable, key } from "./api.js";
import { Chart } from "./chart.js";
import { byId } from "./dom.js";
import { Feed } from "./feed.js";
import { clock, figures, joules, watts } from "./format.js";
import { History } from "./history.js";
import * as panels from "./panels.js";
import { PromptBox } from "./prompt.js";

const THEME_NAME = "wattline-theme";
const known = (text, missing = "not known") => text ?? missing;

const history = new History();
const charts = [
  new Chart("power", history, [{ name: "power", colour: "--power", fill: "--power-fill" }],
    (value) => watts(value).replace(".0 ", " "), (now) => known(watts(now.power))),
  new Chart("token", history, [
    { name: "lastMinute", colour: "--decode", fill: "--decode-fill" },
    { name: "sinceStart", colour: "--faint", dash: [4, 4] },
  ], (value) => `${figures(value)} J`,
  (now) => `last minute ${known(joules(now.lastMinute))} · since start ${known(joules(now.sinceStart))}`),
  new Chart("batch", history, [
    { name: "running", colour: "--prefill", fill: "--prefill-fill", steps: true },
    { name: "waiting", colour: "--loading", steps: true },
  ], (value) => (Number.isInteger(value) ? String(value) : ""),
  (now) => `running ${known(now.running?.toString())} · waiting ${known(now.waiting?.toString())}`),
];
const ownIds = new Set();
let latest = null;
let hasModels = false;

const prompt = new PromptBox({
  onRefused: () => openKeyPanel("This key was refused. Any valid key can send prompts."),
  onEnded: (id) => {
    if (id) ownIds.add(id);
    feed.start();
  },
});

const feed = new Feed({
  onFigures(body) {
    latest = body;
    history.add(body);
    panels.showFacts(body);
    panels.showTiles(body);
    panels.showAccounts(body);
    panels.showQueue(body);
    panels.showWorkers(body);
    panels.showTenants(body);
    panels.showRecent(body, ownIds);
    for (const chart of charts) chart.show();
    connection("live", "live");
    refreshModels();
  },
  onAccess(access) {
    document.body.dataset.access = access;
    for (const section of document.querySelectorAll("[data-admin]")) section.hidden = access !== "admin";
    byId("tiles").parentElement.hidden = access !== "admin";
    if (access === "admin") return;
    forgetFigures();
    openKeyPanel(access === "tenant"
      ? "This key can send prompts. Power, energy, tenants and recent requests need an administrator's key."
      : key.get()
        ? "This key was refused. Any valid key can send prompts; an administrator's also shows the figures."
        : "This server asks for a key. Any valid key can send prompts; an administrator's also shows the figures.");
  },
  onReady(body) {
    panels.showWorkerStates(body);
    connection("limited", body.ready ? "ready" : "no worker is ready");
    refreshModels();
  },
  onAway(error) {
    const since = latest ? ` The figures are of ${clock(latest.at_unix_seconds)}.` : "";
    connection("away", "not reachable");
    const text = awayText(error) + since;
    if (byId("notice").textContent !== text) byId("notice").textContent = text; // it is read aloud each time it is set
    byId("notice").hidden = false;
    document.body.dataset.stale = "true";
  },
  onBack() {
    byId("notice").hidden = true;
    delete document.body.dataset.stale;
    hasModels = false;
    refreshModels();
  },
});

function awayText(error) {
  return error.status
    ? `The server answers ${error.status}: ${error.message}. Asking again until it is well.`
    : "The server cannot be reached. Asking again until it answers.";
}

function forgetFigures() {
  latest = null;
  history.clear();
  panels.clear();
  for (const chart of charts) chart.clear();
}

function connection(state, text) {
  const pill = byId("connection");
  if (pill.textContent !== text) pill.textContent = text;
  pill.dataset.state = state;
}

async function refreshModels() {
  if (!hasModels) hasModels = await prompt.listModels();
}

// -- the key ----------------------------------------------------------------------------------------------------------

function openKeyPanel(text) {
  byId("key-text").textContent = text;
  byId("key-panel").hidden = false;
  byId("key-button").setAttribute("aria-expanded", "true");
}

function useKey(value) {
  if (!isSendable(value)) {
    openKeyPanel("This is no key: one has no spaces, and no letters or signs beyond those of English.");
    return;
  }
  key.set(value);
  byId("key-input").value = "";
  byId("key-panel").hidden = true;
  byId("key-button").setAttribute("aria-expanded", "false");
  hasModels = false;
  feed.start({ withAnotherKey: true });
}

byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey(byId("key-input").value.trim());
});
byId("key-forget").addEventListener("click", () => useKey(""));
byId("key-button").addEventListener("click", () => {
  const isOpen = !byId("key-panel").hidden;
  if (isOpen) {
    byId("key-panel").hidden = true;
    byId("key-button").setAttribute("aria-expanded", "false");
  } else {
    openKeyPanel(key.get() ? "A key is in use." : "No key is in use. Where a server has keys, it asks for one.");
    byId("key-input").focus();
  }
});

// -- theme and range --------------------------------------------------------------------------------------------------

const systemTheme = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (document.documentElement.dataset.theme ?? (systemTheme.matches ? "dark" : "light")) === "dark";

function restyle() {
  byId("theme-button").setAttribute("aria-label", `Switch to the ${isDark() ? "light" : "dark"} theme`);
  for (const chart of charts) chart.restyle();
}

byId("theme-button").addEventListener("click", () => {
  const theme = isDark() ? "light" : "dark";
  document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem(THEME_NAME, theme);
  } catch {
    // Then it lasts as long as the page.
  }
  restyle();
});
systemTheme.addEventListener("change", restyle);
for (const choice of document.querySelectorAll("input[name=range]")) {
  choice.addEventListener("change", () => {
    for (const chart of charts) {
      chart.minutes = Number(choice.value);
      if (latest) chart.show();
    }
  });
}

restyle();
feed.start();
