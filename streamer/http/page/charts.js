// The last hour as small charts. The server keeps it; the page asks for what is new.
import { ask, clock, duration, make, number } from "./page.js"

const HOUR = 3600, LEAST = 300, POINTS = 180
const SVG = "http://www.w3.org/2000/svg"

export class History {
  constructor() { this.times = []; this.series = {}; this.step = 5 }

  async refresh() {
    const last = this.times.at(-1) ?? 0
    const answer = await ask(`v1/overview?since=${last}`, "history")
    this.add(answer.history)
    return answer
  }

  add({ step, at, series }) {
    this.step = step
    const before = this.times.length
    for (const name of Object.keys(series)) this.series[name] ??= Array(before).fill(null)
    this.times.push(...at)
    for (const [name, values] of Object.entries(this.series)) values.push(...(series[name] ?? Array(at.length).fill(null)))
    const end = this.times.at(-1) ?? 0
    const old = this.times.findIndex(time => time > end - HOUR)
    if (old > 0) for (const values of [this.times, ...Object.values(this.series)]) values.splice(0, old)
  }

  // [time, value or null] at most POINTS of them, each the mean of its part; null where the server was away.
  points(name) {
    const values = this.series[name] ?? [], end = this.times.at(-1) ?? 0
    const start = Math.min(this.times[0] ?? end, end - LEAST), part = Math.max(this.step, (end - start) / POINTS)
    const points = []
    let sum = 0, count = 0, time = null
    const close = () => { if (time !== null) points.push([time, count ? sum / count : null]) }
    this.times.forEach((at, i) => {
      if (time === null || at - time >= part - .1) {
        close()
        if (time !== null && at - this.times[i - 1] > 3 * this.step) points.push([at - .001, null])
        ;[sum, count, time] = [0, 0, at]
      }
      if (values[i] != null) { sum += values[i]; count++ }
    })
    close()
    return { points, start, end }
  }
}

export class Tile {
  // `say`: a value in words, [number, unit]. `note`: what it is, below the chart.
  // `hold`: show the last value that there was while there is none. `only`: where there are samples; `unless`: where there
  // are none of that name.
  constructor({ name, title, say, note, floor = 1, hold = false, only = false, unless = "" }) {
    Object.assign(this, { name, say, note, floor, hold, only, unless, points: [] })
    this.value = make("p", { class: "value" })
    this.below = make("p", { class: "note", title: note }, note)
    this.svg = document.createElementNS(SVG, "svg")
    this.svg.setAttribute("viewBox", "0 0 100 30")
    this.svg.setAttribute("preserveAspectRatio", "none")
    this.svg.setAttribute("role", "img")
    this.parts = Object.fromEntries(["base", "area", "line", "hand"].map(name => {
      const path = document.createElementNS(SVG, "path")
      path.setAttribute("class", name)
      this.svg.append(path)
      return [name, path]
    }))
    this.parts.base.setAttribute("d", "M0 30H100")
    this.svg.addEventListener("pointermove", event => this.point(event))
    this.svg.addEventListener("pointerleave", () => this.point(null))
    this.span = make("span", { class: "span" })
    this.element = make("div", { class: "tile" }, make("h2", {}, title, this.span), this.value, this.svg, this.below)
    this.title = title
  }

  show(history) {
    const { points, start, end } = history.points(this.name), has = name => history.series[name]?.some(value => value != null) ?? false
    this.element.hidden = this.only && !has(this.name) || has(this.unless)
    const known = points.filter(([, value]) => value != null), largest = Math.max(this.floor, ...known.map(([, value]) => value))
    const latest = this.hold ? known.at(-1)?.[1] : history.series[this.name]?.at(-1)
    const [words, unit] = this.say(latest)
    this.value.replaceChildren(words, make("span", { class: "unit" }, unit ?? ""))
    Object.assign(this, { points: known, start, end })
    const x = time => ((time - start) / Math.max(1, end - start) * 100).toFixed(2)
    const y = value => (30 - value / largest * 28).toFixed(2)
    let line = "", area = "", run = []
    const finish = () => {
      if (run.length) {
        const path = run.map(([time, value]) => `${x(time)} ${y(value)}`).join("L")
        line += "M" + path + (run.length === 1 ? "h.5" : "")
        area += `M${x(run[0][0])} 30L${path}L${x(run.at(-1)[0])} 30Z`
      }
      run = []
    }
    for (const point of points) point[1] == null ? finish() : run.push(point)
    finish()
    this.parts.line.setAttribute("d", line)
    this.parts.area.setAttribute("d", area)
    const span = duration(Math.max(60, end - start)), top = known.length ? this.say(Math.max(...known.map(([, value]) => value))).join(" ") : ""
    this.svg.setAttribute("aria-label", known.length ? `${this.title}: ${words} ${unit ?? ""} now, at most ${top} in the last ${span}` : `${this.title}: no samples yet`)
    this.span.textContent = known.length ? span : ""
  }

  point(event) {
    this.held = event !== null && this.points.length > 0
    this.parts.hand.setAttribute("d", "")
    if (!this.held) { this.below.textContent = this.note; return }
    const box = this.svg.getBoundingClientRect(), wanted = this.start + (event.clientX - box.left) / box.width * (this.end - this.start)
    const [time, value] = this.points.reduce((best, each) => Math.abs(each[0] - wanted) < Math.abs(best[0] - wanted) ? each : best)
    const x = (time - this.start) / Math.max(1, this.end - this.start) * 100
    this.parts.hand.setAttribute("d", `M${x} 0V30`)
    this.below.textContent = `${clock(time * 1000)}  ${this.say(value).join(" ")}`
  }
}

export const rate = value => [number(value, value < 10 ? 2 : 3), "/ s"]
export const count = value => [value == null ? "–" : Math.round(value).toLocaleString("en"), ""]
