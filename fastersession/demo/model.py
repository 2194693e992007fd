"""The protocol of a model, and the built-in model, which needs no download.

Rules of residence: words in, words out. No HTTP, no session, no ASGI. A model sees the turns of the conversation as
plain dicts, and remembers nothing: all that it knows of earlier turns comes out of the session.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Literal, Protocol, TypedDict


class Turn(TypedDict):
    """One question with its answer; a conversation is made of turns."""

    question: str
    answer: str
    status: Literal["running", "done", "stopped", "error"]
    error: str


class ModelError(Exception):
    """There is no answer, or no complete one. The text is for the person who chats."""


class Model(Protocol):
    """Answers the last of ``turns``, piece by piece, with knowledge of the earlier ones.

    What it yields before a `ModelError` or a cancellation is the partial answer.
    """

    name: str

    def answer(self, turns: Sequence[Turn]) -> AsyncGenerator[str, None]:
        """Stream the answer. Closing or cancelling the generator ends its work."""


class BuiltinModel:
    """Deterministic small talk. It quotes the conversation, which proves that the session kept it."""

    name = "built-in"

    def __init__(self, delay: float = 0.035) -> None:
        self._delay = delay

    async def answer(self, turns: Sequence[Turn]) -> AsyncGenerator[str, None]:
        """Yield the reply word by word, at about the speed of a small language model."""
        for word in re.findall(r"\S+\s*", reply(turns)):
            await asyncio.sleep(self._delay)
            yield word


def reply(turns: Sequence[Turn]) -> str:
    """Return the answer to the last turn, of the first rule that recognises it."""
    talk = _Talk(turns)
    return next(text for text in (rule(talk) for rule in _RULES) if text)


# The rules read only the beginning of a question, so 64 KiB of text cost nothing.
_LOOK_AT = 400
_QUOTE = 240
_COUNT = 500

_NAME = re.compile(r"\b(?:my name(?:'s| is)|call me)\s+([^\W\d_][\w'-]*(?: [A-Z][\w'-]*)*)", re.I)
_NUMBER = re.compile(r"\bcount (?:up )?to (\d{1,6})\b", re.I)
_ORDINALS = {"first": 1, "second": 2, "third": 3, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7}
_SPEECH = {"say", "said", "ask", "asked", "tell", "told", "write", "wrote", "message", "messages"}
_SPEECH |= {"question", "questions", "thing", "things", "word", "words", "turn", "turns"}
_ASKING = {"what", "which", "how", "repeat", "quote", "remember", "remind"}


class _Talk:
    """The conversation as the rules need it: the question, its words, and what came before."""

    def __init__(self, turns: Sequence[Turn]) -> None:
        self.questions = [turn["question"] for turn in turns]
        self.answers = [turn["answer"] for turn in turns[:-1] if turn["answer"]]
        self.earlier = self.questions[:-1]
        self.now = self.questions[-1][:_LOOK_AT].replace("\u2019", "'")
        self.words = set(re.findall(r"[\w']+", self.now.lower()))

    def has(self, *words: str) -> bool:
        return not self.words.isdisjoint(words)

    @property
    def looks_back(self) -> bool:
        """Whether the question asks for something said: "the first thing to do is …" does not."""
        return not (self.words.isdisjoint(_SPEECH) or self.words.isdisjoint(_ASKING))

    @property
    def said(self) -> tuple[str, list[str]]:
        """Whose words the question asks for, and all of them: "what did you say" means the answers."""
        if self.has("you", "your") and not self.has("i", "my", "me"):
            return "I", self.answers
        return "you", self.earlier

    @property
    def name(self) -> str | None:
        """The last name that was given, in this turn or an earlier one."""
        for question in reversed(self.questions):
            if found := _NAME.search(question[:_LOOK_AT].replace("\u2019", "'")):
                return found[1][:60]
        return None


def _quote(text: str) -> str:
    text = " ".join(text.split())
    return f"\u201c{text if len(text) <= _QUOTE else text[:_QUOTE] + '…'}\u201d"


def _introduced(talk: _Talk) -> str | None:
    if not _NAME.search(talk.now):
        return None
    return f"Nice to meet you, {talk.name}! Ask me for your name whenever you like: it is in your session now."


def _name(talk: _Talk) -> str | None:
    if not ({"my", "name"} <= talk.words or {"who", "am", "i"} <= talk.words):
        return None
    if talk.name:
        return f"Your name is {talk.name}. You told me so earlier, and your session kept it."
    return "You have not told me yet. Say \u201cMy name is …\u201d, and ask again."


def _who_are_you(talk: _Talk) -> str | None:
    if not ({"your", "name"} <= talk.words or {"who", "are", "you"} <= talk.words):
        return None
    return "I am the built-in model: a few rules and no neurons. The memory is not mine, it is the session's."


def _how_many(talk: _Talk) -> str | None:
    if not ({"how", "many"} <= talk.words and talk.looks_back):
        return None
    count = len(talk.questions)
    if count == 1:
        return "One thing so far: this very question."
    return f"You have said {count} things, counting this one. The first was {_quote(talk.questions[0])}."


def _ordinal(talk: _Talk) -> str | None:
    asked = next((number for word, number in _ORDINALS.items() if word in talk.words), None)
    if asked is None or not talk.looks_back:
        return None
    who, said = talk.said
    if asked <= len(said):
        return f"{who.capitalize()} said {_quote(said[asked - 1])}."
    if not said:
        return f"Nothing came before: the first thing you said is this question, {_quote(talk.now)}."
    return f"We are not that far yet: so far there {'is only one' if len(said) == 1 else f'are only {len(said)}'}."


def _last(talk: _Talk) -> str | None:
    if not (talk.looks_back and talk.has("last", "before", "previous", "previously", "earlier", "just")):
        return None
    who, said = talk.said
    if not said:
        return "Nothing yet: this is where our conversation starts."
    return f"Just before this, {who} said {_quote(said[-1])}."


def _everything(talk: _Talk) -> str | None:
    if not (talk.has("everything", "list", "summarise", "summarize", "recap", "remember") and talk.earlier):
        return None
    listed = "\n".join(f"{number}. {_quote(text)}" for number, text in enumerate(talk.earlier, 1))
    return f"This is what you have told me so far:\n{listed}"


def _count(talk: _Talk) -> str | None:
    if not (found := _NUMBER.search(talk.now)):
        return None
    return " ".join(map(str, range(1, min(int(found[1]), _COUNT) + 1))) + "."


def _story(talk: _Talk) -> str | None:
    if not talk.has("story", "tale", "poem", "long"):
        return None
    hero = talk.name or "a traveller"
    first = _quote(talk.questions[0])
    return _STORY.format(hero=hero, first=first, count=len(talk.questions))


def _small_talk(talk: _Talk) -> str | None:
    name = f", {talk.name}" if talk.name else ""
    if talk.has("hello", "hi", "hey", "hallo", "bonjour"):
        again = " again" if talk.earlier else ""
        return f"Hello{again}{name}! Tell me something, then ask me what you said first."
    if talk.has("thanks", "thank"):
        return f"You are welcome{name}. Reload the page if you like: I will still know."
    if talk.has("bye", "goodbye"):
        return f"Goodbye{name}! As long as your browser stays open, so does our conversation."
    if talk.has("help") or {"what", "can", "you"} <= talk.words:
        return "Ask me what you said first, what you said before, how many things you said, or tell me your name."
    return None


def _otherwise(talk: _Talk) -> str:
    said = _quote(talk.questions[-1])
    if not talk.earlier:
        return f"You said {said}, and I will remember it. Say some more, then ask me: what did I say first?"
    back = _LOOKING_BACK[len(talk.earlier) % len(_LOOKING_BACK)]
    first, last = _quote(talk.earlier[0]), _quote(talk.earlier[-1])
    return back.format(said=said, number=len(talk.questions), first=first, last=last)


_LOOKING_BACK = (
    "That makes {number} things you have told me. It began with {first}, and now we are at {said}.",
    "I see: {said}. A moment ago it was {last}, and I have not forgotten that either.",
    "Noted: {said}. Reload the page, or come back in an hour: it will still be here.",
)

_STORY = """\
Once upon a time there was {hero}, who lived in a house where every sentence was forgotten as soon \
as it was spoken. Questions went out of the door and never found their way home.

One morning {hero} said {first}, and for once the words did not fade. They lay on the table, a \
little surprised at themselves. A clerk in a grey coat came by, wrote them on a card, and put the \
card into a drawer with a long number on it. “Keep the key,” said the clerk. “It opens only this drawer.”

So {hero} came back, again and again, {count} times in all, and the drawer was always there. When \
a storm tore the line in the middle of a sentence, the half sentence was in the drawer in the \
morning. When somebody else rattled at the lock with a key of their own making, nothing opened.

And when {hero} had heard enough and closed the drawer for good, the clerk took the card and \
burned it, and no late letter ever brought it back. The end."""

_RULES: tuple[Callable[[_Talk], str | None], ...] = (
    _introduced, _name, _who_are_you, _how_many, _ordinal, _last, _count, _story, _everything, _small_talk, _otherwise,
)  # fmt: skip
