// Talks to the server. What was not saved is told; a request that got no reply is sent again with
// the same key, so that it counts once.

const random = () =>
  Array.from(crypto.getRandomValues(new Uint8Array(12)), (b) => b.toString(16).padStart(2, "0"))
    .join("");

export const newKey = random;

export const person = {
  get: () => localStorage.getItem("person") || "",
  set: (name) => localStorage.setItem("person", name),
};

async function reply(response) {
  let told;
  try {
    told = await response.json();
  } catch {
    told = { error: `the server sent no answer that can be read (${response.status})` };
  }
  return { ok: response.ok, status: response.status, ...told };
}

/** Asks for something; `status` is 0 where the server cannot be reached. */
export async function get(path, told = {}) {
  const query = new URLSearchParams(Object.entries(told).filter(([, v]) => v !== null && v !== ""));
  try {
    return await reply(await fetch(`/api/${path}?${query}`, { cache: "no-store" }));
  } catch {
    return { ok: false, status: 0, error: "the server cannot be reached" };
  }
}

const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

/** Says something; it is tried until there is a reply, with `onwait` called in between. */
export async function post(path, told, onwait = () => {}) {
  const body = JSON.stringify({ key: newKey(), person: person.get(), ...told });
  for (let tries = 0; ; tries += 1) {
    try {
      const response = await fetch(`/api/${path}`, {
        method: "POST", headers: { "Content-Type": "application/json" }, body,
      });
      const told = await reply(response);
      if (!told.retry) return told;
    } catch {
      // It cannot be reached.
    }
    onwait(tries);
    await pause(Math.min(5000, 500 * 2 ** tries));
  }
}

export const imageUrl = ([index, version], size = "small") => `/image/${index}/${size}?v=${version}`;
