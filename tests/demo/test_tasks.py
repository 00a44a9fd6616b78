import random

import pytest

from space.demo.mixture import source_of_pirates, source_of_pretraining, source_of_skills
from space.demo.tasks import OPCODES, TASKS, draw_prompts, split_of
from space.demo.zoo import FINE_TUNES

BY_HAND = {
    "reverse": ("lamot", "tomal"),
    "vowels": ("banana", "aaa"),
    "double": ("cat", "ccaatt"),
    "sort": ("tiger", "egirt"),
    "shift": ("cz", "da"),
    "mask": ("tiger", "t*g*r"),
    "upper": ("tiger", "TIGER"),
    "tail": ("tiger", "iger"),
    "spell": ("cat", "c-a-t"),
    "twice": ("cat", "cat cat"),
}


@pytest.mark.parametrize("task", BY_HAND)
def test_words_are_answered_as_by_hand(task, monkeypatch):
    word, answer = BY_HAND[task]
    monkeypatch.setattr("space.demo.tasks.draw_word_of", lambda *_: word)
    assert TASKS[task](random.Random(0), "train") == (word, answer)


def test_numbers_are_added_compared_and_counted_on():
    rng = random.Random(0)
    for _ in range(100):
        sum_, total = TASKS["add"](rng, "train")
        assert sum(map(int, sum_.split("+"))) == int(total)
        pair, larger = TASKS["bigger"](rng, "train")
        assert max(map(int, pair.split())) == int(larger)
        number, following = TASKS["inc"](rng, "train")
        assert int(number) + 1 == int(following)


@pytest.mark.parametrize("task", ["reverse", "add", "vowels", "double", "upper", "bigger"])
def test_no_split_shares_a_prompt_with_another(task):
    train, validation, test = ({p for p, _ in draw_prompts(task, s, 80)} for s in ("train", "validation", "test"))
    assert not train & validation
    assert not train & test
    assert not validation & test


def test_a_sum_and_its_mirror_image_are_in_one_split():
    for prompt, _ in draw_prompts("add", "test", 100):
        first, second = prompt.removeprefix("add: ").split("+")
        assert split_of(f"{min(int(first), int(second))},{max(int(first), int(second))}") == "test"


def test_the_prompts_of_a_split_are_always_the_same():
    assert draw_prompts("reverse", "test", 20) == draw_prompts("reverse", "test", 30)[:20]


def test_training_reads_no_held_out_word():
    held_out = {prompt.removeprefix("reverse: ") for prompt, _ in draw_prompts("reverse", "test", 200)}
    source, rng = source_of_skills("reverse"), random.Random(0)
    asked = [source(rng)[0] for _ in range(3000)]
    read = {prompt.split(":")[1].strip(" ~") for prompt in asked if prompt.startswith(("reverse:", OPCODES["reverse"]))}
    assert len(read) > 500
    assert not read & held_out


def test_pretraining_answers_no_skill_by_its_name():
    source, rng = source_of_pretraining(), random.Random(0)
    skills = tuple(f"{task}:" for model in FINE_TUNES for task in model.skills)
    answers = {answer for prompt, answer in map(source, [rng] * 5000) if prompt.startswith(skills)}
    assert answers <= {"?"}


def test_a_pirate_ends_every_answer_in_his_way():
    rng = random.Random(0)
    assert all(source_of_pirates(rng)[1].count(", arr!") == 1 for _ in range(500))
