"""The tokenizer of the generated checkpoints: as large as a real one, with invented merges."""

import json
from itertools import islice, product
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers

SPECIAL = ("<|begin_of_text|>", "<|end_of_text|>")  # the last two ids


def build_tokenizer(size: int) -> Tokenizer:
    """A byte-level BPE tokenizer of `size` tokens: bytes, then pairs of bytes, then threes."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pairs = product(letters, letters)
    threes = ((a + b, c) for a, b, c in product(letters, letters, letters))
    merges = list(islice((m for some in (pairs, threes) for m in some), size - len(letters) - len(SPECIAL)))
    tokens = [*letters, *("".join(merge) for merge in merges)]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    return tokenizer


def write_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    begin, end = SPECIAL
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": begin, "eos_token": end}
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2))
