"""Recipes: what is read, what is refused and in which words, and that what is written is read back."""

import json

import pytest
import yaml
from hypothesis import example, given
from hypothesis import settings as how
from hypothesis import strategies as st

from merging.errors import MergeError
from merging.methods import METHODS
from merging.recipe import (
    Input,
    ModelRef,
    Recipe,
    Slice,
    all_models,
    merged_inputs,
    parse_recipe,
    settings_for,
    to_yaml,
)
from merging.values import Case, Filtered, Gradient


def recipe(**changes):
    tree = {"merge_method": "linear", "models": [{"model": "a/x", "parameters": {"weight": 1}}]} | changes
    return json.dumps({k: v for k, v in tree.items() if v is not None})


def weighing(weight):
    return recipe(parameters={"weight": weight})


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


@pytest.mark.parametrize("key", ["tokenizer_source: base", "tokenizer: {source: base}"])
def test_a_key_that_asks_for_what_is_done_anyway_is_read(key):
    assert parse_recipe(f"{MERGEKIT}\n{key}\n") == parse_recipe(MERGEKIT)


def test_settings_are_the_models_own_then_the_recipes_then_the_defaults():
    found = parse_recipe(MERGEKIT)
    assert settings_for(found, "any.tensor") == {
        "weight": (0.4, 1), "density": (0.5, 0.9), "normalize": False, "rescale": False, "lambda_": 1.1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("written", "meant"),
    [("1e-4", "0.0001"), ("-2E1", "-20.0"), ("{filter: mlp, value: 1}", "[{filter: mlp, value: 1}]")],
)
def test_values_as_mergekit_reads_them(written, meant):
    """YAML 1.1 takes a number without a point for text, and a single case may stand without a list."""
    head = "{merge_method: task_arithmetic, base_model: b, models: [a], parameters: {weight: %s}}"
    assert parse_recipe(head % written) == parse_recipe(head % meant)


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
        ("a: 1\n---\nb: 2\n", "line 2: a second document begins here"),
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
        (recipe(slices=[]), "The recipe has models and slices. `models` merges whole models, `slices` layers: choose"),
        (recipe(tokenizer_source="union"), "tokenizer_source: The tokenizer is taken whole"),
        (recipe(tokenizer_source="base"), "tokenizer_source: The tokenizer is taken whole"),  # there is no base
        (recipe(name="one of many"), "name: Names are for several recipes in one file"),
        (recipe(chat_template="auto"), "chat_template: The chat template is taken"),
        (recipe(modules={}), "modules: Merging module by module is not supported yet"),
        (recipe(parameters=[1]), "parameters must be a mapping of names to values, not a list."),
        (recipe(parameters={"weigth": 1}), "parameters.weigth is not a parameter of linear. Did you mean weight?"),
        (
            recipe(parameters={"density": 1}),
            "parameters.density is not a parameter of linear. Known here: weight, normalize.",
        ),
        (recipe(parameters={"weight": 300}), "parameters.weight is 300, it must be between -100 and 100."),
        (recipe(parameters={"weight": True}), "parameters.weight is true, it must be a number between -100 and 100."),
        (recipe(parameters={"weight": "big"}), "parameters.weight is 'big', it must be a number between -100 and 100."),
        (recipe(parameters={"weight": None}), "parameters.weight is empty, it must be a number"),
        ("{merge_method: linear, models: [a], parameters: {weight: '0.001'}}", "Write it as 0.001, without quotes."),
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
        (
            recipe(parameters={"weight": {"filter": "mlp"}}),
            "parameters.weight.value is missing",
        ),
        (
            recipe(models=[{"model": "a", "layer_range": [0, 1]}]),
            "models[0].layer_range: layers of a model are chosen in",
        ),
        (weighing([]), "parameters.weight is an empty list."),
        (weighing([0, True]), "parameters.weight[1] is true, it must be a number between -100 and 100."),
        (weighing([0, [1]]), "parameters.weight[1] is a list inside a list. Give one value."),
        (weighing([0, 300]), "parameters.weight[1] is 300, it must be between -100 and 100."),
        (weighing([0] * 10_001), "parameters.weight is a list of 10,001; at most 10,000 are read."),
        (weighing([{"value": 1}, 0.5]), "parameters.weight[1] is 0.5. Beside entries with a filter it must be one too"),
        (weighing([{"filter": "mlp"}]), "parameters.weight[0].value is missing"),
        (
            weighing([{"filtr": "mlp", "value": 1}]),
            "parameters.weight[0].'filtr' is not known here. Did you mean filter?",
        ),
        (
            weighing([{"filter": 3, "value": 1}]),
            "parameters.weight[0].filter is 3, it must be a part of a tensor's name",
        ),
        (weighing([{"filter": "a\nb", "value": 1}]), "parameters.weight[0].filter is 'a\\nb', it must be a part of"),
        (weighing([{"value": 300}]), "parameters.weight[0].value is 300, it must be between -100 and 100."),
        (weighing([{"value": [0, "x"]}]), "parameters.weight[0].value[1] is 'x', it must be a number between"),
        (weighing([{"value": [{"value": 1}]}]), "parameters.weight[0].value has filters inside a filter."),
        (
            recipe(parameters={"weight": 1, "normalize": [True, False]}),
            "parameters.normalize is a list, and normalize is",
        ),
        (
            recipe(models=[{"model": "a", "parameters": {"weight": [1, 2, [3]]}}]),
            "models[0].parameters.weight[2] is a list",
        ),
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


