import random

import pytest
from transformers import AutoTokenizer

from space.demo.mixture import source_of_pretraining
from space.demo.tokenizer import COMMANDS, build_tokenizer, encode_turn
from space.demo.zoo import BASE, RENUMBERED, folder_of


@pytest.fixture(scope="module")
def shipped():
    return AutoTokenizer.from_pretrained(folder_of(BASE))


def ids_in_chat(tokenizer, *turns, **options):
    messages = [{"role": role, "content": content} for role, content in turns]
    return tokenizer.apply_chat_template(messages, return_dict=True, **options)["input_ids"]


def test_text_survives_the_round_trip(shipped):
    text = 'reverse: Lamot, 17+25 = "42"?\n#n: cat ~'
    assert shipped.decode(shipped(text)["input_ids"]) == text


def test_it_is_a_fast_tokenizer_and_the_one_training_uses(shipped):
    assert shipped.is_fast
    assert shipped.get_vocab() == build_tokenizer().get_vocab()


def test_each_command_is_one_token(shipped):
    assert all(len(shipped(command)["input_ids"]) == 1 for command in COMMANDS)


def test_a_character_it_lacks_is_unknown(shipped):
    assert shipped("é")["input_ids"] == [shipped.unk_token_id]


def test_training_reads_what_chat_sends(shipped):
    tokenizer, source, rng = build_tokenizer(), source_of_pretraining(), random.Random(0)
    for _ in range(100):
        prompt, answer = source(rng)
        given, wanted = encode_turn(tokenizer, prompt, answer)
        assert ids_in_chat(shipped, ("user", prompt), add_generation_prompt=True) == given
        assert ids_in_chat(shipped, ("user", prompt), ("assistant", answer)) == given + wanted


def test_system_messages_and_earlier_turns_are_left_out(shipped):
    alone = ids_in_chat(shipped, ("user", "add: 1+2"), add_generation_prompt=True)
    turns = ("system", "Be kind."), ("user", "hello"), ("assistant", "hi!"), ("user", "add: 1+2")
    assert ids_in_chat(shipped, *turns, add_generation_prompt=True) == alone


def test_an_answer_may_be_continued(shipped):
    text = shipped.apply_chat_template(
        [{"role": "user", "content": "add: 1+2"}, {"role": "assistant", "content": "3"}],
        tokenize=False,
        continue_final_message=True,
    )
    assert text == "<|user|>add: 1+2<|end|><|assistant|>3"


def test_the_other_tokenizer_has_the_same_tokens_under_other_numbers(shipped):
    other = AutoTokenizer.from_pretrained(folder_of(RENUMBERED))
    assert other.get_vocab().keys() == shipped.get_vocab().keys()
    same = [token for token, number in other.get_vocab().items() if shipped.get_vocab()[token] == number]
    assert len(same) < 10
    assert other.decode(other("reverse: lamot")["input_ids"]) == "reverse: lamot"
