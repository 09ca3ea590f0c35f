// Workers, dead letters and the index, in words.
import { ago, at, clock, make, number, pairs, percent, sentence, short, speed } from "./page.js"

export function showLetters(letters, why) {
  const list = at("letters"), newest = letters.slice(0, 30), mark = JSON.stringify(newest.map(each => [each.at, each.source]))
  at("letters-why").textContent = newest.length ? "" : why
  if (list.dataset.mark === mark) return
  list.dataset.mark = mark
  list.hidden = !newest.length
  list.tabIndex = newest.length ? 0 : -1
  list.replaceChildren(...newest.map(({ at: when, kind, reason, source, key }) => make("li", { class: "anomaly" },
    make("div", { class: "said" }, make("b", {}, kind.replaceAll("_", " ")), make("span", { class: "id" }, key ?? source), ago(when)),
    make("p", { class: "text" }, sentence(reason)), key ? make("p", { class: "id muted" }, source) : null)))
}

const LOOPBACK = /^(localhost|127\.|\[::1\])/

export function workerTrouble({ silent, not_ready, waits, without }) {
  const waiting = waits?.[0], until = waiting?.until ? `, again at ${clock(typeof waiting.until === "number" ? waiting.until * 1000 : waiting.until)}` : ""
  return silent ?? not_ready ?? (waiting ? waiting.text + until : null) ?? without ?? null
}

export function showWorkers(workers) {
  const elements = workers.map(worker => {
    const host = worker.url.replace(/^https?:\/\//, ""), trouble = workerTrouble(worker), now = worker.now ?? {}
    // An address of this machine leads nowhere from another one; of several behind one port none has a page.
    const reachable = !host.includes(" ") && (!LOOPBACK.test(host) || LOOPBACK.test(location.hostname))
    const name = reachable ? make("a", { href: worker.url + "/" }, host) : make("span", {}, host)
    return make("div", { class: "worker" },
      make("p", {}, name),
      make("p", { class: `state ${worker.silent ? "wait" : trouble ? "bad" : "good"}` }, make("span", { class: "dot", "aria-hidden": "true" }),
        worker.silent ? `It ${worker.silent}.` : sentence(trouble ?? speed(now.embedded ?? 0, "text"))),
      worker.silent ? null : make("dl", {}, ...pairs([
        ["model", worker.model], ["embedded since its start", short(worker.totals?.embedded)],
        ["from the cache", percent(worker.totals?.embedded ? worker.totals.cache_hits / worker.totals.embedded : null)],
        ["partitions", number(worker.partitions)], ["lag", number(now.lag)],
        ["spent today, by list price", worker.spend?.day_usd == null ? null : `${number(worker.spend.day_usd)} $`],
      ])))
  })
  if (workers.length && workers.every(worker => worker.silent))
    elements.push(make("p", { class: "muted" }, "Lag, cache hits and dead letters come from workers. Name yours with http.workers = [\"http://host:8081\"]."))
  if (!workers.length) elements.push(make("p", { class: "muted" }, "None is asked. Name them with http.workers."))
  at("workers").replaceChildren(...elements)
}

export function showIndex({ vectors, capacity, model, dimensions, space, verdicts, foreign, malformed, version }) {
  at("index").replaceChildren(...pairs([
    ["remembers", `${number(vectors)} of ${number(capacity)} events`],
    ["model", `${model}, ${dimensions} dimensions`],
    ["near-duplicates since the start", number(verdicts?.near_duplicate)],
    ["anomalies", number(verdicts?.anomaly)],
    ["ordinary", number(verdicts?.ordinary)],
    ["judged while warming up", verdicts?.warming_up ? number(verdicts.warming_up) : null],
    ["refused, of other models", foreign ? number(foreign) : null],
    ["unreadable records", malformed ? number(malformed) : null],
    ["vector space", make("span", { class: "id" }, space ?? "")],
    ["version", version],
  ]))
}
