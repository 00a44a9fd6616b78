"""Each finding, by the smallest pair of models that has it; and none of them where all is well."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from merging.checkpoint import Folder, open_checkpoint
from merging.checks import cost
from merging.checks.lambdas import check_lambdas
from merging.compatibility import KINDS, Check, check
from merging.engine import Options
from merging.findings import Finding, counted
from merging.methods import METHODS
from merging.recipe import Input, ModelRef, Recipe
from tests.merging.crafted import BASE, CARD, CONFIG, TOKENIZER, TOKENIZER_CONFIG, changed, weights, write_model

Make = Callable[..., Check]
FINE = weights(1, near=BASE)


def with_added(*tokens: str, start: int = 4) -> dict[str, Any]:
    added = [{"id": start + n, "content": t, "special": True} for n, t in enumerate(tokens)]
    return changed(TOKENIZER, added_tokens=[*TOKENIZER["added_tokens"], *added])  # type: ignore[misc]


def with_vocabulary(**changes: Any) -> dict[str, Any]:
    return changed(TOKENIZER, model=changed(TOKENIZER["model"], **changes))  # type: ignore[arg-type]


def without(name: str) -> dict[str, Any]:
    return {k: v for k, v in FINE.items() if k != name}


Q = "model.layers.1.self_attn.q_proj.weight"

# id -> level, whether an override may help, and what the second model has that gives the finding
GIVES: dict[str, tuple[str, bool, dict[str, Any]]] = {
    "different-architecture": ("block", True, {"config": changed(CONFIG, model_type="mistral")}),
    "different-sizes": ("block", True, {"config": changed(CONFIG, num_attention_heads=8)}),
    "rope": ("warn", True, {"config": changed(CONFIG, rope_theta=500000.0)}),
    "norm-epsilon": ("warn", True, {"config": changed(CONFIG, rms_norm_eps=1e-6)}),
    "tied-embeddings": ("block", False, {"config": changed(CONFIG, tie_word_embeddings=True)}),
    "context-length": ("warn", True, {"config": changed(CONFIG, max_position_embeddings=4096)}),
    "other-config": ("warn", True, {"config": changed(CONFIG, attention_bias=True)}),
    "quantised": ("block", False, {"config": changed(CONFIG, quantization_config={"quant_method": "gptq"})}),
    "remote-code": ("block", False, {"config": changed(CONFIG, auto_map={"AutoModel": "x.py--X"})}),
    "declared-base": ("warn", True, {"card": CARD.replace("acme/base", "acme/another")}),
    "heavy-training": ("warn", True, {"arrays": weights(1, near=BASE, distance=0.5)}),
    "different-base": ("block", True, {"arrays": weights(7)}),
    "not-finite": ("block", False, {"arrays": {k: np.full_like(v, np.nan) for k, v in FINE.items()}}),
    "different-tokenizer": ("block", False, {"tokenizer": with_vocabulary(vocab={"b": 1, "a": 2, "ab": 3})}),
    "extra-tokens": ("warn", True, {"tokenizer": with_added("<|tool|>")}),
    "special-tokens": ("warn", True, {"tokenizer_config": changed(TOKENIZER_CONFIG, eos_token="a")}),
    "tokenizer-rules": ("warn", True, {"tokenizer": changed(TOKENIZER, pre_tokenizer={"type": "ByteLevel"})}),
    "no-tokenizer": ("warn", True, {"tokenizer": None}),
    "no-config": ("warn", True, {"config": {}}),
    "broken-config": ("warn", True, {"config": changed(CONFIG, rope_parameters={"rope_theta": "abc"})}),
    "chat-template": ("warn", True, {"tokenizer_config": changed(TOKENIZER_CONFIG, chat_template="{{ other }}")}),
    "missing-tensors": ("block", False, {"arrays": without(Q)}),
    "extra-tensors": ("block", False, {"arrays": {**FINE, "model.extra.weight": np.ones(4, "f4")}}),
    "different-shapes": ("block", False, {"arrays": {**FINE, Q: np.ones((32, 64), "f4")}}),
    "mixed-dtypes": ("warn", True, {"arrays": {k: v.astype("f2") for k, v in FINE.items()}}),
    "licence": ("warn", True, {"card": CARD.replace("license: mit\n", "")}),
    "cannot-plan": ("block", False, {"arrays": {**FINE, "model.ids": np.arange(3)}}),
}


@pytest.fixture
def pair(tmp_path: Path) -> Make:
    """The check of a base named acme/base and one fine-tune, which can be told to be something else."""

    def make(recipe: Recipe | None = None, base: dict[str, Any] | None = None, **other: Any) -> Check:
        write_model(tmp_path / "base", **(base or {}))
        write_model(tmp_path / "tuned", **{"arrays": FINE, **other})
        return check_of(recipe or tune(tmp_path), tmp_path)

    return make


def tune(root: Path, **parameters: float) -> Recipe:
    given = {"weight": 1.0} | parameters
    return Recipe("task_arithmetic", (Input(ModelRef(str(root / "tuned")), given),), ModelRef(str(root / "base")))


def check_of(recipe: Recipe, out: Path, options: Options | None = None) -> Check:
    refs = {i.model for i in recipe.models} | ({recipe.base} if recipe.base else set())
    opened = {ref: open_checkpoint(NamedFolder(Path(ref.path))) for ref in refs}
    return check(recipe, opened, options, out=out)


class NamedFolder(Folder):
    """A folder that is known as a repo, as a source on the Hub is."""

    @property
    def repo_id(self) -> str | None:
        return f"acme/{self.path.name}"


def find(found: Check, id: str) -> Finding | None:
    return next((f for f in found.findings if f.id == id), None)


def test_a_fine_tune_of_its_base_is_fine(pair: Make):
    found = pair()
    assert {f.level for f in found.findings} == {"ok"}, found.findings
    assert not found.blocked and found.plan and found.seconds > 0
    assert {"config", "base", "lineage", "tokenizer", "tensors", "lambdas", "licence", "cost"} == {
        f.id for f in found.findings
    }


@pytest.mark.parametrize("id", GIVES)
def test_each_fault_has_its_finding(pair: Make, id: str):
    level, computable, other = GIVES[id]
    given = {"base": {"arrays": {**BASE, "model.ids": np.arange(3).astype("i4")}}} if id == "cannot-plan" else {}
    found = pair(**given, **other)
    finding = find(found, id)
    assert finding, [f.id for f in found.findings]
    assert (finding.level, finding.computable) == (level, computable)
    assert len(finding.models) == len(finding.values) > 0
    assert finding.why.endswith(".") and finding.remedy and finding.title.rstrip(")").endswith(".")
    assert found.blocked is (level == "block" or any(f.level == "block" for f in found.findings))


@pytest.mark.parametrize("id", [id for id in GIVES if id != "cannot-plan"])
def test_each_fault_has_its_finding_alone(pair: Make, id: str):
    """No fault sets off another warning, but those that are two faults in truth."""
    beside = {
        "missing-tensors": set(), "not-finite": {"not-finite"}, "remote-code": set(), "quantised": set(),
    }.get(id, set())  # fmt: skip
    found = {f.id for f in pair(**GIVES[id][2]).findings if f.level != "ok"}
    assert found - {id} <= beside


def test_every_kind_of_finding_is_tested():
    good = {"config", "base", "lineage", "tokenizer", "tensors", "lambdas", "cost"}
    elsewhere = {"broken-tokenizer", "identical-weights", "duplicate-models", "not-sampled", "disk", "memory",
                 "stack"}  # fmt: skip
    assert set(GIVES) | good | elsewhere == set(KINDS)


@pytest.mark.parametrize(
    "config",
    [
        {"transformers_version": "4.1", "use_cache": False, "_name_or_path": "somebody/else", "torch_dtype": "float16"},
        {"rope_theta": None, "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"}},
        {"rms_norm_eps": None, "max_position_embeddings": None},
        {"bos_token_id": 1, "eos_token_id": 2},
    ],
)
def test_what_does_not_matter_in_a_config_is_silent(pair: Make, config: dict[str, Any]):
    found = pair(config=changed(CONFIG, **config))
    assert find(found, "config") and not any(f.level != "ok" for f in found.findings)


def test_the_language_part_of_a_larger_model_is_compared(pair: Make):
    inner = {"text_config": changed(CONFIG, architectures=None, model_type=None), "vision_config": {"x": 1}}
    outer = {"architectures": ["LlavaForCausalLM"], "model_type": "llava", "tie_word_embeddings": False}
    other = {**inner, **outer, "text_config": changed(inner["text_config"], num_attention_heads=8)}
    found = pair(base={"config": {**inner, **outer}}, config=other)
    assert find(found, "different-sizes") and not find(found, "different-architecture")


def test_both_values_are_shown(pair: Make):
    finding = find(pair(config=changed(CONFIG, num_attention_heads=8)), "different-sizes")
    assert finding and [m.rpartition("/")[2] for m in finding.models] == ["base", "tuned"]
    assert finding.values == ("num_attention_heads 4", "num_attention_heads 8")


def test_a_copy_of_the_base_is_noticed(pair: Make):
    finding = find(pair(arrays=BASE), "identical-weights")
    assert finding and finding.level == "warn" and "cosine 1.0000" in finding.values[0]


def test_the_same_model_twice_is_noticed(pair: Make, tmp_path: Path):
    write_model(tmp_path / "copy", FINE)
    recipe = tune(tmp_path)
    twice = replace(recipe, models=(*recipe.models, Input(ModelRef(str(tmp_path / "copy")), {"weight": 0.5})))
    finding = find(pair(twice), "duplicate-models")
    assert finding and len(finding.models) == 2
    assert not find(pair(), "duplicate-models")


def test_without_a_base_the_first_model_is_the_measure(tmp_path: Path):
    for name, arrays in (("a", FINE), ("b", weights(2, near=BASE)), ("c", weights(9))):
        write_model(tmp_path / name, arrays)
    found = check_of(soup(tmp_path, "a", "b"), tmp_path)
    assert not found.blocked and "of one base with" in find(found, "base").title  # type: ignore[union-attr]
    assert find(check_of(soup(tmp_path, "a", "c"), tmp_path), "different-base")


def soup(root: Path, *names: str, **parameters: Any) -> Recipe:
    return Recipe(
        "linear", tuple(Input(ModelRef(str(root / n)), {"weight": 1.0}) for n in names), parameters=parameters
    )


def test_models_without_a_common_matrix_are_not_sampled(pair: Make):
    tiny = {"x": np.ones(8, "f4")}
    found = pair(base={"arrays": tiny}, arrays=tiny)
    assert find(found, "not-sampled").level == "warn"  # type: ignore[union-attr]


@pytest.mark.parametrize(("distance", "id"), [(1e-4, "base"), (0.01, "base"), (0.15, "base"), (0.3, "heavy-training"),
                                              (1.0, "heavy-training"), (3.0, "different-base")])  # fmt: skip
def test_the_distance_decides(pair: Make, distance: float, id: str):
    assert find(pair(arrays=weights(1, near=BASE, distance=distance)), id)


def test_an_adapter_in_disguise_is_named(pair: Make):
    lora = {"model.layers.0.self_attn.q_proj.lora_A.weight": np.ones((4, 64), "f4")}
    assert "is an adapter (LoRA)" in find(pair(arrays=lora), "missing-tensors").remedy  # type: ignore[union-attr]


def test_codes_of_a_quantisation_are_noticed_in_the_tensors(pair: Make):
    packed = {**FINE, Q: np.ones((64, 64), "i1")}
    finding = find(pair(arrays=packed), "quantised")
    assert finding and not finding.computable and Q in finding.values[0]


def test_buffers_of_whole_numbers_are_no_quantisation(pair: Make):
    ids = {"model.position_ids": np.arange(8).reshape(1, 8)}
    assert not pair(base={"arrays": {**BASE, **ids}}, arrays={**FINE, **ids}).blocked


@pytest.mark.parametrize(
    ("tokenizer", "words"),
    [
        (with_vocabulary(vocab={"b": 1, "a": 2, "ab": 3}), "other ids for 2 tokens: 'a' is 1 and 2"),
        (with_vocabulary(vocab={"a": 1, "b": 2}), "1 token of the vocabulary in one only: 'ab'"),
        (with_vocabulary(merges=["b a"]), "join characters by different rules"),
        (with_vocabulary(type="Unigram", vocab=[["<end>", 0], ["a", 0], ["b", 0], ["ab", 0]]), "one is BPE"),
        (changed(TOKENIZER, added_tokens=[{"id": 0, "content": "<other>"}]), "0 is '<end>' and '<other>'"),
    ],
)
def test_how_tokenizers_differ_is_told(pair: Make, tokenizer: dict[str, Any], words: str):
    assert words in find(pair(tokenizer=tokenizer), "different-tokenizer").values[1]  # type: ignore[union-attr]


def test_merges_written_as_pairs_are_the_same(pair: Make):
    assert find(pair(tokenizer=with_vocabulary(merges=[["a", "b"]])), "tokenizer")


@pytest.mark.parametrize("rule", [7, {"a": "b"}, ["a", 7], None])
def test_a_merge_rule_that_is_none_is_told(pair: Make, rule: Any):
    found = find(pair(tokenizer=with_vocabulary(merges=["a b", ["a", "b"], rule])), "no-tokenizer")
    assert found is not None and "no pair of texts" in found.values[0]


@pytest.mark.parametrize("broken", ["{", "[]", '{"model": 7}', '{"model": {"vocab": "x"}}', "[" * 5000])
def test_a_broken_tokenizer_stops_nothing(pair: Make, tmp_path: Path, broken: str):
    write_model(tmp_path / "base")
    write_model(tmp_path / "tuned", FINE)
    (tmp_path / "tuned" / "tokenizer.json").write_text(broken)
    found = check_of(tune(tmp_path), tmp_path)
    assert find(found, "no-tokenizer") or find(found, "different-tokenizer")


@pytest.mark.parametrize(
    ("weight", "level", "words"),
    [(1.0, "ok", "add up to 1"), (0.0, "warn", "All lambdas are zero"), (-2.0, "ok", "add up to -2")],
)
def test_lambdas_are_added_up(pair: Make, tmp_path: Path, weight: float, level: str, words: str):
    finding = find(pair(tune(tmp_path, weight=weight)), "lambdas")
    assert finding and finding.level == level and words in finding.title


def test_lambdas_that_scale_the_weights_are_noticed(tmp_path: Path):
    for name in "ab":
        write_model(tmp_path / name, weights(ord(name), near=BASE))
    assert find(check_of(soup(tmp_path, "a", "b", normalize=False), tmp_path), "lambdas").level == "warn"  # type: ignore[union-attr]
    assert find(check_of(soup(tmp_path, "a", "b"), tmp_path), "lambdas").level == "ok"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("method", "given", "normalize", "words"),
    [
        ("linear", (1, -0.9999), None, "almost cancel"),
        ("linear", (1, -0.5), None, None),
        ("linear", (1, -0.9999), False, "not normalised"),
        ("task_arithmetic", (1, -0.999), None, None),
        ("task_arithmetic", (1, -0.999), True, "almost cancel"),
        ("task_arithmetic", (2, 2), None, "add up to 4"),
        ("task_arithmetic", (2, 2), True, None),
        ("ties", (1, -0.999), None, "negative lambda is normalised"),
        ("ties", (-1,), None, "negative lambda is normalised"),
        ("ties", (-1,), False, None),
        ("dare_ties", (-1,), None, None),
        ("dare_ties", (-1,), True, "negative lambda is normalised"),
        ("dare_linear", (1, 0.5), None, None),
        ("nuslerp", (1, 0.5), None, None),
        ("nuslerp", (1, -1), None, None),
        ("nuslerp", (1, -0.999), None, "almost cancel"),
        ("multislerp", (1, 0.5), None, None),
    ],
)
def test_lambdas_that_normalising_turns_into_garbage_are_noticed(
    method: str, given: tuple[float, ...], normalize: bool | None, words: str | None
):
    models = tuple(Input(ModelRef(f"a/{n}"), {"weight": w}) for n, w in enumerate(given))
    base = ModelRef("a/base") if METHODS[method].needs_base else None
    shared = {} if normalize is None else {"normalize": normalize}
    (finding,) = check_lambdas(Recipe(method, models, base, shared))
    assert finding.level == ("warn" if words else "ok")
    assert not words or words in finding.title


def test_lambdas_count_from_the_base_where_there_may_be_one():
    models = tuple(Input(ModelRef(f"a/{n}"), {"weight": 1.5}) for n in range(2))
    shared = {"normalize_weights": False}
    (alone,) = check_lambdas(Recipe("multislerp", models, None, shared))
    (on_base,) = check_lambdas(Recipe("multislerp", models, ModelRef("a/base"), shared))
    assert "are not normalised" in alone.title and "signs aside" in on_base.title


def test_the_lambda_of_a_listed_base_does_not_count():
    base = ModelRef("a/base")
    recipe = Recipe("task_arithmetic", (Input(base, {"weight": 2}), Input(ModelRef("a/b"), {"weight": 1})), base)
    ignored, total = check_lambdas(recipe)
    assert (ignored.level, ignored.models) == ("warn", ("a/base",)) and "no effect" in ignored.title
    assert total.level == "ok" and total.title == "The lambdas add up to 1."


def test_a_full_disk_and_a_small_memory_block(pair: Make, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    monkeypatch.setattr(cost, "available_memory", lambda: 1000)
    found = pair()
    for id in ("disk", "memory"):
        finding = find(found, id)
        assert finding and finding.level == "block" and not finding.computable
        assert "1 kB free" in finding.values[0]


def test_what_is_read_twice_is_told(pair: Make):
    plan = pair().plan
    assert plan and plan.again_bytes == 0
    for more, said in ((0, " and writes"), (10**9, ", 1 GB of it once more for want of memory, and writes")):
        *_, told = cost.check_cost(replace(plan, read_bytes=plan.read_bytes + more), [], 1, Path())
        assert f"reads {cost.size(plan.read_bytes + more)}{said}" in told.title


def test_the_disk_of_a_folder_to_come_is_that_of_the_nearest_above(tmp_path: Path):
    assert cost.existing(tmp_path / "not" / "yet") == tmp_path


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1 kB"),
        (1_263_808, "1.26 MB"),
        (16.1e9, "16.1 GB"),
        (2e15, "2000 TB"),
    ],
)
def test_sizes_for_people(nbytes: float, text: str):
    assert cost.size(nbytes) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(1, "a few seconds"), (42, "about 40 seconds"), (600, "about 10 minutes"), (9000, "about 2.5 hours")],
)
def test_durations_for_people(seconds: float, text: str):
    assert cost.duration(seconds) == text


def test_one_is_not_many(pair: Make):
    assert [counted(n, "tensor") for n in (0, 1, 2000)] == ["0 tensors", "1 tensor", "2,000 tensors"]
    finding = find(pair(arrays={**FINE, Q: np.ones((32, 64), "f4")}), "different-shapes")
    assert finding and " 1 tensor in another shape than " in finding.title


def test_blocks_come_first(pair: Make):
    found = pair(arrays=weights(7), config=changed(CONFIG, rope_theta=5e5))
    levels = [f.level for f in found.findings]
    assert levels == sorted(levels, key=["block", "warn", "ok"].index)


def test_the_same_check_gives_the_same_findings(pair: Make):
    assert pair() == pair()
