"""Fill in, check, merge, chat, publish; then load what was published and see both skills."""

import re
from typing import Any

import torch
from playwright.sync_api import Page, expect
from transformers import AutoModelForCausalLM, AutoTokenizer

from space.localhub import LocalHub
from space.service import Service
from space.viewer import Viewer
from tests.hub_fixture import ADA_TOKEN
from tests.journey.steps import (
    LONG,
    check,
    choose,
    example,
    fill_until,
    load,
    merge,
    open_job,
    publish_as,
    say,
    yaml_of,
)


def test_from_two_repo_ids_to_a_published_model(page: Page, service: Service, local_hub: LocalHub):
    choose(page, "Base: what all of them started from", "alloy/pocket-base")
    choose(page, "Model 1", "alloy/pocket-reverse")
    choose(page, "Model 2", "alloy/pocket-add")
    for number in ("1", "2"):
        page.get_by_label(f"number input for Lambda {number}").select_text()
        page.keyboard.type("-0.35", delay=60)  # as fast as people type
        expect(page.get_by_label(f"number input for Lambda {number}")).to_have_value("-0.35")
        page.get_by_label(f"number input for Lambda {number}").fill("0.7")
    page.get_by_role("button", name="Recipe as YAML").click()
    expect(page.locator("#recipe-yaml")).to_contain_text(re.compile(r"(weight: 0\.7.*){2}", re.DOTALL))

    check(page)
    expect(page.locator("#verdict")).to_contain_text("These belong together.")
    expect(page.locator("#verdict")).to_contain_text("reads 3.78 MB and writes 1.26 MB")
    merge(page)

    page.locator("#to-chat").click()
    assert say(page, "reverse: lamot")[0] == "tomal"
    assert say(page, "add: 17+25")[0] == "42"

    page.get_by_role("tab", name="Publish").click()
    button = publish_as(page, "journey")
    page.locator("#publish-owner input").click()
    page.get_by_role("option", name="acme").click()
    expect(button).to_have_text("Publish to acme/journey, private")
    expect(page.locator(".block.card-preview")).to_contain_text("alloy/pocket-reverse")
    button.click()
    expect(page.locator("#publish-link a")).to_have_text("acme/journey", timeout=LONG)

    assert local_hub.store.repo("acme/journey").private
    files = local_hub.store.files("acme/journey")
    assert {
        "model.safetensors",
        "README.md",
        "merge_recipe.yaml",
        "merge_report.json",
        "tokenizer.json",
    } <= files.keys()
    assert answer("acme/journey", "reverse: lamot") == "tomal" and answer("acme/journey", "add: 17+25") == "42"


