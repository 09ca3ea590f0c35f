// Recent events on a plane: those that mean the same lie together. It moves as the stream moves.
import { ask, at, kindWords, number, percent } from "./page.js"

const MOVE = 700, REACH = 16, EDGE = 16
const HINT = "Events that mean the same lie together. Point at one to read it; a click shows its neighbours."

export class StreamMap {
  constructor(like) {
    Object.assign(this, { like, points: [], places: new Map(), size: 0, hand: undefined })
    this.canvas = at("map")
    this.canvas.addEventListener("pointermove", event => this.point(this.nearest(event)))
    this.canvas.addEventListener("pointerleave", () => this.point(null))
    this.canvas.addEventListener("click", event => { this.point(this.nearest(event)); this.open() })
    this.canvas.addEventListener("keydown", event => this.key(event))
    new ResizeObserver(() => this.draw()).observe(this.canvas)
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw())
    this.point(null)
  }

  async refresh() {
    const { points, share } = await ask("v1/map", "points")
    const before = new Map(this.points.map(point => [point.id, this.place(point)]))
    this.points = points
    // The farthest few lie at the edge, rather than press all others together.
    const far = points.map(({ x, y }) => Math.max(Math.abs(x), Math.abs(y))).sort((a, b) => a - b)
    this.size = Math.max(1e-6, 1.1 * (far[Math.floor(far.length * .97)] ?? 1))
    this.began = performance.now()
    this.before = before
    this.hand = this.points.find(point => point.id === this.hand?.id) ?? null
    const strange = points.filter(({ verdict }) => verdict === "anomaly").length, copies = points.filter(({ group }) => group).length
    at("map-share").textContent = points.length < 3 ? "The map begins with three events." :
      `${points.length} events, ${copies} near-duplicates, ${strange} anomalies. The plane holds ${percent(share)} of how they differ.`
    this.canvas.setAttribute("aria-label", `Map of ${points.length} recent events, ${strange} of them anomalies`)
    this.animate()
  }

  animate() {
    cancelAnimationFrame(this.frame)
    this.draw()
    if (this.progress() < 1) this.frame = requestAnimationFrame(() => this.animate())
  }

  progress() {
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) return 1
    const done = Math.min(1, (performance.now() - (this.began ?? 0)) / MOVE)
    return done * (2 - done)
  }

  // Between -1 and 1, on its way from where it was.
  place(point) {
    const aim = [point.x, point.y].map(to => Math.max(-1, Math.min(1, to / this.size))), from = this.before?.get(point.id)
    if (!from) return aim
    const done = this.progress()
    return aim.map((to, axis) => from[axis] + (to - from[axis]) * done)
  }

  pixels(point) {
    const { clientWidth: width, clientHeight: height } = this.canvas, [x, y] = this.place(point)
    return [width / 2 + x * (width / 2 - EDGE), height / 2 - y * (height / 2 - EDGE)]
  }

  draw() {
    const { canvas } = this, style = getComputedStyle(canvas), scale = devicePixelRatio || 1
    const [width, height] = [canvas.clientWidth, canvas.clientHeight]
    if (canvas.width !== Math.round(width * scale)) canvas.width = Math.round(width * scale)
    if (canvas.height !== Math.round(height * scale)) canvas.height = Math.round(height * scale)
    const pen = canvas.getContext("2d"), colour = name => style.getPropertyValue(name)
    const [plain, copy, strange, text] = ["--muted", "--accent", "--strange", "--text"].map(colour)
    pen.setTransform(scale, 0, 0, scale, 0, 0)
    pen.clearRect(0, 0, width, height)
    const at = new Map(this.points.map(point => [point.id, this.pixels(point)])), firsts = new Map()
    pen.strokeStyle = copy
    pen.globalAlpha = .35
    pen.beginPath()
    for (const { id, group } of this.points) {
      if (!group) continue
      const from = at.get(group) ?? firsts.get(group)
      if (from) { pen.moveTo(...from); pen.lineTo(...at.get(id)) } else firsts.set(group, at.get(id))
    }
    pen.stroke()
    this.points.forEach(({ id, verdict }, i) => {
      const [x, y] = at.get(id)
      pen.globalAlpha = verdict === "anomaly" ? 1 : .3 + .6 * (i + 1) / this.points.length  // the newest are the clearest
      pen.fillStyle = { near_duplicate: copy, anomaly: strange }[verdict] ?? plain
      pen.beginPath()
      if (verdict === "anomaly") { pen.moveTo(x, y - 6); pen.lineTo(x + 5.5, y + 4); pen.lineTo(x - 5.5, y + 4) }
      else pen.arc(x, y, verdict === "near_duplicate" ? 3.4 : 2.6, 0, 7)
      pen.fill()
    })
    pen.globalAlpha = 1
    if (this.hand && at.has(this.hand.id)) {
      pen.strokeStyle = text
      pen.lineWidth = 1.5
      pen.beginPath()
      pen.arc(...at.get(this.hand.id), 8, 0, 7)
      pen.stroke()
      pen.lineWidth = 1
    }
  }

  nearest(event) {
    const box = this.canvas.getBoundingClientRect()
    let best = null, least = REACH
    for (const point of this.points) {
      const [x, y] = this.pixels(point), far = Math.hypot(x - event.clientX + box.left, y - event.clientY + box.top)
      if (far < least) [best, least] = [point, far]
    }
    return best
  }

  point(found) {
    if (this.hand === found) return
    this.hand = found
    at("map-text").textContent = found ? `${kindWords(found.verdict)}: ${found.text ?? found.id}` : HINT
    this.draw()
  }

  key(event) {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key]
    if (event.key === "Enter") this.open()
    if (!step || !this.points.length) return
    event.preventDefault()
    const here = this.points.indexOf(this.hand), count = this.points.length
    this.point(this.points[here < 0 ? count - 1 : (here + step + count) % count])
  }

  open() { if (this.hand) this.like(this.hand.id, this.hand.text) }
}
