"""The Judge stage: a held-out set, and what the models of the recipe and their merge are worth on it, as jobs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from evaluation.dials import AMOUNTS, numbers_of
from evaluation.held_out import HeldOut
from merging.card_scores import OwnScores, with_scores
from merging.errors import MergeError
from merging.recipe import all_models, parse_recipe
from space import judge_view, view
from space.controls import label
from space.form import MAX_ROWS, from_recipe
from space.jobs import Job
from space.judge import WHATS, Ask
from space.judge_files import card_scores, to_csv, to_json
from space.pages.book import MAX_FILE_BYTES
from space.pages.desk import QUEUED, QUICK, Desk, Shared, Token, told
from space.pages.jobs import JobsStage
from space.pages.publish import PublishStage, without_front_matter
from space.pages.recipe import SAVE, RecipeColumn
from space.pages.recipe_values import current, shown_form, texts
from space.settings import Settings

QUESTIONS = [("Score", "score"), ("Search lambdas", "search"), ("Path", "path"), ("Greedy soup", "soup")]
RUN = {"score": "Score", "search": "Search", "path": "Walk the path", "soup": "Make the soup"}
USE = {"search": "Use these values", "soup": "Use this soup"}
SCORES = [("NLL", "nll"), ("Exact match", "exact"), ("Accuracy", "accuracy")]
LAYERS = [
    ("Attention", "attention"),
    ("MLP", "mlp"),
    ("Norms", "norms"),
    ("Embeddings", "embeddings"),
    ("Head", "head"),
]
SAMPLERS = [("TPE", "tpe"), ("CMA-ES", "cma-es"), ("Grid", "grid")]
PLACEHOLDER = (
    '{"prompt": "add: 17+25", "completion": "42", "task": "add"}\nor prompt, tab, completion\n'
    "or org/name/file.jsonl of a data set on the Hub"
)  # fmt: skip
OPEN = """() => new Promise((done) => {
  const box = document.createElement('input');
  box.type = 'file';
  box.accept = '.jsonl,.json,.tsv,.txt';
  box.oncancel = () => done('');
  box.onchange = async () => {
    const file = box.files[0];
    done(JSON.stringify(file.size > LIMIT ? [file.name, '', file.size] : [file.name, await file.text(), file.size]));
  };
  box.click();
})""".replace("LIMIT", str(MAX_FILE_BYTES))
MOST_TRADED = ("Those with the most to trade", "")
ASKED, LOOKED, OFFERED = 6, 6, 3  # values of those lists of `JudgeStage`
GATHER = "(...all) => JSON.stringify(all)"  # the controls of a question as one value: see pages/recipe.py
FIELDS = (
    "what", "sampler", "score", "over", "trials", "minutes", "low", "high", "groups", "candidates", "last", "parameter",
    "first", "second", "tasks",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class JudgeStage:
    card: gr.HTML  # what set it is
    chooser: gr.Accordion
    text: gr.Textbox
    use: gr.Button
    upload: gr.Button
    sample: gr.Button
    problem: gr.HTML
    tasks: gr.CheckboxGroup
    what: gr.Radio
    about: gr.HTML
    by: gr.Row  # what is to be good
    search: gr.Column
    soup: gr.Row
    path: gr.Row
    controls: tuple[gr.components.Component, ...]  # in the order of FIELDS, without the first
    run: gr.Button
    stop: gr.Button
    why_not: gr.HTML
    pair: gr.Dropdown  # tasks of a search that are plotted
    panel: gr.HTML
    take: gr.Button
    csv: gr.Button
    json: gr.Button
    file: tuple[
        gr.Textbox, gr.Textbox, gr.Textbox
    ]  # on its way from and to the browser: what was asked or read; text, name
    chosen: gr.State  # the set, by its name on the shelf
    shown: gr.State  # id of the job that is shown

    @property
    def set_outputs(self) -> list[Any]:
        return [self.card, self.problem, self.chosen, self.chooser, self.tasks]

    @property
    def looked(self) -> list[Any]:
        return [self.panel, self.stop, self.take, self.csv, self.json, self.pair]

    @property
    def asked(self) -> list[Any]:
        """What a question shows of the controls."""
        return [self.about, self.by, self.search, self.soup, self.path, self.run]

    @property
    def offered(self) -> list[Any]:
        """What the recipe has to choose from: the parameter of a search, the ends of a path."""
        return list(self.controls[-3:])


def build_judge(settings: Settings) -> JudgeStage:
    gr.HTML("<h2>Held-out set</h2>")
    card = gr.HTML(judge_view.NO_SET, elem_id="judge-set")
    with gr.Accordion("Choose a set", open=True, elem_id="judge-chooser") as chooser:
        text = gr.Textbox(
            label="Lines, or a file on the Hub", placeholder=PLACEHOLDER, lines=4, max_lines=10, elem_id="judge-text"
        )
        with gr.Row(elem_classes="stage-action"):
            use = gr.Button("Use these lines", elem_id="judge-use")
            upload = gr.Button("Upload JSONL", elem_classes="quiet", elem_id="judge-upload")
            sample = gr.Button("Take the sample", elem_classes="quiet", elem_id="judge-sample")
    problem = gr.HTML("", elem_id="judge-problem")
    tasks = gr.CheckboxGroup([], label="Tasks that count", visible=False, elem_id="judge-tasks")
    what = gr.Radio(QUESTIONS, value="score", label="What to find out", elem_id="judge-what")
    about = gr.HTML(view.note(judge_view.ABOUT["score"]), elem_id="judge-about")
    by, search, soup, path, controls = build_controls(settings.max_candidates)
    with gr.Row(elem_classes="stage-action"):
        run = gr.Button(RUN["score"], variant="primary", elem_id="judge-run")
        stop = gr.Button("Cancel", visible=False, elem_id="judge-stop")
    why_not = gr.HTML("", elem_id="judge-why-not")
    pair = gr.Dropdown(
        [MOST_TRADED], value="", label="Two tasks to plot", visible=False, elem_id="judge-pair", min_width=240
    )
    panel = gr.HTML(judge_view.EMPTY, elem_id="judge-panel")
    with gr.Row(elem_classes="stage-action"):
        take = gr.Button("Use these values", visible=False, elem_id="judge-take")
        csv = gr.Button("Download CSV", size="sm", visible=False, elem_classes="quiet", elem_id="judge-csv")
        as_json = gr.Button("Download JSON", size="sm", visible=False, elem_classes="quiet", elem_id="judge-json")
    hidden = gr.Textbox("", visible=False), gr.Textbox("", visible=False), gr.Textbox("", visible=False)
    return JudgeStage(
        card, chooser, text, use, upload, sample, problem, tasks, what, about, by, search, soup, path, controls, run,
        stop, why_not, pair, panel, take, csv, as_json, hidden, gr.State(""), gr.State(""),
    )  # fmt: skip


def build_controls(most: int) -> tuple[gr.Row, gr.Column, gr.Row, gr.Row, tuple[gr.components.Component, ...]]:
    """Rows for what is to be good, a search, a soup of at most so many candidates, and a path."""
    with gr.Row(visible=False, elem_classes="judge-row") as by:
        score = gr.Dropdown(SCORES, value="nll", label="What is to be good", elem_id="judge-score", min_width=150)
        over = gr.Radio([("Mean", "mean"), ("Worst", "worst")], value="mean", label="Over the tasks", min_width=190)
    with gr.Column(visible=False, elem_classes="judge-search") as search:
        with gr.Row(elem_classes="judge-row"):
            sampler = gr.Dropdown(SAMPLERS, value="tpe", label="Sampler", min_width=100)
            trials = gr.Number(20, label="Trials, up to", precision=0, minimum=1, elem_id="judge-trials", min_width=100)
            minutes = gr.Number(0, label="Minutes (0: any)", minimum=0, min_width=100)
        with gr.Row(elem_classes="judge-row"):
            parameter = gr.Dropdown(
                [("Weight", "")], value="", label="What to turn", elem_id="judge-parameter", min_width=120
            )
            low = gr.Number(0.0, label="From", elem_id="judge-low", min_width=90)
            high = gr.Number(1.2, label="To", elem_id="judge-high", min_width=90)
        groups = gr.CheckboxGroup(
            LAYERS, label="Values of their own for (none: one for all tensors)", elem_id="judge-groups"
        )
    with gr.Row(visible=False, elem_classes="judge-row") as soup:
        candidates = gr.Textbox(
            label=f"Candidates, one a line, up to {most}", placeholder="the models of the recipe", lines=1, max_lines=8,
            elem_id="judge-candidates", min_width=260,
        )  # fmt: skip
        last = gr.Number(
            0, label="Last revisions of one (0: as named)", precision=0, minimum=0, maximum=most, elem_id="judge-last",
            min_width=190,
        )  # fmt: skip
    with gr.Row(visible=False, elem_classes="judge-row") as path:
        first = gr.Dropdown([], value=None, label="From", allow_custom_value=True, min_width=240, elem_id="judge-first")
        second = gr.Dropdown([], value=None, label="To", allow_custom_value=True, min_width=240, elem_id="judge-second")
    return by, search, soup, path, (
        sampler, score, over, trials, minutes, low, high, groups, candidates, last, parameter, first, second
    )  # fmt: skip


# -- listeners ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Judging:
    """The listeners that ask the service."""

    desk: Desk

    def arrive(
        self, request: gr.Request, token: Token, chosen: str, shown: str, what: str, turned: str | None,
        gathered: list[Any],
    ) -> list[Any]:  # fmt: skip
        """The stage is opened: the set of last time, the newest evaluation, the models of the recipe as it stands.

        Which question is chosen is not said again to who comes back: by now they may have chosen another one.
        """
        judge = self.desk.service.judge
        try:
            viewer = self.desk.viewer(request, token)
            was, chosen = chosen, chosen or judge.latest_set(viewer)
            job = judge.job(shown, viewer) or judge.latest(viewer)
            held_out = judge.held_out(chosen, viewer) if chosen else None
        except MergeError as e:
            nothing = [gr.skip()] * (1 + ASKED + OFFERED + LOOKED)
            return [view.note(str(e), "error"), "", "", gr.skip(), gr.skip(), shown, *nothing]
        what = job.payload["ask"]["what"] if job is not None else what
        question = [gr.skip()] * (1 + ASKED) if shown else [what, *asked(what)]
        set_shown = set_state(held_out, chosen)
        if was:  # which of its tasks count was chosen here
            set_shown[-1] = gr.skip()
        return [*set_shown, job.id if job else "", *question, *offered(gathered, turned), *self.state(job)]

    def use(self, request: gr.Request, token: Token, text: str) -> list[Any]:
        return self.used(request, token, text, "pasted lines")

    def uploaded(self, request: gr.Request, token: Token, packed: str) -> list[Any]:
        """What the browser read of a file: its name, its text, and its size where it was too large to be read."""
        if not packed:
            return [gr.skip()] * 5
        with told():
            name, text, size = from_browser(packed, 3)
        if not text and size:
            most = f"up to {MAX_FILE_BYTES:,} are read"
            said = f"{name} has {size:,} bytes; {most}. Give a part of it, or put it on the Hub."
            return [gr.skip(), view.note(said, "error"), *[gr.skip()] * 3]
        return self.used(request, token, text, str(name)[:100])

    def sample(self, request: gr.Request, token: Token) -> list[Any]:
        return self.used(request, token, None, "")

    def used(self, request: gr.Request, token: Token, text: str | None, name: str) -> list[Any]:
        judge = self.desk.service.judge
        try:
            viewer = self.desk.viewer(request, token)
            chosen = judge.use_sample(viewer) if text is None else judge.use_lines(text, name, viewer)
            return set_state(judge.held_out(chosen, viewer), chosen)
        except MergeError as e:
            return [gr.skip(), view.note(str(e), "error"), *[gr.skip()] * 3]

    @told()
    def choose(
        self, request: gr.Request, token: Token, what: str, turned: str | None, gathered: list[Any]
    ) -> list[Any]:  # fmt: skip
        """Another question: its controls, and what was found by it last."""
        job = self.desk.service.judge.latest(self.desk.viewer(request, token), what)
        return ["", job.id if job else "", *asked(what), *offered(gathered, turned), *self.state(job)]

    def run(
        self, request: gr.Request, token: Token, packed: str, chosen: str, gathered: list[Any]
    ) -> list[Any]:  # fmt: skip
        try:
            viewer = self.desk.viewer(request, token)
            ask, judge = unpacked(packed), self.desk.service.judge
            if chosen and not ask.tasks and judge_view.task_choices(judge.held_out(chosen, viewer)):
                raise MergeError("No task of the set counts. Tick one or more.")
            job = judge.ask(current(gathered), chosen, ask, viewer)
        except MergeError as e:
            return [view.note(str(e), "error"), *[gr.skip()] * (2 + LOOKED)]
        return ["", job.id, gr.Timer(active=True), *self.state(job)]

    def look(self, request: gr.Request, token: Token, shown: str, pair: str | None) -> list[Any]:
        """As jobs go on. Who has been signed out is told by the poll."""
        try:
            job = self.desk.service.judge.job(shown, self.desk.viewer(request, token))
        except MergeError:
            job = None
        return self.state(job, pair or "") if job is not None else [gr.skip()] * LOOKED

    def state(self, job: Job | None, pair: str = "") -> list[Any]:
        """For `JudgeStage.looked`; with the two tasks that were chosen, where the job is the one that was shown."""
        answer = self.desk.service.judge.answer(job) if job is not None else None
        what = job.payload["ask"]["what"] if job is not None else ""
        pairs = judge_view.pairs(answer)
        is_done = job is not None and job.state == "done" and answer is not None
        stop = "Stop and keep the best" if what == "search" and job is not None and job.state == "running" else "Cancel"
        return [
            judge_view.panel(job, answer, pair),
            gr.update(visible=job is not None and job.active, value=stop),
            gr.update(visible=is_done and can_be_used(answer), value=USE.get(what, "Use these values")),
            gr.update(visible=is_done),
            gr.update(visible=is_done),
            gr.update(visible=bool(pairs), choices=[MOST_TRADED, *pairs], value=pair if pair in pairs else ""),
        ]

    @told()
    def stop(self, request: gr.Request, token: Token, shown: str) -> Any:
        self.desk.service.judge.stop(shown, self.desk.viewer(request, token))
        return gr.update(value="Stopping")

    @told()
    def take(self, request: gr.Request, token: Token, shown: str) -> list[Any]:
        """What was found becomes the recipe."""
        form = from_recipe(parse_recipe(self.answer(request, token, shown)["recipe"]))
        return [*shown_form(form), *texts(form)]

    @told()
    def csv(self, request: gr.Request, token: Token, shown: str) -> list[str]:
        answer = self.answer(request, token, shown)
        return [to_csv(answer), f"{answer['what']}.csv"]

    @told()
    def json(self, request: gr.Request, token: Token, shown: str) -> list[str]:
        answer = self.answer(request, token, shown)
        return [to_json(answer), f"{answer['what']}.json"]

    def answer(self, request: gr.Request, token: Token, shown: str) -> dict[str, Any]:
        judge = self.desk.service.judge
        job = judge.job(shown, self.desk.viewer(request, token))
        if job is None or (answer := judge.answer(job)) is None:
            raise MergeError("This evaluation is not here any more. Run it again.")
        return answer

    @told()
    def opened(self, request: gr.Request, token: Token, chosen: str | None) -> list[Any]:
        """A job of the list of all jobs, where it is an evaluation."""
        judge = self.desk.service.judge
        job = judge.job(chosen or "", self.desk.viewer(request, token))
        if job is None:
            return [gr.skip()] * (3 + ASKED + LOOKED)
        what = job.payload["ask"]["what"]
        return [gr.Tabs(selected="judge"), job.id, what, *asked(what), *self.state(job)]


def wire_judge(
    stage: JudgeStage, tab: gr.Tab, jobs: JobsStage, recipe: RecipeColumn, desk: Desk, shared: Shared
) -> None:  # fmt: skip
    judging, (packed, text, name) = Judging(desk), stage.file
    recipe.gathered_on(tab.select).then(
        judging.arrive, [stage.chosen, stage.shown, stage.what, stage.offered[0], recipe.gathered],
        [*stage.set_outputs, stage.shown, stage.what, *stage.asked, *stage.offered, *stage.looked], **QUICK,
    )  # fmt: skip
    stage.use.click(judging.use, stage.text, stage.set_outputs, **QUICK)
    stage.upload.click(None, None, packed, js=OPEN).then(judging.uploaded, packed, stage.set_outputs, **QUICK)
    stage.sample.click(judging.sample, None, stage.set_outputs, **QUICK)
    recipe.gathered_on(stage.what.input).then(
        judging.choose, [stage.what, stage.offered[0], recipe.gathered],
        [stage.why_not, stage.shown, *stage.asked, *stage.offered, *stage.looked], **QUICK,
    )  # fmt: skip
    recipe.gathered_on(stage.run.click).then(None, [stage.what, *stage.controls, stage.tasks], packed, js=GATHER).then(
        judging.run, [packed, stage.chosen, recipe.gathered],
        [stage.why_not, stage.shown, shared.timer, *stage.looked], **QUEUED,
    )  # fmt: skip
    gr.on([shared.states.change, stage.pair.input], judging.look, [stage.shown, stage.pair], stage.looked, **QUICK)
    stage.stop.click(judging.stop, stage.shown, stage.stop, **QUICK)
    stage.take.click(judging.take, stage.shown, recipe.all, **QUICK)
    for button, write in ((stage.csv, judging.csv), (stage.json, judging.json)):
        button.click(write, stage.shown, [text, name], **QUICK).then(None, [text, name], js=SAVE)
    jobs.open.click(
        judging.opened, jobs.chosen, [shared.tabs, stage.shown, stage.what, *stage.asked, *stage.looked], **QUICK
    )


def wire_scores(stage: PublishStage, tab: gr.Tab, desk: Desk, shared: Shared) -> None:
    """Scores on their way into the card: an offer at Publish, where the recipe of the merge was scored."""

    def section(request: gr.Request, token: Token, finished: str) -> OwnScores | None:
        viewer = desk.viewer(request, token)
        job = desk.find(finished, viewer)
        answer = desk.service.judge.scores_of_merge(job, viewer) if job is not None else None
        return card_scores(answer) if answer else None

    @told()
    def offer_scores(request: gr.Request, token: Token, finished: str) -> Any:
        return gr.update(visible=section(request, token, finished) is not None)

    @told()
    def put_scores(request: gr.Request, token: Token, finished: str, wanted: bool, card: str) -> list[str]:
        """The card with the scores or without them; what else was edited in it stays."""
        card = with_scores(card, section(request, token, finished) if wanted else None)
        return [card, without_front_matter(card)]

    tab.select(offer_scores, shared.finished, stage.scores, **QUICK)
    stage.scores.input(put_scores, [shared.finished, stage.scores, stage.card], [stage.card, stage.preview], **QUICK)
    gr.on([stage.remake.click, shared.finished.change], lambda: False, None, stage.scores, **QUICK)  # as for votes


def set_state(held_out: HeldOut | None, chosen: str) -> list[Any]:
    """For `JudgeStage.set_outputs`: what set it is, and its tasks, all of which count at first."""
    tasks = judge_view.task_choices(held_out) if held_out else []
    return [
        judge_view.set_card(held_out), "", chosen, gr.update(open=held_out is None),
        gr.update(choices=tasks, value=[task for _, task in tasks], visible=bool(tasks)),
    ]  # fmt: skip


def can_be_used(answer: Mapping[str, Any] | None) -> bool:
    """Whether what was found is a recipe that the recipe column can show."""
    return answer is not None and answer["what"] in USE and len(answer.get("members", ())) <= MAX_ROWS


def asked(what: str) -> list[Any]:
    """For `JudgeStage.asked`."""
    what = what if what in WHATS else "score"
    return [
        view.note(judge_view.ABOUT[what]),
        gr.update(visible=what in ("search", "soup")),
        gr.update(visible=what == "search"),
        gr.update(visible=what == "soup"),
        gr.update(visible=what == "path"),
        RUN[what],
    ]


def offered(gathered: Sequence[Any], turned: str | None) -> list[Any]:
    """For `JudgeStage.offered`: numbers of the method that a search can turn, and models that a path can go between; as
    proposed, from the base to the first fine-tune."""
    try:
        recipe = parse_recipe(current(gathered))
    except MergeError:
        return [gr.skip(), gr.update(choices=[]), gr.update(choices=[])]
    names = [str(one) for one in all_models(recipe)]
    first, second = [*names, "", ""][:2]
    return [
        parameters(recipe.method, turned),
        gr.update(choices=names, value=first or None),
        gr.update(choices=names, value=second or None),
    ]


def parameters(method: str, turned: str | None) -> Any:
    """What a search can turn of a method, first what it has for an amount, which is asked for without its name: the
    method may be another one by then. What was chosen stays, where the method has it."""
    names = [param.name for param in numbers_of(method)]
    usual = next((one for one in AMOUNTS if one in names), None)
    choices = [(label(one), "" if one == usual else one) for one in sorted(names, key=lambda one: one != usual)]
    values = [value for _, value in choices]
    return gr.update(choices=choices, value=turned if turned in values else next(iter(values), None))


def from_browser(packed: str, count: int) -> list[Any]:
    """So many values that the page has packed into one."""
    try:
        found = json.loads(packed)
    except ValueError:
        found = None
    if not isinstance(found, list) or len(found) != count:
        raise MergeError("What the page sent cannot be read. Reload the page, and try again.")
    return found


def unpacked(packed: str) -> Ask:
    """The controls as the browser gathered them; a number that was cleared is the default, or no limit."""
    given, start = dict(zip(FIELDS, from_browser(packed, len(FIELDS)), strict=True)), Ask()
    return Ask(
        given["what"] if given["what"] in WHATS else start.what, given["sampler"], given["score"], given["over"],
        start.trials if given["trials"] is None else int(given["trials"]), float(given["minutes"] or 0),
        start.low if given["low"] is None else float(given["low"]),
        start.high if given["high"] is None else float(given["high"]),
        str(given["parameter"] or ""), tuple(given["groups"] or ()),
        str(given["first"] or "").strip(), str(given["second"] or "").strip(),
        tuple(line.strip() for line in str(given["candidates"] or "").splitlines() if line.strip()),
        int(given["last"] or 0), tuple(given["tasks"] or ()),
    )  # fmt: skip
