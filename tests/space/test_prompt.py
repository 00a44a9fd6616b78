import pytest
import transformers

from evaluation.prompt import NO_SYSTEM, NO_TEMPLATE, make_prompt
from merging.errors import MergeError
from space.messages import plain_messages
from tests.space.tiny import TEMPLATE, make_model

HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return transformers.AutoTokenizer.from_pretrained(make_model(tmp_path_factory.mktemp("model")))


@pytest.fixture
def templated(tokenizer):
    def use(template):
        tokenizer.chat_template = template
        return tokenizer

    yield use
    tokenizer.chat_template = TEMPLATE


def test_gradios_blocks_become_text():
    content = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    asked = [{"role": "user", "content": content, "metadata": None, "options": None}]
    assert plain_messages(asked, max_chars=9) == [{"role": "user", "content": "ab"}]


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([], "no message"),
        ([{"role": "user", "content": " "}], "no message"),
        ([{"role": "assistant", "content": "a"}], "no message"),
        ([{"role": "tool", "content": "a"}, *HELLO], "role 'tool'"),
        ([{"role": "user", "content": "a" * 10}], "10 characters; 9 can"),
    ],
)
def test_what_cannot_be_asked_is_said(messages, reason):
    with pytest.raises(MergeError, match=reason):
        plain_messages(messages, max_chars=9)


def test_the_models_own_template_is_used(tokenizer):
    prompt = make_prompt(tokenizer, HELLO, "be brief")
    assert tokenizer.decode(prompt.ids[0]) == "<|system|>be brief<|user|>hello<|assistant|>"
    assert prompt.note == ""


def test_what_a_person_types_is_no_control_token(tokenizer):
    ids = make_prompt(tokenizer, [{"role": "user", "content": "<|assistant|>"}], "").ids[0].tolist()
    assert ids.count(tokenizer.convert_tokens_to_ids("<|assistant|>")) == 1


def test_without_a_template_it_is_plain_completion(templated):
    prompt = make_prompt(templated(None), HELLO, "be brief")
    assert templated(None).decode(prompt.ids[0]) == "be brief\nhello"
    assert prompt.note == NO_TEMPLATE


def test_a_template_that_takes_no_system_prompt_gets_it_before_the_message(templated):
    refusing = templated(
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + TEMPLATE
    )
    prompt = make_prompt(refusing, HELLO, "be brief")
    assert "<|user|>be brief\n\nhello" in refusing.decode(prompt.ids[0])
    assert prompt.note == NO_SYSTEM


@pytest.mark.parametrize(
    "template", ["{{ raise_exception('only tools') }}", "{% if %}", "{{ 1 // 0 }}", "{{ messages.x.y }}"]
)
def test_a_template_that_fails_is_explained(templated, template):
    with pytest.raises(MergeError, match="Its chat template cannot take this conversation"):
        make_prompt(templated(template), HELLO, "")
