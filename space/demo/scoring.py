"""How well a model does: the share of held-out prompts that it answers exactly right."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from space.demo.fitting import NOT_SCORED, batch
from space.demo.merges import Weights
from space.demo.mixture import Example
from space.demo.results import Grades
from space.demo.tasks import CONTROL_TASKS, PIRATE_SUFFIX, Split, draw_prompts
from space.demo.zoo import MODELS, PIRATE, folder_of

CONTROL = "control"
PROMPTS = {"train": 200, "validation": 80, "test": 200}
CONTROL_PROMPTS = {"train": 100, "validation": 40, "test": 100}  # of each control task


@dataclass(frozen=True, slots=True)
class Student:
    """A model in memory with its tokenizer."""

    model: LlamaForCausalLM
    tokenizer: PreTrainedTokenizerFast

    @property
    def encoder(self) -> Tokenizer:
        return self.tokenizer.backend_tokenizer


def read_student(name: str, models: Path = MODELS) -> Student:
    folder = folder_of(name, models)
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return Student(model, PreTrainedTokenizerFast.from_pretrained(folder))


def read_weights(name: str, models: Path = MODELS) -> Weights:
    shards = sorted(folder_of(name, models).glob("*.safetensors"))
    return {key: tensor.float() for shard in shards for key, tensor in load_file(shard).items()}


def student_of(weights: Weights, like: Student) -> Student:
    """A model of the same make with other weights."""
    model = LlamaForCausalLM(like.model.config)
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert missing == ["lm_head.weight"] and not unexpected, (missing, unexpected)
    model.tie_weights()
    model.generation_config = like.model.generation_config
    return Student(model, like.tokenizer)


@torch.no_grad()
def share_right(student: Student, examples: Sequence[Example]) -> float:
    """Percent of the answers whose every token is the most likely one: what greedy decoding would write."""
    inputs, targets = batch(student.encoder, examples)
    said = student.model(input_ids=inputs, use_cache=False).logits.argmax(-1)
    right = ((said == targets) | (targets == NOT_SCORED)).all(1)
    return 100 * float(right.float().mean())


def grade(student: Student, skills: tuple[str, ...], split: Split = "test") -> Grades:
    """Each skill and the base's tasks. Where the pirate is among the skills, he must answer everything."""
    suffix = PIRATE_SUFFIX if PIRATE in skills else ""
    grades = {task: task_accuracy(student, task, split, suffix) for task in skills if task != PIRATE}
    control = [task_accuracy(student, task, split, suffix, CONTROL_PROMPTS[split]) for task in CONTROL_TASKS]
    return grades | {PIRATE if suffix else CONTROL: sum(control) / len(control)}


def task_accuracy(student: Student, task: str, split: Split = "test", suffix: str = "", count: int = 0) -> float:
    prompts = draw_prompts(task, split, count or PROMPTS[split])
    return share_right(student, [(prompt, answer + suffix) for prompt, answer in prompts])


@torch.no_grad()
def answer(student: Student, prompt: str, longest: int = 48) -> str:
    """What a person sees in chat: the most likely token, again and again, until the model ends its turn."""
    turn = [{"role": "user", "content": prompt}]
    text = student.tokenizer.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
    given = student.encoder.encode(str(text)).ids
    written: list[int] = []
    while len(written) < longest and written[-1:] != [student.tokenizer.eos_token_id]:
        logits = student.model(input_ids=torch.tensor([given + written]), use_cache=False).logits
        written.append(int(logits[0, -1].argmax()))
    return str(student.encoder.decode(written, skip_special_tokens=True))
