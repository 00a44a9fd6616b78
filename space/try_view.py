"""What the Try stage shows, as HTML: values in, text out. Everything that comes from outside is escaped here, and what
a model writes is shown as harmless Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from merging.recipe import parse_recipe
from space.film import ALL, lambdas
from space.rendered import rendered
from space.reply import Reply

TOGETHER = ("All together", ALL)


@dataclass(frozen=True, slots=True)
class Turn:
    """A prompt, and what the merge of a recipe answered."""

    prompt: str
    recipe: str
    answer: str = ""
    note: str = ""
    error: str = ""


def talk(turns: Sequence[Turn], now: str) -> str:
    """What was said, each answer with the lambdas that it came from; marked where those are not the present ones."""
    if not turns:
        return (
            '<div class="live-talk"><p class="help">Ask something, move a lambda, and ask again. Every answer says '
            "which lambdas it came from.</p></div>"
        )
    said = "".join(shown(turn, old=bool(now) and turn.recipe != now) for turn in reversed(turns))
    return f'<div class="live-talk" role="log" tabindex="0" aria-label="Answers of the merge">{said}</div>'


def shown(turn: Turn, *, old: bool) -> str:
    answer = f'<div class="answer">{rendered(turn.answer)}</div>' if turn.answer else ""
    error = f'<p class="note error" role="alert">{escape(turn.error)}</p>' if turn.error else ""
    said = [f'<span class="lambdas">λ {escape(of(turn.recipe))}</span>'] if turn.recipe else []
    said += ['<span class="older">from older lambdas</span>'] if old else []
    said += [f"<span>{escape(turn.note)}</span>"] if turn.note else []
    return (
        f'<div class="turn{" old" if old else ""}"><p class="asked">{escape(turn.prompt)}</p>{answer}{error}'
        f'<p class="from">{"".join(said)}</p></div>'
    )


def of(recipe_yaml: str) -> str:
    return lambdas(parse_recipe(recipe_yaml))


def in_memory(recipe_yaml: str, seconds: float | None, doing: str = "", *, first: bool = False, error: str = "") -> str:
    """One line: which merge is in memory and how long it took, or what is going on."""
    if error:
        return f'<p class="live-status note error" role="alert">{escape(error)}</p>'
    took = f"{'merged' if first else 're-merged'} in {clock(seconds)}" if seconds is not None else doing or "Re-merging"
    name = f"<b>λ {escape(of(recipe_yaml))}</b>" if recipe_yaml else ""
    return f'<p class="live-status" aria-live="polite">{name}<span>{escape(took)}</span></p>'


def clock(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 0.01 else "under 0.01 s"


def frame(caption: str, said: str = "", reply: Reply | None = None, error: str = "") -> str:
    """One picture of a filmstrip: at which lambdas, and the answer."""
    wrong = error or (reply.error if reply else "")
    text = reply.text if reply else ""
    waits = "" if text or wrong or reply is None or reply.done else reply.note or "Waiting"
    answer = f'<div class="answer">{rendered(text)}</div>' if text else ""
    problem = f'<p class="note error" role="alert">{escape(wrong)}</p>' if wrong else ""
    wait = f'<p class="help">{escape(waits)}</p>' if waits else ""
    head = f'<p class="caption"><b>{escape(caption)}</b> <span>λ {escape(said)}</span></p>' if caption else ""
    return f'<div class="shot">{head}{answer}{problem}{wait}</div>'
