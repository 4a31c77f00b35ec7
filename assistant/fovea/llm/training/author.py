"""Follow-up questions: corrections, the other eye, judgements, consent and the like."""

from __future__ import annotations

from dataclasses import replace

from fovea.llm.base import ImageFact
from fovea.llm.training.phrases import one_of
from fovea.llm.training.references import Reference, reference, someone
from fovea.llm.training.scenes import (
    BIOMARKERS,
    CLASSIFY,
    COMPARE,
    DISC,
    EXPLAIN,
    LESIONS,
    LOOKUP,
    REPORT,
    SIMILAR,
    WITHOUT_HANDLE,
    Scene,
    Wish,
    Writer,
)
from fovea.llm.training.written import written

_ABOUT_NUMBERS = (DISC, BIOMARKERS)


class Author(Writer):
    """Writes scenes for one lesson, follow-ups among them."""

    def as_written(self) -> Scene:
        """A written question, but none that a further tool of the lesson might answer."""
        for _ in range(8):
            made = self.chance.choice(written())
            if not made.part and not any(word in made.question.lower() for word in self.named):
                break
        return self._noisy(made.scene(self.chance))

    def follow_up(self, images: tuple[ImageFact, ...]) -> Scene:
        """A question that only makes sense after another."""
        images = images or (ImageFact("img1"),)
        kind = self.chance.choices(
            ("more", "correct", "other", "judge", "why", "where", "wrap", "alike", "differ",
             "answer", "yes", "again", "fresh"),
            (22, 7, 13, 10, 8, 6, 5, 3, 4, 5, 3, 3, 11),
        )[0]  # fmt: skip
        return getattr(self, f"_after_{kind}")(images)  # type: ignore[no-any-return]

    def _after_more(self, images: tuple[ImageFact, ...], frame: str = "more") -> Scene:
        tool = self._tool()
        before = self._tool()
        ref = reference(images, self.chance, present=True)
        ref = ref if self.chance.random() < 0.3 else someone()
        text = one_of(self.chance, self.talk[frame], y=self._form(tool, "thing", ref))
        if before == LOOKUP and tool in (*_ABOUT_NUMBERS, CLASSIFY, LESIONS):
            before = CLASSIFY if tool != CLASSIFY else DISC
        history = self.earlier(images, before)
        return Scene(images, history, text, (Wish(tool, ref.images),))

    def _after_correct(self, images: tuple[ImageFact, ...]) -> Scene:
        return self._after_more(images, "correct")

    def _after_fresh(self, images: tuple[ImageFact, ...]) -> Scene:
        made = self._single(images)
        return self._dressed(replace(made, history=self.earlier(images)))

    def _after_other(self, images: tuple[ImageFact, ...]) -> Scene:
        if len(images) < 2:
            images = tuple(
                ImageFact(f"img{n}", eye)  # type: ignore[arg-type]
                for n, eye in enumerate(self.chance.choice((("OD", "OS"), (None, None))), 1)
            )
        tool = self._tool()
        while tool in WITHOUT_HANDLE:
            tool = self._tool()
        first, second = self.chance.sample(range(2), 2)
        here = reference(images[:2], self.chance, present=True, target=(first,))
        there = reference(images[:2], self.chance, present=True, target=(second,), other=True)
        target: tuple[int, ...] = (second,)
        if self.chance.random() < 0.1:
            there, target = Reference(self.chance.choice(("both", "both eyes", "both images"))), ()
        history = (("user", self._phrase(tool, here)), ("assistant", self._said(tool)))
        text = one_of(self.chance, self.talk["same_other"], other=there.noun)
        return Scene(images[:2], history, text, (Wish(tool, target),))

    def _after(self, images: tuple[ImageFact, ...], said: str, before: str, then: str) -> Scene:
        text = self.chance.choice(self.talk[said])
        if self.chance.random() < 0.2:
            text = f"{self.chance.choice(('ok,', 'and', 'so', 'hm,', 'thanks.', 'great,'))} {text}"
        return Scene(images, self.earlier(images, before), text, (Wish(then),))

    def _after_judge(self, images: tuple[ImageFact, ...]) -> Scene:
        before = self.chance.choice((*_ABOUT_NUMBERS, *_ABOUT_NUMBERS, CLASSIFY, LESIONS, LOOKUP))
        return self._after(images, "judge", before, LOOKUP)

    def _after_why(self, images: tuple[ImageFact, ...]) -> Scene:
        return self._after(images, "why", CLASSIFY, EXPLAIN)

    def _after_where(self, images: tuple[ImageFact, ...]) -> Scene:
        return self._after(images, "where", LESIONS, LESIONS)

    def _after_wrap(self, images: tuple[ImageFact, ...]) -> Scene:
        return self._after(images, "wrap", self._tool(), REPORT)

    def _after_alike(self, images: tuple[ImageFact, ...]) -> Scene:
        return self._after(images, "alike", self.chance.choice((CLASSIFY, LESIONS)), SIMILAR)

    def _after_differ(self, images: tuple[ImageFact, ...]) -> Scene:
        before = self.chance.choice((DISC, CLASSIFY, BIOMARKERS, LESIONS))
        return self._after(images[:2], "differ", before, COMPARE)

    def _after_yes(self, images: tuple[ImageFact, ...]) -> Scene:
        made = self.earlier(images, CLASSIFY)
        history = (made[0], ("assistant", self.chance.choice(self.talk["bot_offer"])))
        return Scene(images, history, self.chance.choice(self.talk["yes"]), (Wish(REPORT),))

    def _after_again(self, images: tuple[ImageFact, ...]) -> Scene:
        tool = self._tool()
        while tool in {LOOKUP, COMPARE}:
            tool = self._tool()
        asked = self._phrase(tool, someone(self.chance))
        need = self.chance.choice(self.talk["bot_need"])
        said = need if self.chance.random() < 0.7 else self._said(tool)
        text = self.chance.choice(self.talk["again"])
        history = (("user", asked), ("assistant", said))
        return Scene(images[:1], history, text, (Wish(tool),))

    def _after_answer(self, images: tuple[ImageFact, ...]) -> Scene:
        images = images if len(images) > 1 else (ImageFact("img1"), ImageFact("img2"))
        tool = self._tool()
        while tool in WITHOUT_HANDLE:
            tool = self._tool()
        target = self.chance.randrange(len(images))
        ref = reference(images, self.chance, present=True, target=(target,))
        asked = self._phrase(tool, someone(self.chance))
        history = (("user", asked), ("assistant", self.chance.choice(self.talk["bot_ask"])))
        return Scene(images, history, ref.noun, (Wish(tool, (target,)),))
