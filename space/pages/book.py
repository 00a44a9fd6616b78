"""The prompt book of the Chat stage: one's own prompts, asked of all panes with one click."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from merging.errors import MergeError
from space import view
from space.book import MAX_PROMPTS, Result
from space.book_file import to_csv, to_jsonl
from space.pages.desk import QUEUED, QUICK, Desk, Shared, Token
from space.pages.options import OptionRow, options_of
from space.pages.recipe import SAVE, RecipeColumn
from space.pages.seats import as_it_stands
from space.panes import MERGE
from space.presets import PRESETS, Preset
from space.tried import Tried

MAX_FILE_BYTES = 1_000_000
OPEN = """(text) => new Promise((done) => {
  const box = document.createElement('input');
  box.type = 'file';
  box.accept = '.jsonl,.json,.txt';
  box.oncancel = () => done([text, '']);
  box.onchange = async () => {
    const file = box.files[0];
    const size = file.size.toLocaleString('en');
    if (file.size > LIMIT)
      done([text, `<p class="note error" role="alert">The file has ${size} bytes; up to LIMIT are read.</p>`]);
    else done([await file.text(), '']);
  };
  box.click();
})""".replace("LIMIT", str(MAX_FILE_BYTES))

PLACEHOLDER = "One prompt a line, paragraphs with an empty line between two, or JSON lines"


@dataclass(frozen=True, slots=True)
class BookStage:
    presets: tuple[gr.Button, ...]
    look: gr.HTML
    text: gr.Textbox
    upload: gr.Button
    run: gr.Button
    stop: gr.Button
    note: gr.HTML
    table: gr.HTML
    saves: gr.Row
    csv: gr.Button
    jsonl: gr.Button
    rows: gr.State  # what was answered so far
    columns: gr.State  # by whom
    file: tuple[gr.Textbox, gr.Textbox]  # on its way to the browser: text, name


def build_book() -> BookStage:
    with gr.Row(elem_classes="examples"):
        presets = tuple(gr.Button(one.title, size="sm", elem_classes="quiet") for one in PRESETS)
    look = gr.HTML("", elem_id="book-look")
    text = gr.Textbox(
        label="Prompts", info=f"Up to {MAX_PROMPTS}. Each is a conversation of its own.", placeholder=PLACEHOLDER,
        lines=5, max_lines=12, elem_id="book-text",
    )  # fmt: skip
    with gr.Row(elem_classes="stage-action"):
        run = gr.Button("Run over all panes", variant="primary", elem_id="book-run")
        stop = gr.Button("Stop", visible=False, elem_id="book-stop")
        upload = gr.Button("Upload JSONL", elem_classes="quiet", elem_id="book-upload")
    note = gr.HTML("", elem_id="book-note")
    table = gr.HTML("", elem_id="book-table")
    with gr.Row(visible=False, elem_classes="stage-action") as saves:
        csv = gr.Button("Download CSV", size="sm", elem_classes="quiet", elem_id="book-csv")
        jsonl = gr.Button("Download JSONL", size="sm", elem_classes="quiet", elem_id="book-jsonl")
    file = gr.Textbox("", visible=False), gr.Textbox("", visible=False)
    return BookStage(
        presets, look, text, upload, run, stop, note, table, saves, csv, jsonl, gr.State(()), gr.State([]), file
    )


def runner(desk: Desk) -> Callable[..., Iterator[list[Any]]]:
    def run(
        request: gr.Request, token: Token, job_id: str, tried: Tried | None, labels: list[str], text: str,
        gathered: list[Any], *options: Any,
    ) -> Iterator[list[Any]]:  # fmt: skip
        """Ask, and show the table as it fills. What was answered stays when this is stopped."""
        shown = -1
        try:
            viewer = desk.viewer(request, token)
            tried, _ = as_it_stands(tried, labels, gathered)
            for now in desk.service.run_book(job_id, labels, text, options_of(*options), viewer, tried):
                note = view.book_progress(now.done, now.total, now.note)
                if now.done == shown:
                    yield [gr.skip(), gr.skip(), note, gr.skip(), gr.skip()]
                    continue
                shown = now.done
                yield [now.rows, now.panes, note, view.book_table(now.rows, now.panes), gr.update(visible=shown > 0)]
            said = view.note(f"All {now.total} answers are here.")
            yield [gr.skip(), gr.skip(), said, gr.skip(), gr.update(visible=shown > 0)]  # again: one may get lost
        except MergeError as e:
            yield [gr.skip(), gr.skip(), view.note(str(e), "error"), gr.skip(), gr.skip()]

    return run


def wire_book(
    stage: BookStage, labels: gr.Dropdown, tried: gr.State, options: OptionRow, recipe: RecipeColumn, desk: Desk,
    shared: Shared,
) -> None:  # fmt: skip
    for button, preset in zip(stage.presets, PRESETS, strict=True):
        button.click(taker(preset), None, [stage.text, stage.look], **QUICK)
    stage.upload.click(None, stage.text, [stage.text, stage.note], js=OPEN)
    buttons = [stage.run, stage.stop]
    results = [stage.rows, stage.columns, stage.note, stage.table, stage.saves]
    begun = stage.run.click(lambda: running_buttons(True), None, buttons, **QUICK).then(**recipe.gathering)
    given = [shared.finished, tried, labels, stage.text, recipe.gathered, *options.all]
    running = begun.then(runner(desk), given, results, concurrency_limit=16, **QUEUED)
    running.then(lambda: running_buttons(False), None, buttons, **QUICK)
    stage.stop.click(lambda: [*running_buttons(False), view.note("Stopped.")], None, [*buttons, stage.note],
                     cancels=running, **QUICK)  # fmt: skip
    for button, write, name in ((stage.csv, to_csv, "answers.csv"), (stage.jsonl, to_jsonl, "answers.jsonl")):
        button.click(writer(write, name), [stage.rows, stage.columns], list(stage.file), **QUICK).then(
            None, list(stage.file), js=SAVE
        )
    shared.finished.change(of_another_merge, stage.columns, results, **QUICK)


def of_another_merge(columns: list[str]) -> list[Any]:
    """When a merge has come or gone: answers under its name are of the one before; those of others stay."""
    return [(), [], "", "", gr.update(visible=False)] if MERGE in columns else [gr.skip()] * 5


def running_buttons(running: bool) -> list[Any]:
    return [gr.update(visible=not running), gr.update(visible=running)]


def taker(preset: Preset) -> Callable[[], list[str]]:
    return lambda: [preset.text, view.note(preset.look)]


def writer(write: Callable[..., str], name: str) -> Callable[..., list[str]]:
    def written(rows: tuple[Result, ...], columns: list[str]) -> list[str]:
        return [write(rows, columns), name]

    return written
