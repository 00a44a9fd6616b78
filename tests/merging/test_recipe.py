"""Recipes: what is read, what is refused and in which words, and that what is written is read back."""

import json

import pytest
import yaml
from hypothesis import example, given
from hypothesis import settings as how
from hypothesis import strategies as st

from merging.errors import MergeError
from merging.methods import METHODS
from merging.recipe import Input, ModelRef, Recipe, all_models, merged_inputs, parse_recipe, settings_for, to_yaml

MERGEKIT = """
models:
  - model: org/base
  - model: org/one@main
    parameters:
      density: 0.5
      weight: 0.4
  - model: ./two
    parameters: {weight: 1}
merge_method: ties
base_model: org/base
parameters:
  normalize: false
  int8_mask: true
  density: 0.9
  lambda: 1.1
dtype: torch.bfloat16
"""


def recipe(**changes):
    tree = {"merge_method": "linear", "models": [{"model": "a/x", "parameters": {"weight": 1}}]} | changes
    return json.dumps({k: v for k, v in tree.items() if v is not None})


def test_reads_what_mergekit_reads():
    found = parse_recipe(MERGEKIT)
    assert found == Recipe(
        method="ties",
        models=(
            Input(ModelRef("org/base")),
            Input(ModelRef("org/one", "main"), {"density": 0.5, "weight": 0.4}),
            Input(ModelRef("./two"), {"weight": 1}),
        ),
        base=ModelRef("org/base"),
        parameters={"normalize": False, "int8_mask": True, "density": 0.9, "lambda": 1.1},
        dtype="bfloat16",
    )


def test_settings_are_the_models_own_then_the_recipes_then_the_defaults():
    found = parse_recipe(MERGEKIT)
    assert settings_for(found, "any.tensor") == {
        "weight": (0.4, 1), "density": (0.5, 0.9), "normalize": False, "rescale": False, "lambda_": 1.1,
    }  # fmt: skip


def test_the_base_comes_first_and_is_no_fine_tune():
    found = parse_recipe(MERGEKIT)
    assert [str(m) for m in all_models(found)] == ["org/base", "org/one@main", "./two"]
    assert [str(i.model) for i in merged_inputs(found)] == ["org/one@main", "./two"]


def test_a_donor_in_the_list_comes_first_with_its_own_weight():
    models = [{"model": "a", "parameters": {"weight": 1}}, {"model": "b", "parameters": {"weight": 2}}]
    found = parse_recipe(recipe(base_model="b", models=models))
    assert [str(m) for m in all_models(found)] == ["b", "a"]
    assert settings_for(found, "")["weight"] == (2, 1)


