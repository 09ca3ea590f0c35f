// Two texts beside each other, with the words marked in which they differ.
import { make } from "./page.js"

const MOST_WORDS = 160
const WORDS = /[\p{L}\p{N}]+(?:['’][\p{L}\p{N}]+)*|[^\s\p{L}\p{N}]/gu

// For each text its pieces: [piece, whether it is not in the other].
export function differences(left, right) {
  const [a, b] = [left, right].map(text => [...text.matchAll(WORDS)].slice(0, MOST_WORDS))
  const same = (i, j) => a[i][0].toLowerCase() === b[j][0].toLowerCase()
  // What both begin and end with is the same for certain; in between, as many words as can be are.
  let begin = 0, end = 0
  const least = Math.min(a.length, b.length)
  while (begin < least && same(begin, begin)) begin++
  while (end < least - begin && same(a.length - 1 - end, b.length - 1 - end)) end++
  const lengths = Array.from({ length: a.length + 1 }, () => new Uint16Array(b.length + 1))
  const [ends, other] = [a.length - end, b.length - end]
  for (let i = ends - 1; i >= begin; i--)
    for (let j = other - 1; j >= begin; j--)
      lengths[i][j] = same(i, j) ? lengths[i + 1][j + 1] + 1 : Math.max(lengths[i + 1][j], lengths[i][j + 1])
  const common = [new Set(), new Set()]
  for (let k = 0; k < begin; k++) common.forEach(words => words.add(k))
  for (let k = 0; k < end; k++) { common[0].add(ends + k); common[1].add(other + k) }
  for (let i = begin, j = begin; i < ends && j < other;) {
    if (same(i, j)) { common[0].add(i++); common[1].add(j++) }
    else if (lengths[i + 1][j] >= lengths[i][j + 1]) i++
    else j++
  }
  return [pieces(left, a, common[0]), pieces(right, b, common[1])]
}

function pieces(text, words, common) {
  const found = []
  let end = 0
  words.forEach((word, i) => {
    const next = word.index + word[0].length
    const differs = !common.has(i), last = found.at(-1)
    // Two marked words are marked with what is between them.
    if (differs && last?.[1]) last[0] += text.slice(end, next)
    else {
      if (word.index > end) found.push([text.slice(end, word.index), false])
      found.push([word[0], differs])
    }
    end = next
  })
  if (end < text.length) found.push([text.slice(end), false])
  return found
}

export function paragraph(text, marked) {
  if (text == null) return make("p", { class: "text missing" }, "text not kept")
  const parts = marked ? marked.map(([piece, differs]) => differs ? make("mark", {}, piece) : piece) : [text]
  return make("p", { class: "text" }, ...parts)
}

// A button that shows a long text as a whole, or nothing.
export function unfold(...paragraphs) {
  if (!paragraphs.some(each => each.textContent.length > 320)) return null
  return make("button", {
    class: "plain", type: "button", "aria-expanded": "false", onclick: event => {
      const open = event.target.getAttribute("aria-expanded") !== "true"
      paragraphs.forEach(each => each.classList.toggle("whole", open))
      event.target.setAttribute("aria-expanded", open)
      event.target.textContent = open ? "Show less" : "Show all"
    },
  }, "Show all")
}
