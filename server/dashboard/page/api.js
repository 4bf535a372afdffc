// The server's routes. Paths are relative, so that the page also works behind a prefix.

const KEY_NAME = "wattline-key";
const PATIENCE_MILLISECONDS = 6000;

/** The server answered with an error; `status` is HTTP's. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export const key = {
  get() {
    try {
      return sessionStorage.getItem(KEY_NAME) ?? "";
    } catch {
      return this.unstored ?? "";
    }
  },
  set(value) {
    this.unstored = value;
    try {
      if (value) sessionStorage.setItem(KEY_NAME, value);
      else sessionStorage.removeItem(KEY_NAME);
    } catch {
      // Where storage is closed to us the key lasts as long as the page.
    }
  },
};

/** Whether a header can carry it; fetch would throw as it does where nobody answers. */
export const isSendable = (value) => /^[!-~]*$/.test(value);

export function headers(more = {}) {
  const value = key.get();
  return value ? { ...more, Authorization: `Bearer ${value}` } : more;
}

/** The body of a GET. Throws `Refused` for an error, and something else where nobody answers. */
export async function getJson(path, { also = [] } = {}) {
  const answer = await fetch(path, {
    headers: headers(),
    cache: "no-store",
    signal: AbortSignal.timeout(PATIENCE_MILLISECONDS),
  });
  if (!answer.ok && !also.includes(answer.status)) throw await refusal(answer);
  return answer.json();
}

/** What an error says, in OpenAI's shape or any other. */
export async function refusal(answer) {
  const text = await answer.text();
  try {
    return new Refused(answer.status, String(JSON.parse(text).error.message));
  } catch {
    return new Refused(answer.status, `the server answered ${answer.status}`);
  }
}
