// Search by text, neighbours of an event. What is shown is in the address, so that back and reload work.
import { ask, at, make, number } from "./page.js"
import { paragraph, unfold } from "./texts.js"

const MOST = 10

export class Search {
  constructor() {
    this.form = at("search")
    this.known = new Map()  // id -> text, of what was clicked
    this.form.onsubmit = event => { event.preventDefault(); this.ask("text", this.form.elements.text.value) }
    at("close").onclick = () => this.close()
    addEventListener("hashchange", () => this.follow())
    this.follow()
  }

  like(id, text) {
    this.known.set(id, text)
    while (this.known.size > 50) this.known.delete(this.known.keys().next().value)
    this.ask("like", id)
  }

  ask(name, value) {
    const where = "#" + new URLSearchParams({ [name]: value })
    if (location.hash === where) this.follow()
    else location.hash = where
  }

  close() {
    history.pushState(null, "", location.pathname + location.search)
    this.show(null)
    this.form.elements.text.focus()
  }

  async follow() {
    const wanted = new URLSearchParams(location.hash.slice(1))
    const text = wanted.get("text"), like = wanted.get("like")
    if (!text && !like) return this.show(null)
    if (text) this.form.elements.text.value = text
    const turn = this.turn = {}
    at("failure").textContent = ""
    try {
      const answer = await ask("v1/search", "matches", { ...(like ? { id: like } : { text }), k: MOST, ...this.filters() })
      if (turn !== this.turn) return
      const words = like ? this.known.get(like) : text
      this.show(answer.matches, like ? `Nearest to ${like}` : `Nearest to “${text}”`, like ? words : null)
    } catch (error) {
      if (turn !== this.turn) return
      this.show(null)
      at("failure").textContent = `Not found: ${error.message}.`
    }
  }

  filters() {
    const { where, least } = this.form.elements
    const conditions = Object.fromEntries(where.value.split(",").filter(part => part.trim()).map(part => {
      const [name, ...rest] = part.split("=")
      if (!rest.length) throw new Error(`write metadata as name=value, not ${part.trim()}`)
      return [name.trim(), scalar(rest.join("=").trim())]
    }))
    return {
      ...(Object.keys(conditions).length ? { where: conditions } : {}),
      ...(least.value ? { min_similarity: Number(least.value) } : {}),
    }
  }

  show(matches, title = "", text = null) {
    at("results").hidden = !matches
    if (!matches) return at("matches").replaceChildren()
    at("results-title").replaceChildren(title, ...(text != null ? [paragraph(text)] : []))
    at("matches").replaceChildren(...matches.map(match => this.item(match)))
    if (!matches.length) at("matches").append(make("li", { class: "more" }, "Nothing in the index is like that, with these filters."))
    at("news").textContent = `${title}: ${matches.length} events`
    at("results-title").focus({ preventScroll: true })
    at("results-title").scrollIntoView({ block: "nearest" })
  }

  item({ id, similarity, text, metadata }) {
    const said = paragraph(text), fill = make("i")
    fill.style.width = `${Math.max(0, similarity) * 100}%`
    const chips = Object.entries(metadata ?? {}).filter(([, value]) => (value === null || typeof value !== "object") && value !== id).slice(0, 6)
      .map(([name, value]) => make("button", {
        class: "chip", type: "button", title: `only events with ${name}=${value}`, onclick: () => this.filter(name, value),
      }, `${name}=${value}`))
    return make("li", {},
      make("div", { class: "said" }, make("span", { class: "bar", "aria-hidden": "true" }, fill),
        make("span", {}, `cosine ${number(similarity)}`), make("span", { class: "id" }, id)),
      said,
      make("div", { class: "acts" }, unfold(said),
        make("button", { class: "plain", type: "button", onclick: () => this.like(id, text) }, "More like this"), ...chips))
  }

  filter(name, value) {
    const { where } = this.form.elements
    const others = where.value.split(",").filter(part => part.trim() && part.split("=")[0].trim() !== name)
    where.value = [...others, `${name}=${value}`].map(part => part.trim()).join(", ")
    this.follow()
  }
}

// As JSON would have it: numbers, true, false, null; everything else is text.
function scalar(value) {
  if (/^".*"$/.test(value)) return value.slice(1, -1)
  return /^(true|false|null|-?\d+(\.\d+)?)$/.test(value) ? JSON.parse(value) : value
}
