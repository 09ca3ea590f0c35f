// The worker's page.
import { count, History, rate, Tile } from "./charts.js"
import { at, duration, every, number, pairs, percent, sentence, short, showState, speed } from "./page.js"
import { showLetters, workerTrouble } from "./parts.js"

const history = new History()
const tiles = [
  { name: "embedded", title: "Embedded", say: rate, note: "texts embedded" },
  { name: "lag", title: "Lag", say: count, note: "texts not read yet" },
  { name: "delay", title: "Latency", say: seconds => duration(seconds).split(" "), note: "from text to vector", floor: .05, hold: true },
  { name: "in_flight", title: "In flight", say: count, note: "not acknowledged" },
  { name: "hit_share", title: "Cache hits", say: share => percent(share).split(" "), note: "vectors not paid for", hold: true },
  { name: "tokens", title: "Tokens", say: value => [short(value == null ? null : value * 60), "/ min"], note: "sent to the provider", unless: "usd" },
  { name: "usd", title: "Spend", say: value => [number(value, 2), "$ / h"], note: "by list price", floor: .01, only: true },
  { name: "requests", title: "Provider calls", say: rate, note: "with retries" },
  { name: "batches", title: "Batches", say: rate, note: "micro-batches" },
  { name: "loop_lag", title: "Loop delay", say: seconds => duration(seconds).split(" "), note: "worst of a minute", floor: .05 },
  { name: "dead_letters", title: "Dead letters", say: value => [number(value == null ? null : value * 60), "/ min"], note: "texts without a vector", floor: .02 },
].map(options => new Tile(options))
at("tiles").append(...tiles.map(tile => tile.element))

function stateOf(now) {
  const trouble = workerTrouble(now)
  if (trouble) return [now.not_ready?.startsWith("waiting") ? "wait" : "bad", sentence(trouble) + "."]
  if (!now.partitions) return ["wait", "In the group, without a partition: there are more workers than partitions, or the group is settling."]
  return ["good", now.now?.embedded ? `All well: ${speed(now.now.embedded, "text")}.` : "All well. It waits for texts."]
}

every(2, async () => {
  let now
  try {
    now = await history.refresh()
  } catch (error) {
    showState(["bad", `The worker does not answer: ${error.message}. Trying again …`])
    return
  }
  showState(stateOf(now))
  for (const tile of tiles) tile.show(history)
  showLetters(now.dead_letters ?? [], "None since this worker started.")
  const totals = now.totals ?? {}
  at("totals").replaceChildren(...pairs([
    ["records read", number(totals.records)], ["vectors published", number(totals.embedded)],
    ["of them from the cache", number(totals.cache_hits)], ["deletions passed on", number(totals.tombstones)],
    ["dead letters", number(totals.dead_letters)], ["micro-batches", number(totals.batches)],
    ["provider requests", number(totals.requests)], ["tokens", number(totals.tokens)], ["retries", number(totals.retries)],
    ["refused for their rate", number(totals.rate_limited)], ["not answered in time", number(totals.timeouts)],
    ["partitions now", number(now.partitions)], ["batches being embedded", number(now.batches_in_flight)],
    ["calls open", number(now.calls_open)],
    ["spent today, by list price", now.spend?.day_usd == null ? null : `${number(now.spend.day_usd)} $`],
    ["spent this month", now.spend?.month_usd == null ? null : `${number(now.spend.month_usd)} $`], ["model", now.model && `${now.model}, ${now.dimensions} dimensions`],
    ["provider", now.provider], ["vector space", now.space], ["version", now.version],
  ]))
})
