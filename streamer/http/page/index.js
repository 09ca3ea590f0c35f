// The indexer's dashboard.
import { count, History, rate, Tile } from "./charts.js"
import { Feed } from "./feed.js"
import { StreamMap } from "./map.js"
import { at, duration, every, number, percent, sentence, short, showState, speed } from "./page.js"
import { showIndex, showLetters, showWorkers, workerTrouble } from "./parts.js"
import { Search } from "./search.js"

const history = new History(), search = new Search(), like = (id, text) => search.like(id, text)
const feed = new Feed(like), map = new StreamMap(like)
const tiles = [
  { name: "events", title: "Judged", say: rate, note: "verdicts given" },
  { name: "delay", title: "Latency", say: seconds => duration(seconds).split(" "), note: "from text to verdict", floor: .05, hold: true },
  { name: "lag", title: "Lag", say: count, note: "texts not read yet" },
  { name: "hit_share", title: "Cache hits", say: share => percent(share).split(" "), note: "vectors not paid for", hold: true },
  { name: "tokens", title: "Tokens", say: value => [short(value == null ? null : value * 60), "/ min"], note: "sent to the provider", unless: "usd" },
  { name: "usd", title: "Spend", say: value => [number(value, 2), "$ / h"], note: "by list price", floor: .01, only: true },
  { name: "anomalies", title: "Anomalies", say: value => [number(value == null ? null : value * 60), "/ min"], note: "unlike recent events", floor: .02 },
  { name: "dead_letters", title: "Dead letters", say: value => [number(value == null ? null : value * 60), "/ min"], note: "texts without a vector", floor: .02 },
].map(options => new Tile(options))
at("tiles").append(...tiles.map(tile => tile.element))

function stateOf(now) {
  if (now.not_ready) return ["wait", sentence(now.not_ready) + "."]
  if (now.without) return ["bad", `Answers searches, without ${now.without}.`]
  const trouble = (now.workers ?? []).find(worker => !worker.silent && workerTrouble(worker))
  if (trouble) return ["bad", `Worker ${trouble.url.replace(/^https?:\/\//, "")}: ${workerTrouble(trouble)}.`]
  if (!now.vectors) return ["good", "Ready. It waits for the first texts."]
  const pace = now.now?.events ? speed(now.now.events, "event") : "nothing new at the moment"
  if (now.events_missing) return ["wait", `Learning what is ordinary, for ${number(now.events_missing)} more events. ${sentence(pace)}.`]
  return ["good", `All well: ${pace}, ${number(now.vectors)} remembered.`]
}

async function overview() {
  let now
  try {
    now = await history.refresh()
  } catch (error) {
    showState(["bad", `The indexer does not answer: ${error.message}. Trying again …`])
    return
  }
  showState(stateOf(now))
  for (const tile of tiles) tile.show(history)
  feed.why(now)
  showWorkers(now.workers ?? [])
  const letters = (now.workers ?? []).flatMap(worker => worker.dead_letters ?? []).sort((a, b) => b.at - a.at)
  const asked = (now.workers ?? []).some(worker => !worker.silent)
  showLetters(letters, asked ? "None since the workers started." : "Unknown: no worker answers.")
  showIndex(now)
}

addEventListener("keydown", event => {
  if (event.target.matches?.("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return
  if (event.key === "/") { event.preventDefault(); at("search").elements.text.focus() }
  if (event.key === "p") feed.pause(!feed.paused)
  if (event.key === "Escape" && !at("results").hidden) search.close()
})

every(2, overview)
every(1, () => feed.refresh())
every(4, () => map.refresh())