def source(model="a", layers=(0, 2), **more):
    return {"model": model, "layer_range": list(layers)} | more


def stacked(*sources, method="linear", **more):
    return {"merge_method": method, "slices": [{"sources": list(sources)}], "parameters": {"weight": 1}} | more


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (stacked(slices=[]), "slices must be a list of entries with `sources:`."),
        (stacked(slices=[3]), "slices[0] is 3, it must be a mapping with sources."),
        (stacked(slices=[{}]), "slices[0].sources must be a list of entries like"),
        (stacked(slices=[{"sorces": []}]), "slices[0].'sorces' is not known here. Did you mean sources?"),
        (stacked(slices=[{"sources": [source()], "weight": 1}]), "slices[0].weight is a parameter. Put it under"),
        (stacked("a"), "slices[0].sources[0] is 'a', it must be an entry like"),
        (stacked({"model": "a"}), "slices[0].sources[0].layer_range is empty, it must be two layer numbers"),
        (stacked(source(layers=[0])), "slices[0].sources[0].layer_range is a list, it must be two layer numbers"),
        (stacked(source(layers=[0, True])), "it must be two layer numbers: [0, 8] is the first eight layers."),
        (stacked(source(layers=[0, 1.5])), "it must be two layer numbers"),
        (stacked(source(layers=[2, 2])), "slices[0].sources[0].layer_range is [2, 2], which holds no layer."),
        (stacked(source(layers=[4, 2])), "layer_range is [4, 2], which ends before it begins."),
        (stacked(source(layers=[-1, 2])), "layer_range is [-1, 2], which is no range of layers."),
        (stacked(source(layers=[0, 10**9])), "which is no range of layers."),
        (stacked(source(layers=[0, 1001])), "The slices have 1,001 layers or more; at most 1,000 can be stacked."),
        (stacked(source(), source("b", [0, 3])), "slices[0].sources[1] has 3 layers and sources[0] has 2."),
        (stacked(source(), source(layers=[1, 3])), "sources[0] and sources[1] are layers 0 to 1 and 1 to 2 of a"),
        (stacked(source(parameters={"weight": [300]})), "slices[0].sources[0].parameters.weight[0] is 300, it must be"),
        (stacked(source(), base_model="c"), "base_model c is in no slice."),
        (stacked(source(), method="ties"), "ties needs base_model"),
        (stacked(source("b"), method="ties", base_model="b"), "ties needs at least 1 model besides the base; slices"),
        (
            stacked(method="ties", base_model="b", slices=[{"sources": [source(), source("b")][:n]} for n in (2, 1)]),
            "slices[1].sources does not list the base_model b.",
        ),
        (stacked(source(), source("b"), method="passthrough", parameters={}), "at most 1 model; slices[0] has 2."),
        (stacked(source(), parameters={}), "slices[0].sources[0].parameters.weight is missing: linear"),
        (stacked(source(), models=["a"]), "The recipe has models and slices."),
        (stacked(source(parameters={"weight": 1}), source("b", parameters={"weight": -1})), "sum to zero"),
        (stacked(source(), source("b"), method="slerp", base_model="b", parameters={}), "parameters.t is missing"),
    ],
)  # fmt: skip
def test_refuses_slices(tree, message):
    with pytest.raises(MergeError) as refused:
        parse_recipe(json.dumps(tree))
    assert message in str(refused.value)
    assert str(refused.value).rstrip().endswith((".", "?")) and len(str(refused.value)) < 1000


MERGEKIT_SLICES = """
slices:
  - sources:
      - model: org/base
        layer_range: [0, 16]
      - model: org/one
        layer_range: [0, 16]
    parameters:
      t: 0.25
  - sources:
      - model: org/two@main
        layer_range: [8, 24]
      - model: org/base
        layer_range: [8, 24]
merge_method: slerp
base_model: org/base
parameters:
  t:
    - filter: self_attn
      value: [0, 0.5, 0.3, 0.7, 1]
    - filter: mlp
      value: [1, 0.5, 0.7, 0.3, 0]
    - value: 0.5
"""


