"""What a model is asked: the messages of a conversation, in the words of its own chat template."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from merging.errors import MergeError
from space.renderer import RENDERER, TemplateError

Message = dict[str, str]  # role and content

NO_TEMPLATE = "No chat template: plain completion."
NO_SYSTEM = "Its chat template takes no system prompt: it stands before the first message."


@dataclass(frozen=True, slots=True)
class Prompt:
    ids: Any  # a tensor of shape (1, tokens)
    note: str = ""


def plain_messages(messages: Sequence[Mapping[str, Any]], *, max_chars: int) -> list[Message]:
    """Role and text of each message. Gradio gives lists of blocks, which a template would print as such."""
    plain = [{"role": str(m.get("role", "")), "content": plain_text(m.get("content", ""))} for m in messages]
    if not plain or plain[-1]["role"] != "user" or not plain[-1]["content"].strip():
        raise MergeError("There is no message to answer. Write one.")
    for message in plain:
        if message["role"] not in ("user", "assistant"):
            raise MergeError(f"A message has the role {message['role']!r}; user and assistant are known here.")
        if message["role"] == "user" and len(message["content"]) > max_chars:
            raise MergeError(f"The message has {len(message['content']):,} characters; {max_chars:,} can be sent.")
    return plain


def plain_text(content: Any) -> str:
    if isinstance(content, Mapping):
        content = [content]
    if isinstance(content, list | tuple):
        return "".join(str(b.get("text", "")) if isinstance(b, Mapping) else str(b) for b in content)
    return "" if content is None else str(content)


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
        question = {
            "template": tokenizer.get_chat_template(), "messages": messages, "tokens": tokenizer.special_tokens_map,
            "added": [(token.content, token.special) for token in tokenizer.added_tokens_decoder.values()],
            "control": tokenizer.chat_control_tokens,
        }  # fmt: skip
        text = RENDERER.render(question)
        return tokenizer(text, add_special_tokens=False, sanitize_control_tokens=True, return_tensors="pt")["input_ids"]
    except (TemplateError, ValueError) as e:
        raise MergeError(f"Its chat template cannot take this conversation: {e}. Clear the chat, or leave the system "
                         "prompt empty.") from e  # fmt: skip
