"""What methods declare becomes controls, and their values become settings again."""

import gradio as gr
import pytest

from merging.methods import METHODS
from space.controls import control, own_params, settings, shared_params, shown
from space.form import lambda_param
from space.pages.recipe import MAX_ROWS, control_count, controls_of, form_of

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
    plain = [u["value"] if isinstance(u, dict) and "value" in u else None if isinstance(u, dict) else u
             for u in controls_of(form)]  # fmt: skip
    again = form_of(plain)
    assert (again.base, again.method, again.settings, again.rows[0]) == (
        form.base,
        method.name,
        form.settings,
        form.rows[0],
    )
