"""The page: the recipe beside the stages of one job."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import gradio as gr

from merging.errors import MergeError
from merging.methods import METHODS
from space import view
from space.api import add_api
from space.controls import first_settings
from space.examples import Examples, prompts
from space.form import Form
from space.pages.chat import build_chat, wire_chat
from space.pages.check import build_check, wire_check
from space.pages.desk import QUICK, Desk, Shared, Token
from space.pages.inspect import build_inspect, wire_inspect
from space.pages.jobs import build_jobs, wire_jobs
from space.pages.judge import build_judge, wire_judge, wire_scores
from space.pages.merge import build_merge, wire_merge
from space.pages.publish import build_publish, wire_publish
from space.pages.recipe import RecipeColumn, build_examples, build_recipe, wire_recipe
from space.pages.recipe_values import control_count, form_of, read_form, shown_form, texts, typed_yaml
from space.pages.sessions import keep_sessions_small
from space.pages.try_it import build_try, leaving, wire_try
from space.pages.votes import wire_votes
from space.service import Service
from space.settings import Settings
from space.viewer import Viewer

POLL_SECONDS = 0.5
PULSE_SECONDS = 4
NOT_SIGNED_IN = "You are not signed in: the Hub did not confirm it, or you did not allow it. Try again with the button."


def build_page(service: Service, settings: Settings, examples: Examples = ()) -> gr.Blocks:
    """The whole app as Gradio blocks, ready to launch."""
    desk = Desk(service, settings)
    with gr.Blocks(title="Alloy: merge language models", fill_width=True) as page:
        nobody, *states = (gr.State("") for _ in range(8))  # first of all: each event looks for them from the top
        add_api(service, settings)  # first, so that the names are theirs: Gradio numbers those that come again
        with gr.Row(elem_classes="masthead-row"):
            masthead = gr.HTML(view.header(Viewer(""), demo=settings.demo), elem_id="masthead")
            if settings.hosted:
                gr.LoginButton(logout_value="Sign out ({})", size="sm", scale=0, min_width=230, elem_id="sign-in")
        notice = gr.HTML("", elem_id="notice")
        buttons = build_examples(examples)
        with gr.Row(elem_classes="workbench"):
            with gr.Column(elem_classes="recipe", scale=0, min_width=380):
                recipe = build_recipe()
            with gr.Column(elem_classes="stages", scale=1, min_width=320):
                shared = build_stages(recipe, desk, notice, states)
                gr.HTML(view.limits(settings), elem_id="limits")
        wire_recipe(recipe, partial(finder, desk))
        wire_examples(recipe, buttons, examples)
        wire_arrival(page, masthead, recipe, desk, shared)
        page.unload(leaving(desk))
        keep_hearing()
        tell_once(page, nobody)
    keep_sessions_small(page)
    return page


def keep_hearing() -> None:
    """Have the browser listen again and again for what it may have missed.

    Gradio 6.31 loses an event that is sent while the stream of answers is being closed: it waits for ever, and holds
    back all of its kind, until another kind of event opens the stream again.
    """
    gr.Timer(PULSE_SECONDS).tick(lambda: None, None, None, trigger_mode="multiple", **QUICK)


def tell_once(page: gr.Blocks, nobody: gr.State) -> None:
    """Have Gradio say how far each listener is to one place that shows nothing, instead of to all of its outputs.

    At every event Gradio 6.31 tells every place that was ever told anything, and looks for each in the whole tree of
    the page: most of what the browser does during a merge. Inputs are told as well, and cannot be spared that.
    """
    for listener in page.fns.values():
        listener.show_progress_on = [nobody]


def build_stages(recipe: RecipeColumn, desk: Desk, notice: gr.HTML, states: Sequence[gr.State]) -> Shared:
    with gr.Tabs(selected="check", elem_classes="stage-tabs", overflow_behavior="wrap") as tabs:
        with gr.Tab("Check", id="check"):
            check = build_check()
        with gr.Tab("Inspect", id="inspect"):
            inspect = build_inspect()
        with gr.Tab("Try", id="try"):
            trying = build_try(prompts(desk.settings))
        with gr.Tab("Merge", id="merge"):
            merge = build_merge()
        with gr.Tab("Chat", id="chat") as chat_tab:
            chat = build_chat(prompts(desk.settings))
        with gr.Tab("Judge", id="judge") as judge_tab:
            judge = build_judge(desk.settings)
        with gr.Tab("Publish", id="publish") as publish_tab:
            publish = build_publish()
        with gr.Tab("Jobs", id="jobs") as jobs_tab:
            jobs = build_jobs()
    shared = Shared(tabs, notice, gr.Timer(POLL_SECONDS, active=False), *states)
    loaded, kept = wire_try(trying, recipe, desk, shared)
    wire_check(check, recipe, trying, merge, desk, shared, kept)
    wire_inspect(inspect, recipe, desk, shared)
    wire_merge(merge, publish, desk, shared)
    wire_chat(chat, chat_tab, loaded, recipe, desk, shared)
    wire_publish(publish, desk, shared)
    wire_votes(publish, publish_tab, desk, shared)
    wire_jobs(jobs, jobs_tab, recipe, desk, shared)
    wire_judge(judge, judge_tab, jobs, recipe, desk, shared)
    wire_scores(publish, publish_tab, desk, shared)
    return shared


def finder(desk: Desk, number: int) -> Any:
    def find(request: gr.Request, token: Token, known: list[list[str]], event: gr.KeyUpData) -> list[Any]:
        """Repo IDs as one types, added to those already listed.

        Gradio's dropdown loses its place when its choices shrink while it is open, so they only grow; it shows those
        that match. That none come is no error: the check says what is wrong with an ID.
        """
        if len(event.key) > 1 and event.key not in ("Backspace", "Delete"):  # Tab, Enter, arrows: nothing was typed
            return [gr.skip()] * 2
        listed = known[number]
        if not (fresh := new_models(desk, request, token, listed, event.input_value or "")):
            return [gr.skip()] * 2
        choices = [*listed, *fresh]
        return [[*known[:number], choices, *known[number + 1 :]], gr.update(choices=choices)]

    return find


def new_models(desk: Desk, request: gr.Request, token: Token, known: list[str], text: str) -> list[str]:
    try:  # who has been signed out is told by the notice
        found = desk.service.search(text, desk.viewer(request, token))
    except MergeError:
        found = []
    return [repo for repo in found if repo not in known]


def wire_examples(recipe: RecipeColumn, buttons: Sequence[gr.Button], examples: Examples) -> None:
    for button, (_, form) in zip(buttons, examples, strict=True):
        form = replace(form, settings={**first_settings(METHODS[form.method]), **form.settings})
        # Made anew at each click: Gradio takes updates apart.
        button.click(lambda form=form: [*shown_form(form), *texts(form)], None, recipe.all, **QUICK)


def wire_arrival(page: gr.Blocks, masthead: gr.HTML, recipe: RecipeColumn, desk: Desk, shared: Shared) -> None:
    """Somebody opens the page: who they are, their newest merge as it stands, and models to choose from."""

    def arrive(request: gr.Request, token: Token) -> list[Any]:
        try:
            viewer = desk.viewer(request, token)
        except MergeError as e:
            return [gr.skip(), "", "", gr.Timer(active=False), view.notice(str(e)), ""]
        mine = desk.service.welcome(viewer)
        merge = next((job.id for job in mine if job.kind == "merge"), "")
        pushed = next((job.id for job in mine if job.kind == "publish" and job.payload.get("merge") == merge), "")
        look = next((job.id for job in mine if job.kind == "diagnose"), "")
        going = any(job.active for job in mine)
        failed = request.query_params.get("sign_in") == "failed"
        said = view.notice(NOT_SIGNED_IN) if failed and viewer.account is None else ""
        return [view.header(viewer, demo=desk.settings.demo), merge, pushed, gr.Timer(active=going), said, look]

    def suggest(request: gr.Request, token: Token) -> list[str]:
        return new_models(desk, request, token, [], "")

    def add_suggested(found: list[str], known: list[list[str]]) -> list[Any]:
        """Behind what the boxes list by now: somebody may have typed while the Hub was asked."""
        lists = [[*one, *(repo for repo in found if repo not in one)] for one in known]
        return [lists, *(gr.update(choices=one) for one in lists)]

    there = [masthead, shared.job, shared.publication, shared.timer, shared.notice, shared.inspection]
    page.load(arrive, None, there, **QUICK)
    first = gr.State([])
    page.load(suggest, None, first, **QUICK).then(
        add_suggested, [first, recipe.known], [recipe.known, *recipe.boxes], **QUICK
    )
    # What was typed is kept in the browser, so that it is there after a reload: the form, and the YAML as it stood.
    page.load(restored, recipe.gathered, recipe.all, **QUICK)
    recipe.gathered_on(recipe.yaml.change)


def restored(gathered: list[Any] | None) -> list[Any]:
    """The form of last time, with its YAML even if that was not finished. What is of another version is left alone."""
    if not gathered or len(gathered) != 2 + control_count():
        return [gr.skip()] * len(shown_form(Form()) + list(texts(Form())))
    _, text, *values = gathered
    form = form_of(values)
    said, *rest = texts(form)
    if text == said or readable(text):
        return [*shown_form(form), said, *rest]
    return [*shown_form(form), text, *typed_yaml(text)[-4:]]


def readable(text: str) -> bool:
    try:
        read_form(text)
    except MergeError:
        return False
    return True
