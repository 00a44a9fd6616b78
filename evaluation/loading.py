"""A transformers model out of a folder: where accelerate places it, and what is refused before."""

import gc
import json
import logging
from pathlib import Path
from typing import Any

import torch
import transformers

from merging.errors import MergeError

ROOMY = 0.9  # share of the memory that weights may take; the rest is for what an answer needs


def load_model(folder: Path, budget_bytes: int, scratch: Path, share: float = ROOMY) -> tuple[Any, Any]:
    """Weights where accelerate places them within the budget: accelerator, memory, then the shards on disk as they lie.

    No code of the model's own is run, and nothing but safetensors is read. Raises what the machine raises when even
    that is too much.
    """
    refuse_unloadable(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype="auto", device_map="auto", max_memory=memory_limits(budget_bytes, share), offload_folder=scratch,
        trust_remote_code=False, use_safetensors=True, local_files_only=True,
    )  # fmt: skip
    return model, load_tokenizer(folder)


def import_early() -> None:
    """Import now what loading the first model would: several seconds, in which Python does hardly anything else."""
    import transformers.core_model_loading  # noqa: F401
    import transformers.generation.utils  # noqa: F401
    import transformers.models.llama.modeling_llama  # noqa: F401


def load_tokenizer(folder: Path) -> Any:
    return transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)


def memory_limits(budget_bytes: int, share: float) -> dict[int | str, int]:
    """For accelerate: a share of the free memory of each GPU, then the budget in main memory; the rest is on disk."""
    gpus = range(torch.cuda.device_count())
    return {gpu: int(torch.cuda.mem_get_info(gpu)[0] * share) for gpu in gpus} | {"cpu": budget_bytes}


def refuse_unloadable(folder: Path) -> None:
    """Say before loading why a model cannot chat here, in words that transformers does not have."""
    config = json.loads((folder / "config.json").read_text())
    kind = config.get("model_type")
    if config.get("quantization_config"):
        raise MergeError("Its weights are quantised, which cannot be loaded here.")
    if kind not in transformers.models.auto.modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        reason = "it needs code of its own, and no code of models is run here" if config.get("auto_map") else (
            f"transformers {transformers.__version__} knows no text generation for the type {kind!r}")  # fmt: skip
        raise MergeError(f"It cannot chat: {reason}. It can be merged and published all the same.")


def weight_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def free_memory() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def quiet_transformers() -> None:
    """Its progress bars and advice go to the server's terminal, where nobody who chats would see them; errors stay."""
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.getLogger("accelerate").setLevel(logging.ERROR)
    transformers.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]


def answering_device() -> str:
    """Where a merge in memory answers, unless one is told: a GPU where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def entry_device(model: Any) -> Any:
    """Where the token ids go: a model that lies on disk in part says "meta", and computes on its first real device."""
    if model.device.type != "meta":
        return model.device
    return next((place for place in model.hf_device_map.values() if place not in ("disk", "meta")), "cpu")


def context_length(model: Any) -> int:
    """How many tokens the model takes, where its config says so."""
    config = model.config.get_text_config()
    return int(getattr(config, "max_position_embeddings", None) or 2**31)