@pytest.mark.parametrize(
    ("written", "path", "revision"),
    [
        ("org/name", "org/name", None),
        ("org/name@v1.0", "org/name", "v1.0"),
        ("org/name@refs/pr/3", "org/name", "refs/pr/3"),
        ("gpt2@main", "gpt2", "main"),
        ("./runs/a@b", "./runs/a@b", None),
        ("/data/a@b", "/data/a@b", None),
        ("../a", "../a", None),
        ("data/models/x@y", "data/models/x@y", None),
        ("/data/c++", "/data/c++", None),
        ("/data/mit Leerzeichen/ü", "/data/mit Leerzeichen/ü", None),
    ],
)
def test_models(written, path, revision):
    found = parse_recipe(recipe(models=[{"model": written}], parameters={"weight": 1})).models[0].model
    assert found == ModelRef(path, revision) and str(found) == written


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "The recipe must be a mapping with merge_method and models."),
        ("- a", "The recipe must be a mapping"),
        ("a: [", "The recipe is not valid YAML"),
        ("merge_method: linear\nmerge_method: ties", "line 2: 'merge_method' stands twice"),
        ("a: &x 1\nb: *x", "Line 2 uses a YAML alias"),
        ("merge_method: !!python/object:os.system x", "the tag"),
        ("? [a]\n: b", "a key must be a word"),
        ("[" * 5000, "nested too deeply"),
        ("a: " + "x" * 1_000_000, "at most 1,000,000 are read"),
        (recipe(merge_method=None), "The recipe has no merge_method. Choose one of: linear,"),
        (recipe(merge_method="tie"), "merge_method is 'tie', which is not a method here. Did you mean ties?"),
        (recipe(merge_method=3), "merge_method is 3,"),
        (recipe(models=None), "The recipe needs `models`"),
        (recipe(models=[]), "The recipe needs `models`"),
        (recipe(models={"model": "a"}), "The recipe needs `models`"),
        (recipe(models=[3]), "models[0] is 3, it must be an entry like `- model: org/name`."),
        (recipe(models=[{"modle": "a"}]), "models[0].'modle' is not known here. Did you mean model?"),
        (recipe(models=[{"model": "a", "weight": 1}]), "models[0].weight is a parameter. Put it under `parameters:`"),
        (recipe(models=[{"parameters": {"weight": 1}}]), "models[0].model is empty, it must be a Hub repo like"),
        (recipe(models=[{"model": " a"}]), "models[0].model is ' a'"),
        (recipe(models=[{"model": "a\nb"}]), "it must be a Hub repo like"),
        (recipe(models=[{"model": "a/x+b/lora"}]), "Adapters (model+lora) are not supported yet"),
        (recipe(models=[{"model": {"model": {"path": "x"}}}]), "models[0].model is a mapping"),
        (recipe(models=[{"model": f"m{i}"} for i in range(101)]), "at most 100 can be merged at once"),
        (recipe(paramaters={}), "'paramaters' is not a key of a recipe. Did you mean parameters?"),
        (recipe(normalize=True), "normalize is a parameter. Put it under `parameters:`."),
        (recipe(slices=[]), "slices: Layer stacking is not supported yet"),
        (recipe(tokenizer_source="union"), "tokenizer_source: The tokenizer is taken whole"),
        (recipe(chat_template="auto"), "chat_template: The chat template is taken"),
        (recipe(modules={}), "modules: Merging module by module is not supported yet"),
        (recipe(parameters=[1]), "parameters must be a mapping of names to values, not a list."),
        (recipe(parameters={"weigth": 1}), "parameters.weigth is not a parameter of linear. Did you mean weight?"),
        (
            recipe(parameters={"density": 1}),
            "parameters.density is not a parameter of linear. Known here: weight, normalize.",
        ),
        (recipe(parameters={"weight": 3}), "parameters.weight is 3, it must be between -2 and 2."),
        (recipe(parameters={"weight": True}), "parameters.weight is true, it must be a number between -2 and 2."),
        (recipe(parameters={"weight": "big"}), "parameters.weight is 'big', it must be a number between -2 and 2."),
        (recipe(parameters={"weight": None}), "parameters.weight is empty, it must be a number"),
        ("{merge_method: linear, models: [a], parameters: {weight: 1e-3}}", "Write it as 0.001, without quotes."),
        (
            "{merge_method: linear, models: [a], parameters: {weight: .nan}}",
            "parameters.weight is nan, it must be a finite",
        ),
        (
            "{merge_method: linear, models: [a], parameters: {weight: -.inf}}",
            "parameters.weight is -inf, it must be a finite",
        ),
        (recipe(parameters={"weight": 10**400}), "parameters.weight is a very large number"),
        (recipe(parameters={"normalize": 1}), "parameters.normalize is 1, it must be true or false."),
        (recipe(parameters={"weight": [0, 1]}), "parameters.weight is a list. Gradients"),
        (recipe(parameters={"weight": {"filter": "mlp"}}), "parameters.weight is a mapping. Gradients"),
        (recipe(dtype="bfloat"), "dtype is 'bfloat', it must be one of: bfloat16, float16, float32."),
        (recipe(out_dtype=16), "out_dtype is 16, it must be one of"),
        (recipe(seed=-1), "seed is -1, it must be a whole number between 0 and"),
        (recipe(seed=True), "seed is true, it must be a whole number"),
        (recipe(seed=1.5), "seed is 1.5, it must be a whole number"),
        (
            recipe(models=["a", "b"], parameters={"normalize": True}),
            "models[0].parameters.weight is missing: linear needs one for a.",
        ),
        (recipe(models=["a", "a"], parameters={"weight": 1}), "models lists a twice."),
        (recipe(base_model="c"), "base_model c is not among them. Add it to models, or remove base_model."),
        (recipe(merge_method="ties"), "ties needs base_model"),
        (
            recipe(merge_method="ties", base_model="a/x"),
            "ties needs at least 1 model besides the base; the recipe has 0.",
        ),
        (
            recipe(merge_method="slerp", base_model="b", models=["a", "c"], parameters={"t": 0.5}),
            "slerp takes at most 1 model besides the base; the recipe has 2.",
        ),
        (recipe(merge_method="slerp", base_model="b", models=["a"]), "parameters.t is missing: slerp needs it."),
        (
            recipe(merge_method="slerp", base_model="b", models=[{"model": "a", "parameters": {"t": 0.5}}]),
            "t is one value for the whole merge.",
        ),
        (recipe(merge_method="passthrough", models=["a", "b"]), "passthrough takes at most 1 model; the recipe has 2."),
    ],
)
def test_refuses(text, message):
    with pytest.raises(MergeError) as refused:
        parse_recipe(text)
    assert message in str(refused.value)
    assert str(refused.value).rstrip().endswith((".", "?")) and len(str(refused.value)) < 1000


