"""How people refer to photographs: this one, the second, the left eye, both."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from fovea.llm.base import ImageFact
from fovea.llm.training.phrases import lines, word_lists

_ORDINAL = ("first", "second", "third", "fourth")
_NUMBER = ("one", "two", "three", "four")
_SIDES = {"OD": ("right eye", "OD", "right one", "right side"),
          "OS": ("left eye", "OS", "left one", "left side")}  # fmt: skip
_NAMED = ("image", "photo", "picture", "photograph", "eye", "one", "scan", "fundus")
_BOTH = ("both eyes", "both images", "both photos", "each eye", "both", "each image", "the two",
         "the two pictures", "either eye", "both pictures", "left and right eye",
         "OD and OS")  # fmt: skip
_EVERY = ("all images", "all photos", "each of them", "every picture", "all of them", "all eyes")
_OTHERS = """
the other one
the other eye
the other image
the other
the fellow eye
the other photo
the other side
that other picture
"""
_THIS = ("this", "this", "this", "the", "my", "her", "his", "that", "our", "the attached")


@dataclass(frozen=True)
class Reference:
    """A noun phrase for photographs.

    Attributes:
        noun: Such as "the second image".
        images: Places of the photographs it means; none means all.
        must: It has to be said, or the sentence would mean other photographs.
        absent: It names an eye that no photograph of the session shows.
    """

    noun: str
    images: tuple[int, ...] = ()
    must: bool = False
    absent: bool = False


def someone(chance: random.Random | None = None) -> Reference:
    """A reference to whatever is there."""
    if chance is None:
        return Reference("it")
    word = chance.choice(word_lists()["image"])
    return Reference(f"{chance.choice(_THIS)} {word}")


def reference(
    images: Sequence[ImageFact],
    chance: random.Random,
    *,
    present: bool = False,
    target: tuple[int, ...] | None = None,
    other: bool = False,
) -> Reference:
    """A way to refer to one or all photographs of a session.

    Args:
        images: Photographs of the session.
        chance: Source of randomness.
        present: Never an eye that no photograph shows.
        target: The photographs to refer to; drawn when omitted.
        other: "The other one" is understood.
    """
    if len(images) < 2:
        return _only(images, chance, present=present)
    if target is None:
        if chance.random() < 0.3:
            return someone(chance)
        target = (chance.randrange(len(images)),)
        if chance.random() < 0.25:
            words = _BOTH if len(images) == 2 else _EVERY
            return Reference(chance.choice(words), must=True)
    place = target[0]
    eye = images[place].eye
    if other and chance.random() < 0.5:
        others = lines(_OTHERS)
        return Reference(chance.choice(others), target, must=True)
    alone = eye is not None and [i.eye for i in images].count(eye) == 1
    if alone and chance.random() < 0.6:
        article = chance.choice(("the ", "the ", "her ", "his ", "my ", ""))
        noun = chance.choice(_SIDES[eye])  # type: ignore[index]
        return Reference(noun if noun.isupper() else article + noun, target, must=True)
    return Reference(_by_number(place, len(images), chance), target, must=True)


def _by_number(place: int, count: int, chance: random.Random) -> str:
    noun = chance.choice(_NAMED)
    if place == count - 1 and chance.random() < 0.12:
        return f"the last {noun}"
    return chance.choice(
        (
            f"img{place + 1}", f"img{place + 1}", f"image {place + 1}", f"photo {place + 1}",
            f"the {_ORDINAL[place]} {noun}", f"the {_ORDINAL[place]} {noun}",
            f"{noun} {_NUMBER[place]}", f"the {_ORDINAL[place]} one", f"the {_ORDINAL[place]}",
            f"image number {place + 1}", f"picture #{place + 1}", f"{_ORDINAL[place]} {noun}",
        )
    )  # fmt: skip


def _only(images: Sequence[ImageFact], chance: random.Random, *, present: bool) -> Reference:
    if images and chance.random() < 0.08:
        said = chance.choice(("OD", "OS"))
        known = images[0].eye
        absent = known is not None and known != said
        if not (absent and present):
            noun = chance.choice(_SIDES[said])
            article = "" if noun.isupper() else chance.choice(("the ", "her ", "his ", "my "))
            return Reference(article + noun, must=absent, absent=absent)
    return someone(chance)
