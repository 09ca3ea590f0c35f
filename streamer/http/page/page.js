// What all parts of the page share: elements, words for numbers, questions to the server.
export const at = id => document.getElementById(id)

// Children that are no nodes become text, never markup: they come from whoever writes to the topic.
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag)
  for (const [name, value] of Object.entries(properties)) {
    if (name === "class") element.className = value
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value)
    else if (name in element && !name.startsWith("aria-")) element[name] = value
    else element.setAttribute(name, value)
  }
  element.append(...children.filter(child => child != null))
  return element
}

export const pairs = entries => entries.filter(([, value]) => value != null && value !== "")
  .flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)])

export function number(value, digits = 3) {
  if (value == null || !Number.isFinite(value)) return "–"
  if (Math.abs(value) >= 1000) return Math.round(value).toLocaleString("en")
  return Number(value.toPrecision(digits)).toLocaleString("en", { maximumFractionDigits: 4 })
}

export function short(value) {
  if (value == null) return "–"
  for (const [size, unit] of [[1e9, " G"], [1e6, " M"], [1e4, " k"]])
    if (value >= size) return number(value / (unit === " k" ? 1e3 : size)) + unit
  return number(value)
}

export function duration(seconds) {
  if (seconds == null) return "–"
  if (seconds < 1) return Math.round(seconds * 1000) + " ms"
  if (seconds < 120) return number(seconds, 2) + " s"
  if (seconds < 7200) return Math.round(seconds / 60) + " min"
  return seconds < 172800 ? Math.round(seconds / 3600) + " h" : Math.round(seconds / 86400) + " days"
}

// "1 text a second", "52 texts a second".
export function speed(value, what) {
  const words = number(value, value < 10 ? 2 : 3)
  return `${words} ${what}${words === "1" ? "" : "s"} a second`
}

export const percent = share => share == null ? "–" : number(share * 100, 2) + " %"
export const clock = ms => new Date(ms).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" })
export const kindWords = kind => ({ near_duplicate: "Near-duplicate", anomaly: "Anomaly", ordinary: "Ordinary", warming_up: "Warming up" })[kind] ?? kind

export function ago(ms) {
  return make("time", { class: "ago", dateTime: new Date(ms).toISOString(), title: new Date(ms).toLocaleString() }, agoWords(ms))
}

function agoWords(ms) {
  const seconds = (Date.now() - ms) / 1000
  return seconds < 2 ? "now" : duration(Math.round(seconds)) + " ago"
}

setInterval(() => document.querySelectorAll("time.ago").forEach(time => { time.textContent = agoWords(Date.parse(time.dateTime)) }), 5000)

// `wanted`: what the answer must hold. What lacks it was cut off, or comes from something else at this address.
export async function ask(path, wanted, body) {
  const options = body && { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) }
  let response
  try {
    response = await fetch(path, { ...options, signal: AbortSignal.timeout(15000) })
  } catch {
    throw new Error("the server does not answer")
  }
  const answer = await response.json().catch(() => null)
  if (!response.ok) throw new Error(answer?.error ?? `HTTP status ${response.status}`)
  if (answer?.[wanted] == null) throw new Error("the answer cannot be read")
  return answer
}

// One at a time, and none while nobody looks.
export async function every(seconds, work) {
  for (;;) {
    if (!document.hidden) await work().catch(error => console.debug(error.message))
    await new Promise(resume => setTimeout(resume, seconds * 1000))
  }
}

let said = ""
export function showState([level, words]) {
  at("state").className = "state " + level
  if (words !== said) at("words").textContent = said = words
}

export const sentence = words => words ? words[0].toUpperCase() + words.slice(1) : words
