"""What methods declare becomes controls, and their values become settings again."""

import gradio as gr
import pytest

from merging.methods import METHODS
from merging.recipe import parse_recipe, to_yaml
from space.controls import control, own_params, settings, shared_params, shown
from space.form import MAX_ROWS, from_recipe, lambda_param, to_recipe
from space.pages.recipe_values import (
    changed_method,
    control_count,
    controls_of,
    form_of,
    shown_form,
    typed_yaml,
)
from tests.space.test_form import STACK

every_method = pytest.mark.parametrize("method", METHODS.values(), ids=lambda m: m.name)


def test_every_setting_has_a_control_with_help():
    for method in METHODS.values():
        with gr.Blocks():
            for param, look in zip(shared_params().values(), shown(method, {}), strict=True):
                made = control(param, look)
                assert made.label and made.info and made.visible is look.visible
                assert not look.visible or made.value == look.value


@every_method
def test_a_method_shows_all_it_declares_but_for_the_slider_of_the_rows(method):
    seen = {s.param.name for s in shown(method, {}) if s.visible and s.param}
    assert seen == {p.name for p in method.params if p is not lambda_param(method)}


@every_method
def test_settings_undo_shown(method):
    values = [s.value for s in shown(method, {})]
    back = settings(method, values)
    assert all(type(value) is method.param(name).type for name, value in back.items())
    assert [s.value for s in shown(method, back)] == values


@every_method
def test_a_form_survives_the_way_through_the_controls(method):
    slider = lambda_param(method)
    row = ["acme/a", 0.5, "v1", *[None] * len(own_params())]
    empty = ["", 0.0, "", *[None] * len(own_params())]
    first = ["acme/base", "", method.name, "", 3]
    form = form_of([*first, *[s.value for s in shown(method, {})], *row, *empty * (MAX_ROWS - 1)])
    assert form.rows[0].settings == ({slider.name: 0.5} if slider else {})
    assert len(controls_of(form)) == control_count()
    again = form_of(plain(controls_of(form)))
    assert (again.base, again.method, again.settings, again.rows[0]) == (
        form.base,
        method.name,
        form.settings,
        form.rows[0],
    )


def plain(updates):
    """The values of the controls after these updates."""
    return [u.get("value") if isinstance(u, dict) else u for u in updates]


BEYOND = """
merge_method: ties
base_model: acme/base
models:
- {model: acme/a, parameters: {weight: 3, density: [0.2, 0.8]}}
- {model: acme/b, parameters: {weight: 0.5, density: 0.3}}
- {model: acme/c, parameters: {weight: [{filter: mlp, value: [0, 1]}, {value: 0.25}]}}
parameters: {lambda: -4.0, normalize: [{filter: mlp, value: true}], density: 0.6, rescale: false}
"""
EVERYWHERE = """
merge_method: linear
models: [{model: acme/a}, {model: acme/b, parameters: {weight: 0.25}}]
parameters: {weight: [0.5, 1], normalize: true}
"""


@pytest.mark.parametrize("text", [BEYOND, EVERYWHERE, STACK])
def test_what_no_control_can_show_is_kept_and_said(text):
    recipe = parse_recipe(text)
    controls = controls_of(from_recipe(recipe))
    assert to_recipe(form_of(plain(controls))) == recipe
    if text != STACK:
        locked = [u for u in controls if isinstance(u, dict) and u.get("interactive") is False]
        assert locked and all("YAML" in (u.get("info") or u["placeholder"]) for u in locked)


def test_what_the_form_changes_leaves_what_it_cannot_show_alone():
    values = plain(controls_of(from_recipe(parse_recipe(BEYOND))))
    values[values.index("acme/b") + 1] = 0.75
    changed = BEYOND.replace("weight: 0.5, density: 0.3", "weight: 0.75, density: 0.3")
    assert to_recipe(form_of(values)) == parse_recipe(changed)


def test_another_method_keeps_the_weights_it_can_have():
    values = plain(controls_of(from_recipe(parse_recipe(BEYOND))))
    values[2] = "linear"
    *_, yaml, _, _, _, _ = changed_method(3, BEYOND, ["", "", *values])
    models = parse_recipe(yaml).models
    assert [m.parameters for m in models] == [
        {"weight": parse_recipe(BEYOND).models[i].parameters["weight"]} for i in range(3)
    ]
    everywhere = plain(controls_of(from_recipe(parse_recipe(EVERYWHERE))))
    everywhere[2] = "linear"
    *_, yaml, _, _, _, _ = changed_method(3, BEYOND, ["", "", *everywhere])
    assert [m.parameters for m in parse_recipe(yaml).models] == [{"weight": 1.0}, {"weight": 0.25}]


def test_leaving_the_list_of_methods_changes_nothing():
    values = plain(controls_of(from_recipe(parse_recipe(BEYOND))))
    assert changed_method(3, BEYOND, ["", "", *values]) == [gr.skip()] * len(changed_method(3, "[", ["", "", *values]))


def test_a_stack_hides_the_controls_and_an_empty_text_brings_them_back():
    controls, note, editor, *_ = shown_form(from_recipe(parse_recipe(STACK)))[control_count() :]
    assert (controls["visible"], note["visible"], editor["open"]) == (False, True, True)
    problem, _, synced, check = typed_yaml(STACK)[-4:]
    assert (problem, synced, check["interactive"]) == ("", STACK, True)
    updates = typed_yaml("  ")
    assert updates[control_count()]["visible"] and not updates[-1]["interactive"]
    assert len(updates) == len(typed_yaml(STACK)) == len(typed_yaml("nonsense"))
    assert to_yaml(to_recipe(form_of(plain(updates[: control_count()])))).startswith("merge_method: task_arithmetic")


def test_only_lambdas_and_scales_have_sliders_in_the_rows():
    assert {m.name for m in METHODS.values() if lambda_param(m) is None} >= {"sce", "ram", "consensus", "slerp"}
    assert own_params().keys() >= {"density", "gamma", "epsilon", "tall_mask_lambda"}


def test_the_form_of_a_method_whose_models_have_no_weights():
    first = ["acme/base", "", "sce", "", 0]
    row = ["acme/a", 0.5, "", *[None] * len(own_params())]
    form = form_of([*first, *[s.value for s in shown(METHODS["sce"], {})], *row * MAX_ROWS])
    assert all(r.settings == {} for r in form.rows) and form.settings == {"select_topk": 1.0}
    assert {u.get("visible") for u in controls_of(form)[5 + len(shared_params()) + 1 :: 3 + len(own_params())]} == {
        False
    }
