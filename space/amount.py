"""A slider that bears a half-typed number."""

import gradio as gr


class Amount(gr.Slider):
    """An empty number counts as 0, one out of range as the nearest end: that is what the slider shows once it is left.

    Gradio's own raises an error instead, also for the lone minus of a negative number that is being typed.
    (Gradio writes a stub, amount.pyi, beside this file when it is imported; git ignores it.)
    """

    is_template = True  # Gradio's word for: looks like the class it is made from

    def preprocess(self, payload: float | None) -> float:
        return float(min(max(payload or 0.0, self.minimum), self.maximum))
