"""What the demo goes on publishing after its sample: a message a second, now and then a copy or a stranger.

A message is put together of two complaints, so that there are a thousand of them and few are alike.
"""

from __future__ import annotations

from collections import deque
from random import Random
from typing import Final, Literal, NamedTuple, TypeAlias

import orjson

Kind: TypeAlias = Literal["ordinary", "copy", "strange"]

COPY_SHARE: Final = 0.08
STRANGE_SHARE: Final = 0.03
_MOST_PAIRS: Final = 1_000  # of 1,128: those that are not made again yet
_REMEMBERED: Final = 60  # messages that may be copied
_CHANNELS: Final = ("email", "app", "chat", "phone", "scanner", "desk")

COMPLAINTS: Final = (
    "the flowers were frozen when they came",
    "our street has a new name since spring and your map does not know it",
    "the customs form asks for a number that nobody here has",
    "the driver rang once and was gone before I had my shoes on",
    "you billed the pallet twice in October",
    "the locker at the station says full since Sunday",
    "somebody signed for my parcel, and it was not me",
    "the box smells of petrol",
    "I need the delivery before nine, the nurse leaves at half past",
    "the tracking page shows a town that I have never heard of",
    "the lid of the paint burst and ran over the other parcels",
    "our dog ate the card that says where the parcel is",
    "the label printer puts the barcode half off the paper",
    "please bring it to my neighbour in the basement flat",
    "the insurance wants photographs of the damage",
    "the app logs me out whenever I open the map",
    "the scooter courier blocks the cycle lane every noon",
    "the cheese was in your van for five days",
    "I moved to another city and the redirect ended last week",
    "the bicycle came without its front wheel",
    "the shop is closed for holidays and still you send people there",
    "my grandmother cannot lift it, somebody has to carry it up",
    "the weight on the receipt is twice what our scales say",
    "the barrier of the yard is broken, call the porter",
    "the return label opens as an empty page",
    "you left the wine in the sun",
    "the second of three boxes is missing",
    "the bridge is closed, the round takes an hour longer",
    "I paid cash on delivery and got no receipt",
    "the letterbox code was changed on Monday",
    "the mattress came in a torn bag and is wet on one side",
    "the hotel refuses parcels for guests who have left",
    "the text message names the wrong day",
    "our school kitchen waits for forty kilos of rice",
    "the scanner's battery dies after ten stops",
    "the name on the bell is misspelled, I am the third floor",
    "you promised a voucher and it is expired",
    "the lift is out of order until Thursday",
    "the aquarium has a crack from corner to corner",
    "the snow chains of van twelve are missing",
    "the express surcharge was taken and the parcel came by slow post",
    "the laptop inside is not the one that I ordered",
    "a swarm of wasps lives in the parcel station",
    "the gate was left open and the sheep are on the road",
    "my password has an umlaut and the terminal refuses it",
    "the driver was kind and waited until I had found my passport",
    "the medicine has to stay below eight degrees",
    "nobody answers at the depot after four",
)
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
        self._pairs: dict[frozenset[str], None] = {}  # oldest first

    def next(self) -> Trickled:
        kind, text = self._message()
        if kind != "strange":
            self._recent.append(text)
        self._count += 1
        id = f"live-{self._count:04}"
        value = {"id": id, "channel": self._random.choice(_CHANNELS), "text": text}
        return Trickled(id.encode(), orjson.dumps(value), kind, text)

    def _message(self) -> tuple[Kind, str]:
        chance = self._random.random()
        if chance < COPY_SHARE and self._recent:
            original = self._random.choice(self._recent)
            polite = self._random.choice(("", *_POLITE))
            return "copy", polite + (original[0].lower() + original[1:] if polite else original)
        if chance > 1 - STRANGE_SHARE:
            return "strange", self._stranger()
        return "ordinary", self._complaint()

    def _complaint(self) -> str:
        while True:
            pair = self._random.sample(COMPLAINTS, 2)
            if frozenset(pair) not in self._pairs:
                break
        self._pairs[frozenset(pair)] = None
        if len(self._pairs) > _MOST_PAIRS:
            del self._pairs[next(iter(self._pairs))]
        first, second = pair
        return f"{first[0].upper()}{first[1:]}.{self._random.choice(_JOINTS)}{second}."

    def _stranger(self) -> str:
        """Each by itself at first, then two together."""
        if not self._strangers:
            self._strangers = self._random.sample(STRANGERS, len(STRANGERS))
            self._rounds += 1
        stranger = self._strangers.pop()
        return stranger if self._rounds == 1 else f"{stranger} {self._random.choice(STRANGERS)}"
