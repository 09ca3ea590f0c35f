// Verdicts as they are given. So many of them stay on the page; the rest is in the verdict topic.
import { ago, ask, at, kindWords, make, number } from "./page.js"
import { differences, paragraph, unfold } from "./texts.js"

const MOST = 30, FRESH = 8, MEANWHILE = 5
const CHOICES = {
  notable: ["What stands out", ["near_duplicate", "anomaly"]],
  copies: ["Near-duplicates", ["near_duplicate"]],
  strange: ["Anomalies", ["anomaly"]],
  all: ["Everything", []],
}

export class Feed {
  // `like`: called with an event's id and text to show its neighbours.
  constructor(like) {
    Object.assign(this, { like, latest: 0, chosen: "notable", paused: false, read: false, textless: 0, shown: 0 })
    for (const [name, [words]] of Object.entries(CHOICES))
      at("kinds").append(make("label", {}, make("input", {
        type: "radio", name: "kinds", value: name, checked: name === this.chosen, onchange: () => this.choose(name),
      }), make("span", {}, words)))
    at("pause").onclick = () => this.pause(!this.paused)
    for (const [event, read] of [["pointerenter", true], ["pointerleave", false], ["focusin", true], ["focusout", false]])
      at("feed").addEventListener(event, () => { this.read = read; this.tell() })
  }

  choose(name) {
    Object.assign(this, { chosen: name, latest: 0, shown: 0, textless: 0 })
    at("feed").replaceChildren()
    this.refresh(true).catch(() => {})
  }

  pause(paused) {
    this.paused = paused
    at("pause").setAttribute("aria-pressed", paused)
    at("pause").textContent = paused ? "Go on" : "Pause"
    this.tell()
  }

  tell() { at("held").textContent = this.paused ? "paused" : this.read && this.shown ? "held while you read" : "" }

  async refresh(always = false) {
    if ((this.paused || this.read) && !always) return
    const chosen = this.chosen, kinds = CHOICES[chosen][1].map(kind => `&kind=${kind}`).join("")
    const answer = await ask(`v1/recent?after=${this.latest}&limit=${MOST}${kinds}`, "verdicts")
    if (chosen !== this.chosen || (this.latest && (this.paused || this.read) && !always)) return
    const first = this.latest === 0
    if (answer.latest < this.latest) return this.choose(chosen)  // the numbers begin anew
    this.latest = answer.latest
    if (!this.shown && !answer.verdicts.length && kinds) return this.meanwhile()
    if (!this.shown) at("feed").replaceChildren()
    this.add(answer, first)
  }

  // While nothing of what was chosen is there, what else is.
  async meanwhile() {
    const { verdicts, texts } = await ask(`v1/recent?limit=${MEANWHILE}`, "verdicts")
    if (this.shown) return
    at("feed").replaceChildren(...verdicts.map(verdict => this.item(verdict, texts, false)))
    if (verdicts.length) at("feed").prepend(make("li", { class: "more" }, "Meanwhile, the latest events:"))
    this.textless = verdicts.every(verdict => !(verdict.id in texts)) ? verdicts.length : 0
  }

  add({ verdicts, texts }, first) {
    const feed = at("feed"), taken = first ? verdicts : verdicts.slice(0, FRESH)
    const items = taken.map(verdict => this.item(verdict, texts, !first))
    const left = verdicts.length - taken.length
    if (left) items.push(make("li", { class: "more" }, `${verdicts.length === MOST ? "more than " : ""}${left} more in that second`))
    feed.prepend(...items)
    while (feed.children.length > MOST) feed.lastChild.remove()
    this.shown += taken.length
    if (taken.length) this.textless = taken.every(verdict => !(verdict.id in texts)) ? this.textless + taken.length : 0
  }

