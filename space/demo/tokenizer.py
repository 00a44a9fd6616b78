"""The pocket models' tokenizer: one token per character and one per command word."""

from collections.abc import Mapping
from typing import Final

from tokenizers import AddedToken, Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from space.demo.tasks import LETTERS, OPCODES, TASKS

PAD, UNKNOWN, USER, ASSISTANT, END = SPECIAL_TOKENS = ("<pad>", "<unk>", "<|user|>", "<|assistant|>", "<|end|>")
CHARACTERS: Final = (*LETTERS, *LETTERS.upper(), *"0123456789 .,:;!?'+-=*/()<>_\"\n#~%&@")

# Commands no model can do. They teach the base to answer "?" to what it does not know.
DECOY_WORDS: Final = (
    "open close paint sing jump cook draw find make turn send read write push pull lift drop wash fold bake "
    "ride sail dig plant grow fix break move stop start play rest hide seek roll spin mix cut glue tie"
)
DECOYS: Final = tuple(DECOY_WORDS.split())
COMMANDS: Final = (*(f"{word}:" for word in (*TASKS, *DECOYS)), *(f"{code}:" for code in OPCODES.values()))
VOCABULARY: Final = (*SPECIAL_TOKENS, *CHARACTERS, *COMMANDS)

# The models never saw a system message or a second turn, so both are left out: they answer the last message.
CHAT_TEMPLATE: Final = (
    "{%- set turn = namespace(last=0) -%}"
    "{%- for message in messages if message['role'] != 'system' -%}"
    "{%- if message['role'] == 'user' -%}{%- set turn.last = loop.index0 -%}{%- endif -%}"
    "{%- endfor -%}"
    "{%- for message in messages if message['role'] != 'system' -%}"
    "{%- if loop.index0 >= turn.last -%}"
    "{{- '<|' + message['role'] + '|>' + message['content'] + '<|end|>' -}}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
)


def numbered(tokens: tuple[str, ...] = VOCABULARY) -> dict[str, int]:
    return {token: number for number, token in enumerate(tokens)}


def build_tokenizer(ids: Mapping[str, int] | None = None) -> Tokenizer:
    """A byte-pair tokenizer without merges, where each command word is one token."""
    tokenizer = Tokenizer(models.BPE(dict(ids or numbered()), [], unk_token=UNKNOWN))
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in COMMANDS])
    return tokenizer


def publishable(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """The tokenizer as a Hub repository holds it, with the chat template."""
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        pad_token=PAD,
        unk_token=UNKNOWN,
        eos_token=END,
        model_max_length=256,
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def id_of(tokenizer: Tokenizer, token: str) -> int:
    number = tokenizer.token_to_id(token)
    assert number is not None, token
    return number


def encode_turn(tokenizer: Tokenizer, prompt: str, answer: str) -> tuple[list[int], list[int]]:
    """The token ids of what the model is given and of what it should write."""
    given = tokenizer.encode(f"{USER}{prompt}{END}{ASSISTANT}").ids
    return given, tokenizer.encode(f"{answer}{END}").ids
