// The box that sends a prompt and shows the answer and its cost.

import { getJson, Refused } from "./api.js";
import { ask } from "./chat.js";
import { byId, element, meterBadge, unknown } from "./dom.js";
import { count, figures, joules, percent, seconds, watts } from "./format.js";

// A lamp that most readers have seen, to give a joule a size.
const LAMP_WATTS = 10;

export class PromptBox {
  /** `onRefused(status)` hears that the key opens nothing; `onEnded(requestId)` that an answer is over. */
  constructor({ onRefused, onEnded }) {
    this.onRefused = onRefused;
    this.onEnded = onEnded;
    this.running = null;
    byId("ask-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.send();
    });
    byId("ask-prompt").addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
        event.preventDefault();
        this.send();
      }
    });
    byId("ask-stop").addEventListener("click", () => this.running?.abort());
  }

  /** The models this key may use; kept as they are where nobody tells. */
  async listModels() {
    const select = byId("ask-model");
    try {
      const { data } = await getJson("v1/models");
      const chosen = select.value;
      select.replaceChildren(...data.map((one) => element("option", { value: one.id }, one.id)));
      if (data.some((one) => one.id === chosen)) select.value = chosen;
      return data.length > 0;
    } catch (error) {
      if (error instanceof Refused && error.status === 401) select.replaceChildren();
      return false;
    }
  }

  async send() {
    const prompt = byId("ask-prompt").value.trim();
    if (this.running !== null) return;
    if (prompt === "") {
      this.say("Write a prompt first.");
      byId("ask-prompt").focus();
      return;
    }
    this.begin();
    let id = null;
    let energy;
    try {
      for await (const part of ask(this.request(prompt), this.running.signal)) {
        if ("id" in part) id = part.id;
        else if ("energy" in part) energy = part.energy;
        else this.write(part);
      }
      this.end(energy);
    } catch (error) {
      this.fail(error);
    }
    this.rest();
    this.onEnded(id);
  }

  request(prompt) {
    const body = { messages: [{ role: "user", content: prompt }], max_tokens: Number(byId("ask-tokens").value) || 128 };
    if (byId("ask-model").value) body.model = byId("ask-model").value;
    if (byId("ask-tier").value !== "auto") body.service_tier = byId("ask-tier").value;
    return body;
  }

  begin() {
    this.running = new AbortController();
    byId("ask-send").setAttribute("aria-disabled", "true");
    byId("ask-stop").hidden = false;
    byId("cost").hidden = true;
    const answer = byId("answer");
    answer.replaceChildren();
    answer.hidden = false;
    answer.setAttribute("aria-busy", "true");
    this.say("Waiting for the first token …");
  }

  write({ text, thought }) {
    const answer = byId("answer");
    const isAtEnd = answer.scrollTop + answer.clientHeight >= answer.scrollHeight - 8;
    if (answer.childNodes.length === 0) this.say("Answering …");
    const kind = thought ? "thought" : "said";
    if (answer.lastElementChild?.className !== kind) answer.append(element("span", { class: kind }));
    answer.lastElementChild.append(thought ?? text);
    if (isAtEnd) answer.scrollTop = answer.scrollHeight;
  }

  end(energy) {
    if (energy === undefined) {
      this.say("Answered; what it cost is not known: the answer did not tell.");
      return;
    }
    const known = energy.energy_joules !== null && energy.energy_joules !== undefined;
    const how = energy.measured ? `measured by ${energy.source}` : "estimated, not measured";
    this.say(known
      ? `Answered for ${joules(energy.energy_joules)}, ${how}.`
      : `Answered; what it cost is not known: ${energy.reason ?? "no reason was told"}.`);
    byId("cost").replaceChildren(...costOf(energy, known));
    byId("cost").hidden = false;
  }

  fail(error) {
    if (this.running.signal.aborted) {
      this.say("Stopped. What it used until then is charged all the same, and shown under recent requests.");
      return;
    }
    this.say(error instanceof TypeError ? "The server cannot be reached." : `Not answered: ${error.message}`);
    if (error instanceof Refused && error.status === 401) this.onRefused(error.status);
    if (byId("answer").childNodes.length === 0) byId("answer").hidden = true;
  }

  rest() {
    // The button that has the focus may not vanish under it.
    if (document.activeElement === byId("ask-stop")) byId("ask-send").focus();
    this.running = null;
    byId("ask-send").removeAttribute("aria-disabled");
    byId("ask-stop").hidden = true;
    byId("answer").setAttribute("aria-busy", "false");
  }

  say(text) {
    byId("ask-status").textContent = text;
  }
}

function costOf(energy, known) {
  const rows = [
    ["Prompt", joules(energy.prefill_joules)],
    ["Answer", joules(energy.decode_joules)],
    ["Per output token", joules(energy.joules_per_output_token)],
    ["Tokens", energy.output_tokens === undefined ? null : `${count(energy.prompt_tokens)} → ${count(energy.output_tokens)}`],
    ["Took", seconds(energy.duration_seconds)],
    ["Its power", watts(energy.avg_power_watts)],
    ["Share of the device", percent(energy.attribution_ratio)],
    ["Waited", seconds(energy.queue_seconds)],
    ["Uncertainty", energy.uncertainty_ratio === null || energy.uncertainty_ratio === undefined
      ? null : `± ${percent(energy.uncertainty_ratio)}`],
    ["Carbon", energy.carbon_g_co2eq === null || energy.carbon_g_co2eq === undefined
      ? null : `${figures(energy.carbon_g_co2eq * 1000)} mg CO₂eq`],
  ].filter(([, value]) => value !== null && value !== undefined);
  const lamp = known ? `as much as a ${LAMP_WATTS} W lamp takes in ${seconds(energy.energy_joules / LAMP_WATTS)}` : "";
  return [
    element("p", { class: "price" },
      element("span", { id: "cost-joules", class: "value" }, joules(energy.energy_joules) ?? unknown(energy.reason)), " ",
      meterBadge(energy.measured === true, energy.source)),
    lamp ? element("p", { class: "faint small" }, lamp) : "",
    element("dl", { class: "pairs" }, rows.map(([name, value]) =>
      element("div", {}, element("dt", {}, name), element("dd", {}, value)))),
  ];
}
