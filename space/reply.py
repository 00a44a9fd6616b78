"""How a chat is asked, and what it answers: plain values."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ChatOptions:
    """How to answer; the same for every pane. Temperature 0 takes the likeliest token each time."""

    temperature: float = 0.0
    max_new_tokens: int = 256
    seed: int = 0
    system: str = ""
    top_p: float = 0.95  # of no effect at temperature 0


@dataclass(frozen=True, slots=True)
class Reply:
    """One pane's answer so far."""

    label: str
    text: str = ""
    tokens: int = 0
    tokens_per_second: float = 0.0
    done: bool = False
    note: str = ""  # what to know about it, such as "No chat template", or what it waits for
    error: str = ""