def test_reads_slices_and_gradients_as_mergekit_does():
    found, base, two = parse_recipe(MERGEKIT_SLICES), ModelRef("org/base"), ModelRef("org/two", "main")
    t = Filtered((
        Case(Gradient((0, 0.5, 0.3, 0.7, 1)), "self_attn"), Case(Gradient((1, 0.5, 0.7, 0.3, 0)), "mlp"), Case(0.5)
    ))  # fmt: skip
    first = Slice((Input(base, {}, (0, 16)), Input(ModelRef("org/one"), {}, (0, 16))), {"t": 0.25})
    second = Slice((Input(two, {}, (8, 24)), Input(base, {}, (8, 24))))
    assert found == Recipe("slerp", base=base, parameters={"t": t}, slices=(first, second))
    assert parse_recipe(to_yaml(found)) == found
    assert [str(m) for m in all_models(found)] == ["org/base", "org/one", "org/two@main"]
    assert [str(i.model) for i in merged_inputs(found)] == ["org/one", "org/two@main"]


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


def plain(p):
    if p.type is bool:
        return st.booleans()
    low, high = p.range.limits
    whole = [v for v in range(int(low), int(high) + 1) if v in p.range]
    if p.type is int:
        return st.sampled_from(whole)
    numbers = st.floats(low, high, exclude_min=p.range.above)
    return numbers | st.sampled_from(whole) if whole else numbers


def settings_values(p):
    """Whatever a recipe may give for a parameter."""
    one = plain(p)
    if p.type is float:
        one |= st.lists(plain(p), min_size=1, max_size=4).map(lambda points: Gradient(tuple(points)))
    case = st.builds(Case, one, st.none() | st.just("*") | st.text(max_size=5).filter(str.isprintable))
    return one | st.lists(case, min_size=1, max_size=3).map(lambda cases: Filtered(tuple(cases)))


@st.composite
def recipes(draw):
    """Any recipe that the parser accepts."""
    method = draw(st.sampled_from(list(METHODS.values())))
    own, shared = ([p for p in method.params if p.per_model == mine] for mine in (True, False))

    def some(params, *, all_of_them=False):
        chosen = (p for p in params if (all_of_them and p.default is None) or draw(st.booleans()))
        return {p.name: draw(settings_values(p)) for p in chosen}

    def sources(models, start=None, length=0):
        layers = None if start is None else (start, start + length)
        return tuple(Input(m, some(own, all_of_them=True), layers) for m in models)

    base = draw(refs) if method.needs_base else None
    models = st.lists(
        refs.filter(lambda r: r != base), min_size=method.min_models, max_size=method.max_models or 4, unique=True
    )
    slices: tuple[Slice, ...] = ()
    if draw(st.booleans()):
        slices = tuple(
            Slice(
                sources([*([base] if base else []), *draw(models)], draw(st.integers(0, 50)), draw(st.integers(1, 9))),
                some([*own, *shared]),
                base=draw(st.sampled_from([None, base])),
            )
            for _ in range(draw(st.integers(1, 3)))
        )
    return Recipe(
        method=method.name, models=() if slices else sources(draw(models)), slices=slices, base=base,
        parameters=some(shared, all_of_them=True) | some(own),
        dtype=draw(st.sampled_from([None, "bfloat16", "float32"])),
        out_dtype=draw(st.sampled_from([None, "float16"])), seed=draw(st.integers(0, 2**63 - 1)),
    )  # fmt: skip


@given(recipes())
@how(deadline=None)
def test_what_is_written_is_read_back(recipe):
    try:
        found = parse_recipe(to_yaml(recipe))
    except MergeError as e:
        assert "sum to zero" in str(e) or "chances" in str(e)  # what the strategy does not avoid
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
    sources = [{"model": "b", "layer_range": [0, 2]}, {"model": "a", "layer_range": [0, 2], "parameters": tree}, tree]
    refuse_or_read(yaml.safe_dump({"merge_method": method, "base_model": "b", "slices": [{"sources": sources}, tree]}))


@pytest.mark.parametrize("text", ["nan", "inf", "-Infinity", "1e999"])
def test_no_number_is_suggested_that_would_be_refused(text):
    with pytest.raises(MergeError) as refused:
        parse_recipe(f"{{merge_method: linear, models: [a], parameters: {{weight: {text}}}}}")
    assert "Write it as" not in str(refused.value)