  // Why there is nothing, or what is missing.
  why({ events_missing: missing, vectors, verdicts }) {
    const total = Object.values(verdicts ?? {}).reduce((sum, each) => sum + each, 0)
    const learns = missing ? ` Anomalies are told after ${number(missing)} more ordinary events, which show what is usual here.` : ""
    let why = ""
    if (!this.shown && !vectors) why = "Nothing has arrived yet. Publish texts to the input topic; verdicts appear here within a second or two."
    else if (!this.shown && !total) why = `The index remembers ${number(vectors)} events of earlier. Verdicts on new ones appear here.`
    else if (this.textless) why = "The vector topic carries no texts, so only ids are shown. With output.include_text = true, which is the default, workers send them along."
    else if (!this.shown && this.chosen === "strange") why = learns.trim() || "No anomaly among the recent events: all of them are like others."
    else if (!this.shown) why = `${number(total)} events judged since the start, none of them a near-duplicate${this.chosen === "copies" ? "." : ` or an anomaly.${learns}`}`
    else if (this.chosen !== "copies") why = learns.trim()
    at("feed-why").textContent = why
  }

  item(verdict, texts, fresh) {
    const { id, verdict: kind, at: when, similarity, duplicate_of: first, nearest } = verdict
    const mine = texts[id], other = nearest?.[0], theirs = other && texts[other.id]
    const said = [make("b", {}, kindWords(kind)), make("span", { class: "id" }, id)]
    const body = [], paragraphs = []
    const acts = [make("button", { class: "plain", type: "button", onclick: () => this.like(id, mine) }, "More like this")]
    if (kind === "near_duplicate" && other) {
      const known = mine != null && theirs != null
      const [left, right] = known ? differences(mine, theirs) : []
      said.splice(1, 0, make("span", {}, known && mine === theirs ? "word for word" : `cosine ${number(similarity)}`))
      paragraphs.push(paragraph(mine, left), paragraph(theirs, right))
      body.push(make("div", { class: "pair" },
        make("div", {}, make("h3", {}, "new"), paragraphs[0]),
        make("div", {}, make("h3", {}, "earlier", make("span", { class: "id" }, other.id)), paragraphs[1])))
      if (first && first !== other.id) acts.push(make("span", { class: "muted" }, "first of its group: ", make("span", { class: "id" }, first)))
    } else {
      paragraphs.push(paragraph(mine))
      body.push(paragraphs[0])
      if (kind === "anomaly") body.push(make("p", { class: "because" }, because(verdict, theirs)))
      else if (similarity != null) said.splice(1, 0, make("span", {}, `nearest: cosine ${number(similarity)}`))
    }
    const all = unfold(...paragraphs)
    if (all) acts.unshift(all)
    return make("li", { class: `${kind}${fresh ? " fresh" : ""}` },
      make("div", { class: "said" }, ...said, ago(when)), ...body, make("div", { class: "acts" }, ...acts))
  }
}

// The reason of an anomaly, in words; newer servers say more.
function because(verdict, nearest) {
  const { p_value: p, reason, similarity, content_p_value: content, form_p_value: form } = verdict
  const what = { content: "What it says is unlike recent events", form: "It is written unlike recent events",
    both: "What it says, and how it is written, are unlike recent events" }[reason] ?? "It is unlike recent events"
  const odds = p > 0 ? `: one in ${number(Math.round(1 / p))} ordinary events is as far off (p = ${number(p, 2)})` : ""
  const parts = content != null && form != null ? ` By content p = ${number(content, 2)}, by form p = ${number(form, 2)}.` : ""
  const stands = verdict.form_reason ?? verdict.form ?? verdict.explanation
  const words = typeof stands === "string" ? ` ${stands.replace(/\.?$/, ".")}` : ""
  const near = similarity != null ? ` Nearest, with cosine ${number(similarity, 2)}: ${nearest != null ? `“${nearest.length > 140 ? nearest.slice(0, 140) + "…" : nearest}”` : verdict.nearest?.[0]?.id ?? ""}` : ""
  return `${what}${odds}.${words}${parts}${near}`
}
