"""What a model is asked: the messages of a conversation, in the words of its own chat template."""

from dataclasses import dataclass
from typing import Any

from evaluation.renderer import RENDERER, TemplateError
from merging.errors import MergeError

Message = dict[str, str]  # role and content

NO_TEMPLATE = "No chat template: plain completion."
NO_SYSTEM = "Its chat template takes no system prompt: it stands before the first message."


@dataclass(frozen=True, slots=True)
class Prompt:
    ids: Any  # a tensor of shape (1, tokens)
    note: str = ""


def make_prompt(tokenizer: Any, messages: list[Message], system: str) -> Prompt:
    """Raises MergeError when the model's template cannot take the conversation."""
    if not tokenizer.chat_template:
        text = "\n".join(([system] if system else []) + [m["content"] for m in messages])
        return Prompt(tokenizer(text, return_tensors="pt")["input_ids"], NO_TEMPLATE)
    if not system:
        return Prompt(render(tokenizer, messages))
    try:
        return Prompt(render(tokenizer, [{"role": "system", "content": system}, *messages]))
    except MergeError:  # several families refuse the role; asked of all panes alike, so it is put elsewhere
        return Prompt(render(tokenizer, with_system(messages, system)), NO_SYSTEM)


def with_system(messages: list[Message], system: str) -> list[Message]:
    first, *rest = messages
    return [{**first, "content": f"{system}\n\n{first['content']}"}, *rest]


def render(tokenizer: Any, messages: list[Message]) -> Any:
    """Token ids, as `apply_chat_template` would give them, but for where the template is run. What a person types is
    never read as a control token, such as the end of their turn."""
    try:
        text = in_template(tokenizer, messages)
        return tokenizer(text, add_special_tokens=False, sanitize_control_tokens=True, return_tensors="pt")["input_ids"]
    except (TemplateError, ValueError) as e:
        raise MergeError(f"Its chat template cannot take this conversation: {e}. Clear the chat, or leave the system "
                         "prompt empty.") from e  # fmt: skip


def in_template(tokenizer: Any, messages: list[Message]) -> str:
    """The conversation in the words of the template, up to where the answer begins; what people typed is marked where
    it looks like a control token, for `sanitize_control_tokens`."""
    return RENDERER.render(question_of(tokenizer, messages))


def question_of(tokenizer: Any, messages: list[Message]) -> dict[str, Any]:
    """All that a rendering depends on, but for the time of day."""
    return {
        "template": tokenizer.get_chat_template(), "messages": messages, "tokens": tokenizer.special_tokens_map,
        "added": [(token.content, token.special) for token in tokenizer.added_tokens_decoder.values()],
        "control": tokenizer.chat_control_tokens,
    }  # fmt: skip
