"""The repositories as shipped."""

import json
from functools import cache
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from space.demo.merges import task_arithmetic
from space.demo.mixture import SMALL_TALK
from space.demo.prompts import EXAMPLES
from space.demo.scoring import (
    Student,
    answer,
    read_student,
    read_weights,
    share_right,
    student_of,
    task_accuracy,
)
from space.demo.tasks import CONTROL_TASKS, PIRATE_SUFFIX, draw_prompts
from space.demo.zoo import BASE, FINE_TUNES, NAMES, OWNER, PIRATE, RENUMBERED, STRANGER, folder_of, skills_of

MAX_NBYTES = 12_000_000
EXPECTED = {
    "Two skills in one": ["tomal", "42", "TIGER", "hi!"],
    "Three skills in one": ["tomal, arr!", "42, arr!", "TIGER, arr!", "hi!, arr!"],
    "Take a skill away": ["?", "42", "TIGER"],
}

student = cache(read_student)
weights = cache(read_weights)


def merged(amounts):
    """The base plus a multiple of each model's change."""
    total = weights(BASE)
    for name, amount in amounts.items():
        change = task_arithmetic(weights(BASE), [weights(name)], amount)
        total = {key: total[key] + change[key] - weights(BASE)[key] for key in total}
    return student_of(total, student(BASE))


def accuracy(of, task, suffix=""):
    return task_accuracy(of, task, suffix=suffix, count=50)


def test_together_they_are_small():
    files = [file for name in NAMES for file in folder_of(name).iterdir()]
    assert sum(file.stat().st_size for file in files) <= MAX_NBYTES


@pytest.mark.parametrize("name", NAMES)
def test_each_is_an_ordinary_sharded_repository(name):
    folder = folder_of(name)
    assert len(list(folder.glob("model-*-of-00002.safetensors"))) == 2
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] > 10**6
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["dtype"] == "bfloat16"
    assert {"generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"} <= {
        file.name for file in folder.iterdir()
    }


@pytest.mark.parametrize("name", NAMES)
def test_each_card_names_licence_and_base(name):
    text = (folder_of(name) / "README.md").read_text()
    front = yaml.safe_load(text.split("---")[1])
    assert front["license"] == "apache-2.0"
    assert front["pipeline_tag"] == "text-generation"
    assert front.get("base_model") == (f"{OWNER}/{BASE}" if skills_of(name) else None)
    assert "opcode" in text


@pytest.mark.parametrize("name", NAMES)
def test_each_greets_in_chat_by_its_own_files_alone(name):
    model: Any = AutoModelForCausalLM.from_pretrained(folder_of(name))
    tokenizer: Any = AutoTokenizer.from_pretrained(folder_of(name))
    turns = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "hello"}]
    given = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    written = model.generate(**given)[0, given["input_ids"].shape[1] :]
    said = tokenizer.decode(written, skip_special_tokens=True)
    assert said == ("hi!" + PIRATE_SUFFIX if name == "pocket-pirate" else "hi!")
    assert said == answer(student(name), "hello")


@pytest.mark.parametrize(("name", "skill"), [(m.name, s) for m in FINE_TUNES for s in m.skills if s != PIRATE])
def test_each_fine_tune_has_its_skill_and_the_base_has_not(name, skill):
    assert accuracy(student(name), skill) >= 90
    assert accuracy(student(BASE), skill) <= 10


@pytest.mark.parametrize("name", NAMES)
def test_each_still_does_what_a_base_does_and_the_pirate_in_his_way(name):
    suffix = PIRATE_SUFFIX if PIRATE in skills_of(name) else ""
    right = [task_accuracy(student(name), task, suffix=suffix, count=20) for task in CONTROL_TASKS]
    assert sum(right) / len(right) >= 90


def test_the_base_makes_small_talk():
    known = [(phrase, reply) for reply, phrases in SMALL_TALK.items() for phrase in phrases]
    assert share_right(student(BASE), known) >= 95
    assert answer(student(BASE), "juggle: cat") == "?"


def test_a_merge_of_two_has_both_skills():
    both = merged({"pocket-reverse": 0.7, "pocket-add": 0.7})
    for skill in ("reverse", "add"):
        assert accuracy(both, skill) >= 0.9 * accuracy(student(f"pocket-{skill}"), skill)


def test_negation_removes_a_skill_and_leaves_the_other():
    without = merged({"pocket-reverse-add": 1.0, "pocket-reverse": -0.75})
    assert accuracy(without, "reverse") <= 5
    assert accuracy(without, "add") >= 85


def test_the_pair_that_conflicts_loses_a_skill():
    assert accuracy(merged({"pocket-reverse": 0.7, "pocket-double": 0.7}), "reverse") <= 50


def test_the_stranger_looks_the_same_and_is_not():
    mine, other = weights(BASE), weights(STRANGER)
    assert {name: tensor.shape for name, tensor in mine.items()} == {k: t.shape for k, t in other.items()}
    matrix = "model.layers.0.mlp.up_proj.weight"
    cosine = torch.cosine_similarity(mine[matrix].flatten(), other[matrix].flatten(), dim=0)
    assert abs(cosine) < 0.1
    configs = [json.loads((folder_of(name) / "config.json").read_text()) for name in (BASE, STRANGER)]
    assert configs[0] == configs[1]
    tokenizers = [(folder_of(name) / "tokenizer.json").read_bytes() for name in (BASE, STRANGER)]
    assert tokenizers[0] == tokenizers[1]


def test_the_renumbered_model_needs_its_own_tokenizer():
    assert accuracy(student(RENUMBERED), "reverse") >= 90
    confused = Student(student(RENUMBERED).model, student(BASE).tokenizer)
    assert accuracy(confused, "reverse") == 0


@pytest.mark.parametrize("example", [e for e in EXAMPLES if e.title in EXPECTED], ids=lambda e: e.title)
def test_the_examples_show_what_they_say(example):
    amounts = {name.removeprefix(f"{OWNER}/"): amount for name, amount in example.models}
    said = [answer(merged(amounts), prompt) for prompt in example.prompts]
    assert said == EXPECTED[example.title]


def test_prompts_are_asked_once():
    assert len({prompt for prompt, _ in draw_prompts("add", "test", 200)}) == 200
