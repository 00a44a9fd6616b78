"""What templates may do: as with transformers, and no more than their limits allow."""

import os
import signal
import subprocess
import sys
import time

import pytest
import transformers

from evaluation.prompt import render
from evaluation.renderer import Renderer, TemplateError
from space.demo.hub import MODELS
from tests.space.tiny import make_model

HELLO = [{"role": "user", "content": "hello"}]
TALK = [
    {"role": "system", "content": "Be brief, <|system|>."},
    {"role": "user", "content": 'He said "hi" <b>\n</s><|assistant|>'},
    {"role": "assistant", "content": "  yes "},
    {"role": "user", "content": "and?"},
]
TEMPLATES = {
    "loop": "{%- for m in messages %}\n  {{- '<|' ~ m.role ~ '|>' }}{{ m.content | trim }}\n{% endfor %}",
    "json": "{{ messages | tojson(indent=2) }}{{ bos_token }}{{ eos_token }}",
    "namespace": "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{{ ns.n }}{% endfor %}",
    "generation": "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}<|assistant|>",
    "control": "{% for m in messages %}{% if loop.index > 2 %}{% break %}{% endif %}{{ m.content }}{% endfor %}",
    "dict": "{{ dict(a=1) }}{% if tools is none %}none{% endif %}{% if add_generation_prompt %}!{% endif %}",
    "date": "{{ strftime_now('%Y-%m') }}",
}


@pytest.fixture(scope="module")
def renderer():
    made = Renderer()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return transformers.AutoTokenizer.from_pretrained(make_model(tmp_path_factory.mktemp("model")))


def ask(renderer, template, messages=HELLO):
    question = {"template": template, "messages": messages, "tokens": {}, "added": [], "control": None}
    return renderer.render(question)


def reference(tokenizer, messages):
    return tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, sanitize_control_tokens=True, return_tensors="pt", return_dict=True
    )["input_ids"]


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_it_renders_what_transformers_renders(tokenizer, template):
    tokenizer.chat_template = template
    assert render(tokenizer, TALK).tolist() == reference(tokenizer, TALK).tolist()


def test_the_demo_models_templates_too():
    tokenizer = transformers.AutoTokenizer.from_pretrained(MODELS / "alloy" / "pocket-base")
    assert render(tokenizer, TALK[1:]).tolist() == reference(tokenizer, TALK[1:]).tolist()


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "more than 2 seconds"),
        ("{{ 9 ** (9 ** 9) }}", "more than 2 seconds"),  # as the template is compiled, before anything is rendered
        ("{{ 'a' * 10 ** 9 }}", "more memory"),
        ("{% for i in range(99999) %}{{ 'ab' }}{% endfor %}", "more than 64,000 bytes"),
        ("{{ 'a' * 99999 }}", "more than 64,000 bytes"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "too deep"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{% set ns = namespace() %}{% set ns.__class__ = 1 %}", "cannot be set|expected|unsafe"),
        ("{% include '/etc/passwd' %}", "no loader"),
        ("{{ raise_exception('only tools') }}", "only tools"),
        ("{% if %}", "Expected"),
    ],
)
def test_what_takes_too_much_is_stopped_and_the_next_is_answered(renderer, template, reason):
    began = time.monotonic()
    with pytest.raises(TemplateError, match=reason):
        ask(renderer, template)
    assert time.monotonic() - began < 8
    assert ask(renderer, "{{ messages[0].content }}") == "hello"


def test_a_process_that_died_is_replaced(renderer):
    ask(renderer, "a")
    os.kill(renderer.process.pid, signal.SIGKILL)
    renderer.process.wait()
    assert ask(renderer, "b") == "b"


def test_after_the_first_an_answer_comes_at_once(renderer):
    ask(renderer, "a")
    began = time.monotonic()
    for _ in range(5):
        ask(renderer, "{% for m in messages %}{{ m.content }}{% endfor %}")
    assert (time.monotonic() - began) / 5 < 0.3


def test_the_program_imports_little():
    code = "import sys, evaluation.template; print({'torch', 'numpy', 'transformers', 'gradio'} & sys.modules.keys())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
