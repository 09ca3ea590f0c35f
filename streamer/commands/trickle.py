"""What the demo goes on publishing after its sample: a message a second, now and then a copy, once a minute a stranger.

A message is put together of a thing, what happened to it, a place, what is wrong there, somebody and what they want, so
that there are tens of millions of them and few are alike.
"""

from __future__ import annotations

from collections import deque
from random import Random
from typing import Final, Literal, NamedTuple, TypeAlias

import orjson

Kind: TypeAlias = Literal["ordinary", "copy", "strange"]

COPY_SHARE: Final = 0.08
# One a minute, at a message a second. More often, and they would be ordinary: one in a hundred is told.
STRANGE_EVERY: Final = 60
_MOST_USED: Final = 750  # pairs that are not used again yet
_REMEMBERED: Final = 60  # messages that may be copied
_CHANNELS: Final = ("email", "app", "chat", "phone", "scanner", "desk")

THINGS: Final = (
    "bouquet", "bicycle", "wheel of cheese", "case of wine", "mattress", "laptop", "tin of paint", "aquarium",
    "insulin", "violin", "wedding dress", "printer", "coffee machine", "winter tyre", "floor lamp", "sack of rice",
    "passport", "chess set", "saddle", "garden chair", "hearing aid", "oven", "atlas", "pair of boots",
    "contact lens", "tray of seedlings", "mirror", "drone", "birthday cake", "spare key", "beehive", "telescope",
)  # fmt: skip
MISHAPS: Final = (
    "came frozen", "got wet on the terrace", "went to a town that I have never heard of",
    "was signed for by somebody else", "smells of petrol", "weighs twice as much on your bill as on our scales",
    "should have been here on Monday", "lay in the sun all day", "came in pieces",
    "is with a hotel that will not hand it out", "went back before the date on your card", "was billed twice",
    "is held at customs for want of a number", "has a stranger's label on it", "was thrown over the fence",
    "is lost between two depots", "was swapped for a box of screws", "does not fit through our door",
    "has been out for delivery since Friday", "came on the day that I cancelled it",
)  # fmt: skip
PLACES: Final = (
    "at the depot", "in the basement flat", "at the station locker", "on the third floor", "in the school kitchen",
    "at the petrol station shop", "on the mountain road", "in your app", "at the harbour gate", "in the old town",
    "at the nursing home", "behind the theatre", "on the ferry", "in the high-rise by the park", "at the farm",
    "at the airport counter", "in the pedestrian zone", "at the lawyer's office",
)  # fmt: skip
EVENTS: Final = (
    "nobody answers after four", "the lift is out of order", "the dog ate the notification card",
    "the barrier is broken", "the doorbell has a new name", "the scanner gives up after ten stops",
    "the driver waited kindly until I had found my glasses", "a swarm of wasps has moved in",
    "they want cash and give no receipt", "the code was changed on Sunday", "the screen shows an empty page",
    "the porter wants a written permission", "deliveries are taken before nine only", "the bridge is closed",
    "they have run out of labels", "the queue goes round the block", "the van blocks the cycle lane every noon",
    "somebody left the gate open and the sheep are on the road",
)  # fmt: skip
PEOPLE: Final = (
    "My landlord", "Our choir", "The dentist next door", "My sister in Lisbon", "The football club", "My tax adviser",
    "The bride", "A colleague on night shift", "My grandson", "Our beekeeper", "The caretaker", "My physiotherapist",
    "The village shop", "Our head chef", "The orchestra", "My daughter's teacher", "The man at the quay", "Our vet",
)  # fmt: skip
WISHES: Final = (
    "wants the money back before the month is out", "would take a voucher instead",
    "asks for the name of your manager", "will write to the newspaper", "needs a new invoice with the tax on it",
    "has a photograph of all of it", "would rather fetch it by tram", "is leaving for Norway tonight",
    "insists on a signature from now on", "can lend you a ladder", "has cancelled the subscription",
    "is happy to wait until spring", "counted eleven of these this year", "has found a better carrier",
    "left a note under the mat", "would like to speak Polish with somebody", "does not read email on Sundays",
    "cannot lift more than ten kilos", "has paid by cheque already", "is recording every call",
)  # fmt: skip
STRANGERS: Final = (
    "Whisk the egg yolks with sugar until pale, then fold in the flour and bake for half an hour.",
    "SELECT count(*) FROM orders JOIN customers USING (id) GROUP BY region HAVING count(*) > 10;",
    "The comet passes its perihelion in March and will be seen low above the western horizon.",
    "Traceback (most recent call last): IndexError: list index out of range in module parser, line 88",
    "In the sonata the theme comes back in the relative minor, over a pedal point of the left hand.",
    "Le chat dort sur le toit, et la pluie ne le dérange pas du tout.",
    "The goalkeeper dived to his left and turned the penalty round the post in the last minute.",
    "A prime greater than three is one more or one less than a multiple of six.",
    "The senate voted by a narrow majority to send the bill on water rights back to committee.",
    "Der Gletscher hat in diesem Sommer so viel Eis verloren wie in keinem anderen.",
    "Photosynthesis turns light into sugar in the green parts of a leaf, and gives off oxygen.",
    "0x7f 0x45 0x4c 0x46 0x02 0x01 0x01 0x00 0x00 0x00 0x00 0x00",
    "Ridge tiles overlap by a third, and lead flashing is dressed into the joints of the chimney.",
    "The central bank left its rate unchanged and spoke of patience with the price of housing.",
    "Orchids in the wild live on trees and drink the mist through a veil of silver roots.",
    "Knit two, purl two to the end of the row, then turn and slip the first stitch.",
)
_JOINTS: Final = (" And ", " Besides, ", " Also ", " What is more, ", " By the way, ")
_POLITE: Final = ("Hello, ", "Good morning, ", "Once more: ", "To the depot: ", "Please help: ")