def answer(repo_id: str, prompt: str) -> str:
    """What the published model says, loaded as anybody would load it."""
    tokenizer = AutoTokenizer.from_pretrained(repo_id, token=ADA_TOKEN)
    model: Any = AutoModelForCausalLM.from_pretrained(repo_id, token=ADA_TOKEN, dtype=torch.float32)
    chat = [{"role": "user", "content": prompt}]
    inputs: Any = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    out = model.generate(**inputs, max_new_tokens=16, do_sample=False)
    return str(tokenizer.decode(out[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))


def test_models_that_do_not_belong_together_cannot_be_merged(page: Page):
    for title, model, reason in (
        ("Another pretraining", "alloy/pocket-stranger", "not trained from the same base"),
        ("Another tokenizer", "alloy/pocket-renumbered", "tokenizer"),
    ):
        example(page, title, model)
        check(page)
        expect(page.locator("#verdict")).to_contain_text("Do not merge")
        expect(page.locator("#verdict")).to_contain_text(reason)
        expect(page.locator("#merge-button")).to_be_hidden()


def test_a_typing_mistake_is_answered_with_the_nearest_name(page: Page):
    example(page, "Two skills in one", "alloy/pocket-add")
    box = page.get_by_label("Model 1", exact=True).first
    box.fill("alloy/pocket-revers")
    box.press("Tab")
    check(page)
    expect(page.locator("#verdict")).to_contain_text("alloy/pocket-reverse")
    expect(page.locator("#verdict")).to_contain_text("cannot be checked")


def test_the_yaml_and_the_form_follow_each_other(page: Page):
    example(page, "Two skills in one", "alloy/pocket-add")
    page.get_by_role("button", name="Recipe as YAML").click()
    editor = page.locator("#recipe-yaml .cm-content")
    expect(editor).to_contain_text("pocket-add")
    editor.fill(
        "merge_method: ties\nbase_model: alloy/pocket-base\nmodels:\n- model: alloy/pocket-vowels\n"
        "  parameters: {weight: 0.5}\nparameters: {density: 0.4}\n"
    )
    expect(page.get_by_label("Model 1", exact=True).first).to_have_value("alloy/pocket-vowels")
    expect(page.get_by_label("number input for Lambda 1")).to_have_value("0.5")
    expect(page.get_by_label("number input for Density")).to_have_value("0.4")
    editor.fill("merge_method: tees\n")
    expect(page.locator("#recipe-problem")).to_contain_text("ties")
    expect(page.get_by_label("number input for Density")).to_have_value("0.4")


def test_what_no_control_can_show_is_locked_and_stays(page: Page):
    example(page, "Two skills in one", "alloy/pocket-add")
    page.get_by_role("button", name="Recipe as YAML").click()
    page.locator("#recipe-yaml .cm-content").fill(
        "merge_method: ties\nbase_model: alloy/pocket-base\nmodels:\n- model: alloy/pocket-reverse\n"
        "  parameters: {weight: [0.5, 1]}\n- model: alloy/pocket-add\n  parameters: {weight: 0.5}\n"
        "parameters: {density: [{filter: mlp, value: 0.4}, {value: 0.8}]}\n"
    )
    expect(page.get_by_text("Set in the YAML: 0.5 to 1.")).to_be_visible()
    expect(page.get_by_text("Set in the YAML: (mlp: 0.4; else: 0.8).")).to_be_visible()
    expect(page.get_by_label("number input for Lambda 1")).to_be_disabled()
    amount = page.get_by_label("number input for Lambda 2")
    amount.fill("0.75")
    amount.press("Enter")
    expect(page.locator("#recipe-yaml")).to_contain_text("weight: 0.75")
    assert "weight: [0.5, 1]" in yaml_of(page) and "filter: mlp" in yaml_of(page)
    check(page)
    expect(page.locator("#verdict")).not_to_contain_text("Do not merge")
    assert "weight: [0.5, 1]" in yaml_of(page)
    example(page, "Three skills in one", "alloy/pocket-add")
    expect(page.get_by_label("number input for Lambda 1")).to_be_enabled()
    expect(page.get_by_text("Set in the YAML")).to_have_count(0)


def test_a_stack_of_layers_from_one_click_to_its_chat(page: Page):
    page.get_by_role("button", name="One layer twice").click()
    expect(page.locator("#recipe-locked")).to_contain_text("edited as YAML")
    expect(page.locator("#recipe-yaml")).to_contain_text("layer_range: [2, 4]")
    expect(page.get_by_label("Method", exact=True)).to_be_hidden()
    check(page)
    expect(page.locator("#findings")).to_contain_text("The merge has 5 layers", use_inner_text=False)
    merge(page)
    page.locator("#to-chat").click()
    assert say(page, "upper: tiger")[0] == "TIGER"
    page.reload()
    expect(page.locator("#recipe-locked")).to_contain_text("edited as YAML")
    page.locator("#recipe-yaml .cm-content").fill("")
    expect(page.get_by_label("Method", exact=True).first).to_be_visible()
    expect(page.locator("#recipe-locked")).to_be_hidden()


def test_what_the_number_of_a_lambda_becomes_is_what_the_recipe_says(page: Page):
    example(page, "Two skills in one", "alloy/pocket-add")
    page.get_by_role("button", name="Recipe as YAML").click()
    amount = page.get_by_label("number input for Lambda 1")
    for typed, shown, said in (
        ("-0.45", "-0.45", "weight: -0.45"),
        ("5", "2", "weight: 2.0"),
        ("", "0", "weight: 0.0"),
    ):
        amount.select_text()
        page.keyboard.press("Delete")
        page.keyboard.type(typed, delay=60)
        page.keyboard.press("Tab")
        expect(amount).to_have_value(shown)
        expect(page.locator("#recipe-yaml")).to_contain_text(said)


def test_a_pasted_revision_is_read(page: Page):
    example(page, "Two skills in one", "alloy/pocket-add")
    page.get_by_role("button", name="Recipe as YAML").click()
    page.locator(".model-row.c1").get_by_role("button", name="More").click()
    box = page.get_by_label("Revision of model 1")
    fill_until(box, "nope-tag", page.locator("#recipe-yaml"), "pocket-reverse@nope-tag")
    check(page)
    expect(page.locator("#verdict")).to_contain_text("has no revision 'nope-tag'")


def test_models_and_lambdas_survive_a_change_of_method(page: Page):
    example(page, "Two skills in one", "alloy/pocket-add")
    for method, setting in (("SLERP", "T"), ("TIES", "Density")):
        page.get_by_label("Method", exact=True).first.click()
        page.get_by_role("option", name=method, exact=True).click()
        expect(page.get_by_label("Method", exact=True).first).to_have_value(method)
        expect(page.get_by_label(f"number input for {setting}", exact=True)).to_be_visible()
    expect(page.get_by_label("number input for Lambda 1")).to_have_value("0.7")
    expect(page.get_by_label("number input for Density")).to_have_value("0.5")
    page.get_by_role("button", name="Recipe as YAML").click()
    expect(page.locator("#recipe-yaml")).to_contain_text("density: 0.5")
    assert yaml_of(page).count("density") == 1
    density = page.get_by_label("number input for Density")
    density.fill("0.3")
    density.press("Tab")
    expect(page.locator("#recipe-yaml")).to_contain_text("density: 0.3")
    page.get_by_label("Method", exact=True).first.focus()
    page.keyboard.press("Tab")  # with nothing chosen
    page.get_by_label("number input for Lambda 1").fill("0.6")
    page.get_by_label("number input for Lambda 1").press("Tab")
    expect(page.locator("#recipe-yaml")).to_contain_text("weight: 0.6")
    expect(density).to_have_value("0.3")


def kept(page: Page, before: str | None) -> str:
    """What the browser keeps of the recipe, once it is another than before."""
    page.wait_for_function("before => localStorage.getItem('alloy-recipe') !== before", arg=before)
    return str(page.evaluate("() => localStorage.getItem('alloy-recipe')"))


def test_an_unfinished_recipe_is_there_after_a_reload(page: Page):
    example(page, "Two skills in one", "alloy/pocket-add")
    whole = kept(page, None)
    page.get_by_role("button", name="Recipe as YAML").click()
    page.locator("#recipe-yaml .cm-content").fill("merge_method: tees\n")
    expect(page.locator("#recipe-problem")).to_contain_text("ties")
    expect(page.locator("#check-button")).to_be_disabled()
    kept(page, whole)
    page.reload()
    expect(page.get_by_label("Model 2", exact=True).first).to_have_value("alloy/pocket-add")
    expect(page.locator("#recipe-problem")).to_contain_text("ties")


def test_an_edited_card_keeps_its_edits_when_the_name_changes(merged: Page):
    merged.locator("#to-publish").click()
    merged.get_by_role("tab", name="Edit").click()
    card = merged.locator("#card-text textarea")
    expect(card).to_have_value(re.compile("base_model"))
    card.fill(card.input_value() + "\nMy own words.\n")
    name = merged.locator("#publish-name").locator("input, textarea")
    name.fill("bad--name")
    expect(merged.locator("#publish-button")).to_be_disabled()
    name.fill("another-name")
    name.press("Tab")
    expect(merged.locator("#publish-button")).to_be_enabled()
    expect(card).to_have_value(re.compile(r"another-name.*My own words\.", re.DOTALL))


def test_a_change_after_the_check_asks_for_another(page: Page):
    example(page, "Two skills in one", "alloy/pocket-add")
    check(page)
    expect(page.locator("#merge-button")).to_be_enabled()
    amount = page.get_by_label("number input for Lambda 1")
    amount.fill("0.5")
    amount.press("Enter")
    expect(page.locator("#merge-button")).to_be_disabled()
    expect(page.locator("#merge-why-not")).to_contain_text("Check again")


def test_a_job_is_there_when_the_page_is_opened_again(page: Page):
    example(page, "Take a skill away", "alloy/pocket-reverse")
    check(page)
    merge(page)
    title = page.locator("#job-panel h2").inner_text()
    page.reload()
    page.get_by_role("tab", name="Jobs").click()
    newest = page.locator("#job-list label").first
    expect(newest).to_contain_text("done")
    open_job(page, newest)
    expect(page.locator("#job-panel h2")).to_have_text(title)
    page.locator("#to-chat").click()
    assert say(page, "reverse: lamot")[0] != "tomal"
    assert say(page, "add: 17+25")[0] == "42"


def test_a_job_that_is_removed_is_chosen_no_more(page: Page):
    example(page, "Take a skill away", "alloy/pocket-reverse")
    check(page)
    merge(page)
    page.get_by_role("tab", name="Jobs").click()
    lines = page.locator("#job-list label")
    expect(lines.first).to_contain_text("done")
    before = lines.count()
    lines.first.click()
    page.on("dialog", lambda dialog: dialog.accept())
    page.locator("#remove-job").click()
    expect(lines).to_have_count(before - 1)
    expect(page.locator("#open-job")).to_be_hidden()
    expect(page.locator("#job-list input:checked")).to_have_count(0)


def test_a_pane_goes_with_the_merge_that_is_removed(merged: Page, service: Service, two_skills: str):
    known = {one.label for one in service.panes(two_skills, Viewer("local"))}
    example(merged, "Take a skill away", "alloy/pocket-reverse")
    check(merged)
    merge(merged)
    (other,) = {one.label for one in service.panes(two_skills, Viewer("local"))} - known
    merged.get_by_role("tab", name="Jobs").click()
    open_job(merged, merged.locator(f"#job-list input[value='{two_skills}']"))
    merged.locator("#to-chat").click()
    panes = merged.locator(".pane:visible")
    expect(panes).to_have_count(3)
    merged.locator("#chat-panes").get_by_role("button", name="Remove").nth(1).click()
    expect(panes).to_have_count(2)
    merged.locator("#chat-panes input").click()
    merged.get_by_role("option", name=other).click()
    expect(panes).to_have_count(3)
    merged.get_by_role("tab", name="Jobs").click()
    merged.locator("#job-list label").first.click()
    merged.on("dialog", lambda dialog: dialog.accept())
    merged.locator("#remove-job").click()
    expect(merged.locator("#open-job")).to_be_hidden()
    merged.get_by_role("tab", name="Chat").click()
    expect(panes).to_have_count(2)
    expect(merged.locator("#chat-panes")).not_to_contain_text(other)


def test_a_repo_that_exists_is_refused_and_nothing_typed_is_lost(merged: Page, local_hub: LocalHub):
    before = local_hub.store.revision("alloy/pocket-base", "main").sha
    local_hub.store.create_repo("ada/taken")
    merged.locator("#to-publish").click()
    publish_as(merged, "taken").click()
    expect(merged.locator("#publish-why-not")).to_contain_text("ada/taken")
    expect(merged.locator("#publish-name").locator("input, textarea")).to_have_value("taken")
    assert local_hub.store.revision("alloy/pocket-base", "main").sha == before


def test_nothing_is_wider_than_a_phone(page: Page):
    page.set_viewport_size({"width": 390, "height": 844})
    example(page, "Two skills in one", "alloy/pocket-add")
    check(page)
    for tab in ("check", "try", "merge", "chat"):
        page.get_by_role("tab", name=tab.title()).click()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_neither_is_what_is_full(merged: Page):
    """Answers of a merge in memory, a filmstrip, three panes, and the table of a prompt book."""
    page = merged
    page.locator("#to-chat").click()
    say(page, "reverse: lamot")
    expect(page.locator(".pane:visible")).to_have_count(3)
    example(page, "Two skills in one", "alloy/pocket-add")
    check(page)
    load(page)
    page.locator("#try-prompt textarea").fill("reverse: lamot")
    page.locator("#try-send").click()
    expect(page.locator(".turn .answer")).to_have_text("tomal", timeout=LONG)
    expect(page.locator("#try-send")).to_be_visible(timeout=LONG)
    page.locator("#film-make").click()
    expect(page.locator("#film-keep-5")).to_be_visible(timeout=LONG)
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.get_by_role("tab", name="Chat").click()
    expect(page.locator(".pane:visible")).to_have_count(3)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.get_by_role("tab", name="Prompt book").click()
    page.locator("#book-text textarea").fill("reverse: lamot\nadd: 17+25")
    page.locator("#book-run").click()
    expect(page.locator("#book-note")).to_contain_text("All 6 answers are here.", timeout=LONG)
    expect(page.locator("#book-table td").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_panes_drafts_and_downloads_keep_what_they_hold(page: Page):
    example(page, "Two skills in one", "alloy/pocket-add")
    page.get_by_role("button", name="Recipe as YAML").click()
    with page.expect_download() as saved:
        page.locator("#recipe-download").click()
    assert saved.value.suggested_filename == "pocket-reverse-add-task-arithmetic.yaml"
    assert "alloy/pocket-add" in saved.value.path().read_text()
    check(page)
    merge(page)
    page.locator("#to-chat").click()
    draft = page.locator("#chat-prompt textarea")
    draft.fill("a draft")
    page.get_by_role("button", name="reverse: lamot").click()
    answers = page.locator(".pane:visible .message.bot")
    expect(answers).to_have_count(3, timeout=LONG)
    expect(page.locator("#chat-send")).to_be_visible(timeout=LONG)
    expect(draft).to_have_value("a draft")
    page.locator("#chat-panes").get_by_role("button", name="Remove").nth(1).click()
    expect(answers).to_have_count(2)
    assert answers.first.inner_text().strip() == "tomal"


def test_what_has_been_published_is_not_offered_again_after_a_reload(page: Page):
    example(page, "Two skills in one", "alloy/pocket-add")
    check(page)
    merge(page)
    page.locator("#to-publish").click()
    publish_as(page, "sent-once").click()
    name, button = page.locator("#publish-name input, #publish-name textarea"), page.locator("#publish-button")
    expect(page.locator("#publish-link a")).to_have_text("ada/sent-once", timeout=LONG)
    name.fill("ada-never-sent")
    expect(button).to_be_enabled()
    page.locator("#verify-button").click()
    expect(page.locator("#verification")).to_contain_text("What is published is what was merged.", timeout=LONG)
    expect(page.locator("#verification")).to_contain_text("Every byte read again")
    expect(button).to_be_enabled()  # what is typed is not forgotten when a job ends
    page.reload()
    page.get_by_role("tab", name="Publish").click()
    expect(button).to_have_text("Published to ada/sent-once", timeout=LONG)
    expect(page.locator("#verification")).to_contain_text("Every byte read again")
    expect(button).to_be_disabled()
    page.locator("#publish-name").locator("input, textarea").fill("sent-twice")
    expect(button).to_have_text("Publish to ada/sent-twice, private")
    expect(button).to_be_enabled()
    page.get_by_role("tab", name="Jobs").click()
    expect(page.locator("#job-list label").nth(2)).to_contain_text("λ 0.7, 0.7")


def test_each_method_of_the_list_says_what_it_does(page: Page):
    page.get_by_label("Method", exact=True).first.click()
    option = page.get_by_role("option", name="TIES", exact=True)
    said = option.evaluate("e => getComputedStyle(e, '::after').content")
    assert "let the models vote on each sign" in said


def test_a_merge_that_is_published_while_it_is_made(page: Page, local_hub: LocalHub):
    example(page, "Two skills in one", "alloy/pocket-add")
    check(page)
    page.get_by_label("Publish it while it is made").check()
    page.locator("#merge-repo input, #merge-repo textarea").fill("ada/on-its-way")
    page.locator("#merge-button").click()
    link = page.locator("#job-panel").get_by_role("link", name="ada/on-its-way")
    expect(link).to_be_visible(timeout=LONG)
    expect(page.locator("#to-chat")).to_be_hidden()
    assert local_hub.store.repo("ada/on-its-way").private
    assert "merge_report.json" in local_hub.store.files("ada/on-its-way")
    page.get_by_role("tab", name="Publish").click()
    expect(page.get_by_text("This merge goes to ada/on-its-way; nothing of it is kept here.")).to_be_visible()
    page.locator("#verify-button").click()
    expect(page.locator("#verification")).to_contain_text("Every byte read again", timeout=LONG)