@pytest.mark.parametrize(
    ("method", "weights", "parameters", "fine"),
    [
        ("linear", [1, -1], {}, False),
        ("linear", [0.1, 0.2, -0.3], {}, False),  # 5.6e-17 is no sum to divide by
        ("linear", [1, -1], {"normalize": False}, True),
        ("linear", [0, 0], {}, False),
        ("task_arithmetic", [1, -1], {}, True),
        ("task_arithmetic", [1, -1], {"normalize": True}, False),
        ("dare_linear", [1, -1], {"normalize": True}, False),
        ("ties", [1, -1], {}, True),  # divides by what agrees, element by element
        ("dare_ties", [1, -1], {"normalize": True}, True),
    ],
)
def test_weights_that_sum_to_zero(method, weights, parameters, fine):
    models = [{"model": f"m{i}", "parameters": {"weight": w}} for i, w in enumerate(weights)]
    base = {"base_model": "b"} if METHODS[method].needs_base else {}
    text = recipe(merge_method=method, models=models, parameters=parameters, **base)
    if fine:
        assert parse_recipe(text)
    else:
        with pytest.raises(MergeError, match="sum to zero, and normalize divides by their sum"):
            parse_recipe(text)


@pytest.mark.parametrize(
    ("name", "value"), [("int8_mask", True), ("int8_mask", 1), ("density", 0.3), ("rescale", True)]
)
def test_takes_what_has_no_effect_so_that_recipes_port(name, value):
    text = recipe(merge_method="task_arithmetic", base_model="b", parameters={name: value})
    assert parse_recipe(text).parameters == {name: value}
    assert name not in settings_for(parse_recipe(text), "")
    with pytest.raises(MergeError, match=f"parameters.{name} is a list"):
        parse_recipe(recipe(merge_method="task_arithmetic", base_model="b", parameters={name: [1]}))


words = st.from_regex(r"[a-z][a-z0-9_.-]{0,8}", fullmatch=True)
refs = st.one_of(
    st.builds(ModelRef, st.builds("{}/{}".format, words, words), st.none() | words),
    st.builds(ModelRef, st.builds("./{}".format, words)),
    st.builds(ModelRef, st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=9).map("/{}".format)),
)