class Trickled(NamedTuple):
    """A record to publish, and what it is."""

    key: bytes
    value: bytes
    kind: Kind
    text: str


class Trickle:
    """The same seed gives the same messages."""

    def __init__(self, seed: int = 0) -> None:
        self._random = Random(seed)  # noqa: S311  # nothing is secret here
        self._count = 0
        self._recent: deque[str] = deque(maxlen=_REMEMBERED)
        self._strangers: list[str] = []
        self._rounds = 0
        self._used: dict[tuple[str, str], None] = {}  # oldest first

    def next(self) -> Trickled:
        kind, text = self._message()
        if kind != "strange":
            self._recent.append(text)
        self._count += 1
        id = f"live-{self._count:04}"
        value = {"id": id, "channel": self._random.choice(_CHANNELS), "text": text}
        return Trickled(id.encode(), orjson.dumps(value), kind, text)

    def _message(self) -> tuple[Kind, str]:
        if self._count % STRANGE_EVERY == STRANGE_EVERY // 2:
            return "strange", self._stranger()
        if self._random.random() < COPY_SHARE and self._recent:
            original = self._random.choice(self._recent)
            polite = self._random.choice(("", *_POLITE))
            return "copy", polite + (original[0].lower() + original[1:] if polite else original)
        return "ordinary", self._complaint()

    def _complaint(self) -> str:
        while True:
            choose = self._random.choice
            parcel, place, wish = pairs = (
                (choose(THINGS), choose(MISHAPS)),
                (choose(PLACES), choose(EVENTS)),
                (choose(PEOPLE), choose(WISHES)),
            )
            if not any(pair in self._used for pair in pairs):
                break
        for pair in pairs:
            self._used[pair] = None
        while len(self._used) > _MOST_USED:
            del self._used[next(iter(self._used))]
        return f"The {' '.join(parcel)}.{choose(_JOINTS)}{' '.join(place)}. {' '.join(wish)}."

    def _stranger(self) -> str:
        """Each by itself at first, then two together."""
        if not self._strangers:
            self._strangers = self._random.sample(STRANGERS, len(STRANGERS))
            self._rounds += 1
        stranger = self._strangers.pop()
        return stranger if self._rounds == 1 else f"{stranger} {self._random.choice(STRANGERS)}"
