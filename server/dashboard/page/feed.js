// Asks the server for its figures every two seconds, says when it is away, and notices when it is back.

import { getJson, Refused } from "./api.js";

const EVERY_MILLISECONDS = 2000;
const LONGEST_MILLISECONDS = 10000;
// Without an administrator's key only the workers' states are told.
const READY_MILLISECONDS = 4000;

/**
 * `onFigures(body)` hears of every answer; `onAccess("admin" | "tenant" | "none")` of what the key opens;
 * `onReady(body)` of what anybody may know; `onAway(error)` and `onBack()` of the server itself.
 */
export class Feed {
  constructor(hears) {
    this.hears = hears;
    this.access = "admin";
    this.failures = 0;
    this.timer = null;
    this.round = 0;
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) this.start();
    });
  }

  /** Begin, or begin again at once: with another key, or as the tab is looked at again. */
  start({ withAnotherKey = false } = {}) {
    if (withAnotherKey) this.access = "admin";
    clearTimeout(this.timer);
    this.round += 1;
    this.ask(this.round);
  }

  async ask(round) {
    if (document.hidden) return; // `visibilitychange` starts it again
    let pause = EVERY_MILLISECONDS;
    try {
      if (this.access === "admin") await this.askFigures(round);
      if (this.access !== "admin") {
        this.hears.onReady(await getJson("ready", { also: [503] }));
        pause = READY_MILLISECONDS;
      }
      if (round !== this.round) return;
      if (this.failures > 0) this.hears.onBack();
      this.failures = 0;
    } catch (error) {
      if (round !== this.round) return;
      this.failures += 1;
      pause = Math.min(LONGEST_MILLISECONDS, EVERY_MILLISECONDS * 2 ** (this.failures - 1) * 0.5);
      this.hears.onAway(error);
    }
    if (round === this.round) this.timer = setTimeout(() => this.ask(round), pause);
  }

  async askFigures(round) {
    try {
      const body = await getJson("v1/energy/live");
      if (round !== this.round) return;
      this.hears.onAccess("admin");
      this.hears.onFigures(body);
    } catch (error) {
      if (!(error instanceof Refused) || (error.status !== 401 && error.status !== 403)) throw error;
      if (round !== this.round) return;
      // Not asked again with this key: every attempt counts as one with a wrong key.
      this.access = error.status === 403 ? "tenant" : "none";
      this.hears.onAccess(this.access);
    }
  }
}