@st.composite
def recipes(draw):
    """Any recipe that the parser accepts."""
    method = draw(st.sampled_from(list(METHODS.values())))
    models = draw(st.lists(refs, min_size=method.min_models, max_size=method.max_models or 4, unique=True))

    def value(p):
        if p.type is bool:
            return draw(st.booleans())
        if p.type is int:
            return draw(st.integers(int(p.range.low), int(p.range.high)))
        whole = [v for v in range(int(p.range.low), int(p.range.high) + 1) if v in p.range]
        numbers = st.floats(p.range.low, p.range.high, exclude_min=p.range.above)
        return draw(numbers | st.sampled_from(whole) if whole else numbers)

    def some(params):
        return {p.name: value(p) for p in params if p.default is None or draw(st.booleans())}

    inputs = tuple(Input(m, some(p for p in method.params if p.per_model)) for m in models)
    return Recipe(
        method=method.name, models=inputs, parameters=some(method.params),
        base=draw(refs.filter(lambda r: r not in models)) if method.needs_base else None,
        dtype=draw(st.sampled_from([None, "bfloat16", "float32"])),
        out_dtype=draw(st.sampled_from([None, "float16"])), seed=draw(st.integers(0, 2**63 - 1)),
    )  # fmt: skip


@given(recipes())
@how(deadline=None)
def test_what_is_written_is_read_back(recipe):
    try:
        found = parse_recipe(to_yaml(recipe))
    except MergeError as e:
        assert "sum to zero" in str(e)  # the one thing that the strategy does not avoid
    else:
        assert found == recipe


def refuse_or_read(text):
    try:
        assert isinstance(parse_recipe(text), Recipe)
    except MergeError as e:
        assert str(e)


@given(st.text())
@how(deadline=None)
@example("a: !!int ''")
@example("a: !!float x")
@example("a: !!timestamp x")
@example("a: !!bool x")
@example("a: 2001-99-99")
@example("a: !!binary =")
@example("a: 0b_\nb: 0x_\nc: 1:99:99")
@example("a: " + "9" * 5000)
@example("&a [*a]")
@example("<<: {a: 1}")
@example("\ud800")
@example("---\na: 1\n---\nb: 2")
@example("%YAML 3.0\n---\n")
def test_any_text_is_read_or_refused(text):
    refuse_or_read(text)


pieces = st.sampled_from(
    ["merge_method", "models", "model", "parameters", "weight", "ties", "linear", "base_model", ": ", "\n", "  ", "- ",
     "[", "]", "{", "}", ", ", "1", "-0.5", "true", "null", ".nan", "a/b", "'", '"', "#", "|", ">", "&x ", "*x",
     "!!int ", "? "]
)  # fmt: skip


@given(st.lists(pieces, max_size=40).map("".join))
@how(deadline=None)
def test_any_text_that_looks_like_a_recipe_is_read_or_refused(text):
    refuse_or_read(text)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)
names = ["merge_method", "models", "base_model", "parameters", "dtype", "out_dtype", "seed", "slices", "other"]


@given(st.dictionaries(st.sampled_from(names), values), st.sampled_from(list(METHODS)))
@how(deadline=None)
def test_any_values_are_read_or_refused(tree, method):
    refuse_or_read(yaml.safe_dump(tree))
    refuse_or_read(yaml.safe_dump(tree | {"merge_method": method, "base_model": "b"}))
    refuse_or_read(yaml.safe_dump({"merge_method": method, "base_model": "b", "models": ["a"], "parameters": tree}))


@pytest.mark.parametrize("text", ["nan", "inf", "-Infinity", "1e999"])
def test_no_number_is_suggested_that_would_be_refused(text):
    with pytest.raises(MergeError) as refused:
        parse_recipe(f"{{merge_method: linear, models: [a], parameters: {{weight: {text}}}}}")
    assert "Write it as" not in str(refused.value)
