"""Small files of strangers: whatever they hold, the check ends in findings, and never in a traceback."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from merging.checks.config import check_configs
from merging.checks.facts import Facts, parse_object, template_of
from merging.checks.tokenizer import check_tokenizers
from merging.compatibility import Check, check
from merging.findings import Finding
from merging.recipe import Input, ModelRef, Recipe
from tests.merging.crafted import BASE, CONFIG, TOKENIZER, changed, weights, write_model
from tests.merging.models import opened

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
configs = st.dictionaries(
    st.sampled_from(["rope_parameters", "rope_scaling", "rope_theta", "architectures", "vocab_size", "hidden_act"]),
    values | st.dictionaries(st.sampled_from(["rope_theta", "factor", "rope_type", "type"]), values, max_size=4),
)
words = st.dictionaries(st.sampled_from(["type", "vocab", "merges"]), values | st.lists(values, max_size=3))
tokenizers = values | st.fixed_dictionaries(
    {}, optional={"model": values | words, "added_tokens": values, "decoder": values}
)


@pytest.fixture
def models(tmp_path: Path) -> Recipe:
    """A base and a fine-tune of it."""
    write_model(tmp_path / "base")
    write_model(tmp_path / "tuned", weights(1, near=BASE))
    base, tuned = ModelRef(str(tmp_path / "base")), ModelRef(str(tmp_path / "tuned"))
    return Recipe("task_arithmetic", (Input(tuned, {"weight": 1.0}),), base)


def with_file(recipe: Recipe, model: str, file: str, content: str | None) -> Check:
    """The check after one file of the base or the fine-tune was replaced, or removed."""
    path = Path(str(recipe.base)).with_name(model) / file
    path.unlink() if content is None else path.write_text(content)
    return check(recipe, opened(recipe), out=path.parent)


def found_in(found: Check, id: str) -> Finding:
    return next(f for f in found.findings if f.id == id)


@pytest.mark.parametrize(("model", "level"), [("base", "block"), ("tuned", "warn")])
@pytest.mark.parametrize("content", [None, "{}"])
def test_a_missing_config_is_no_agreement(models: Recipe, model: str, level: str, content: str | None):
    found = with_file(models, model, "config.json", content)
    assert found_in(found, "no-config").level == level
    assert not any(f.id == "config" for f in found.findings)


@pytest.mark.parametrize(("model", "level"), [("base", "block"), ("tuned", "warn")])
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rope_theta": "abc"}, "rope_theta is 'abc', it must be a number"),
        ({"rope_parameters": {"rope_theta": "abc"}}, "rope_parameters.rope_theta is 'abc', it must be a number"),
        ({"rope_parameters": {"rope_theta": [1]}}, "rope_parameters.rope_theta is [1], it must be a number"),
        ({"rope_scaling": {"factor": "x"}}, "rope_scaling.factor is 'x', it must be a number"),
        ({"rope_parameters": {"full": {"factor": True}}}, "rope_parameters.full.factor is True, it must be a number"),
        ({"rope_scaling": 5}, "rope_scaling is 5, it must be a mapping"),
    ],
)
def test_a_config_with_nonsense_is_named(models: Recipe, model: str, level: str, changes: dict[str, Any], words: str):
    finding = found_in(with_file(models, model, "config.json", json.dumps(changed(CONFIG, **changes))), "broken-config")
    assert finding.level == level
    assert "config.json" in finding.title and words in finding.title


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "not a JSON object"),
        ("[]", "not a JSON object"),
        ('{"model": 7}', "model is 7"),
        (json.dumps(changed(TOKENIZER, added_tokens=5)), "added_tokens is 5, it must be a list"),
        (json.dumps(changed(TOKENIZER, model={"vocab": {}, "merges": 5})), "model.merges is 5, it must be a list"),
        (json.dumps(changed(TOKENIZER, model={"vocab": {}, "merges": [1, 2]})), "model.merges has 1"),
        (json.dumps(changed(TOKENIZER, model={"vocab": "x"})), "model.vocab is 'x'"),
    ],
)
def test_a_tokenizer_with_nonsense_is_named(models: Recipe, content: str, words: str):
    """It blocks in the model that gives the merge its tokenizer, and is only not compared in another."""
    finding = found_in(with_file(models, "base", "tokenizer.json", content), "broken-tokenizer")
    assert finding.level == "block" and "tokenizer.json" in finding.title and words in finding.title
    (Path(str(models.base)) / "tokenizer.json").write_text(json.dumps(TOKENIZER))
    finding = found_in(with_file(models, "tuned", "tokenizer.json", content), "no-tokenizer")
    assert finding.level == "warn" and words in finding.values[0]


def test_a_chat_template_of_odd_names_is_read():
    assert template_of({"chat_template": [{"name": ["a"], "template": "{{ x }}"}]}) == "{{ x }}"


def facts(recipe: Recipe, **given: Any) -> list[Facts]:
    """A model like any other, and one with these facts."""
    checkpoint = opened(recipe)[recipe.models[0].model]
    plain = Facts("a/plain", checkpoint, CONFIG, {}, json.dumps(TOKENIZER).encode(), {}, None)
    return [plain, replace(plain, label="a/odd", **given)]


quick = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@quick
@given(config=configs)
@example(config={"rope_theta": 10**400})
def test_any_config_gives_findings(models: Recipe, config: dict[str, Any]):
    pair = facts(models, config=config)
    assert [*check_configs(pair)] and [*check_configs(pair[::-1])]


@quick
@given(tokenizer=tokenizers, tokenizer_config=values)
def test_any_tokenizer_gives_findings(models: Recipe, tokenizer: Any, tokenizer_config: Any):
    read = parse_object(json.dumps(tokenizer_config).encode()) or {}
    template_of({"chat_template": tokenizer_config})
    pair = facts(models, tokenizer=json.dumps(tokenizer).encode(), tokenizer_config=read)
    assert [*check_tokenizers(pair)] and [*check_tokenizers(pair[::-1])]
