"""How all panes answer: temperature, length, seed, system prompt."""

from dataclasses import dataclass

import gradio as gr

from space.chat import ChatOptions


@dataclass(frozen=True, slots=True)
class OptionRow:
    temperature: gr.Slider
    max_tokens: gr.Slider
    seed: gr.Number
    system: gr.Textbox

    @property
    def all(self) -> list[gr.components.Component]:
        return [self.temperature, self.max_tokens, self.seed, self.system]


def build_options() -> OptionRow:
    with gr.Accordion("Settings", open=False):
        with gr.Row():
            temperature = gr.Slider(0, 2, 0, step=0.05, label="Temperature", info="0 takes the likeliest token.")
            tokens = gr.Slider(1, 1024, 256, step=1, label="Max tokens")
            seed = gr.Number(0, label="Seed", precision=0, info="The same for every answer.")
        system = gr.Textbox(label="System prompt", lines=1, max_lines=6, placeholder="None")
    return OptionRow(temperature, tokens, seed, system)


def options_of(temperature: float, tokens: float, seed: float | None, system: str | None) -> ChatOptions:
    return ChatOptions(
        temperature=float(temperature), max_new_tokens=int(tokens), seed=int(seed or 0), system=(system or "").strip()
    )
