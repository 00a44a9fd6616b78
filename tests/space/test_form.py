"""The form and the recipe say the same, whichever was changed."""

from dataclasses import replace

import pytest

from merging.methods import METHODS
from merging.recipe import parse_recipe, to_yaml
from space.examples import examples
from space.form import Form, Row, from_recipe, lambda_param, to_recipe
from space.settings import Settings


def form_for(name: str) -> Form:
    method = METHODS[name]
    slider = lambda_param(method)
    settings = {} if slider is None else {slider.name: 0.5}
    most = method.max_models or 3
    rows = tuple(Row(f"acme/m{i}", "", settings) for i in range(most))
    shared = {
        p.name: p.default if p.default is not None else p.range.start if p.range and p.range.start else 0.5
        for p in method.params
        if p is not slider
    }
    return Form("acme/base" if method.takes_base else "", "", rows, name, shared)


@pytest.mark.parametrize("name", list(METHODS))
def test_a_form_survives_the_way_through_yaml_for_every_method(name):
    form = form_for(name)
    assert from_recipe(parse_recipe(to_yaml(to_recipe(form)))) == form


@pytest.mark.parametrize("name", [m.name for m in METHODS.values() if m.takes_base and not m.needs_base])
def test_a_base_may_be_left_out(name):
    form = replace(form_for(name), base="")
    recipe = to_recipe(form)
    assert recipe.base is None and from_recipe(parse_recipe(to_yaml(recipe))) == form


def test_rows_without_a_model_are_left_out():
    form = Form("acme/base", "", (Row(), Row("acme/a", "", {"weight": 1.0}), Row()))
    assert [str(m.model) for m in to_recipe(form).models] == ["acme/a"]


def test_a_base_is_kept_for_methods_that_have_one_and_left_out_for_those_that_do_not():
    form = Form("acme/base", "", (Row("acme/a", "", {"weight": 1.0}), Row("acme/b", "", {"weight": 1.0})), "linear")
    assert to_recipe(form).base is None
    among = Form("acme/a", "", form.rows, "linear")
    assert str(to_recipe(among).base) == "acme/a"


def test_a_revision_may_stand_after_the_name_or_beside_it():
    form = Form("acme/base@v1", "", (Row("acme/a", " abc ", {"weight": 1.0}),))
    recipe = to_recipe(form)
    assert (str(recipe.base), str(recipe.models[0].model)) == ("acme/base@v1", "acme/a@abc")


def test_a_setting_that_the_method_does_not_have_is_left_out():
    form = Form("acme/base", "", (Row("acme/a", "", {"weight": 1.0, "density": 0.5}),), "task_arithmetic", {"t": 0.3})
    recipe = to_recipe(form)
    assert recipe.parameters == {} and recipe.models[0].parameters == {"weight": 1.0}


STACK = """
merge_method: passthrough
slices:
- sources: [{model: acme/a, layer_range: [0, 3]}]
- sources: [{model: acme/b@v1, layer_range: [1, 4]}]
"""


def test_a_stack_is_shown_and_kept_as_yaml():
    form = from_recipe(parse_recipe(STACK))
    assert [(row.repo, row.revision) for row in form.rows] == [("acme/a", ""), ("acme/b", "v1")]
    assert to_recipe(form) == parse_recipe(STACK) and form.models == 2


def test_the_example_of_a_stack_is_one(tmp_path):
    recipe = to_recipe(dict(examples(Settings(tmp_path, demo=True)))["One layer twice"])
    assert [source.layers for part in recipe.slices for source in part.sources] == [(0, 3), (2, 4)]


def test_a_weight_for_all_models_is_shown_in_every_row():
    text = """
merge_method: linear
models: [{model: acme/a}, {model: acme/b, parameters: {weight: 0.25}}]
parameters: {weight: 0.75}
"""
    form = from_recipe(parse_recipe(text))
    assert [row.settings["weight"] for row in form.rows] == [0.75, 0.25] and "weight" not in form.settings
