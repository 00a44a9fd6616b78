"""How the app looks: graphite and paper neutrals, one copper accent, in light and dark."""

from pathlib import Path

import gradio as gr

from merging.methods import METHODS

CSS = [Path(__file__).with_name(name) for name in ("style.css", "inspect.css")]

GRAPHITE = gr.themes.Color(
    name="graphite", c50="#faf9f7", c100="#f3f1ed", c200="#e5e2dc", c300="#cfcac2", c400="#a39d94",
    c500="#777169", c600="#5a554f", c700="#423e3a", c800="#2b2927", c900="#1e1c1b", c950="#151413",
)  # fmt: skip
COPPER = gr.themes.Color(
    name="copper", c50="#fdf5ef", c100="#f9e6d8", c200="#f2cbae", c300="#e8a97d", c400="#db8450",
    c500="#c4652f", c600="#a94f20", c700="#8a3f1b", c800="#6d331a", c900="#572b18", c950="#331709",
)  # fmt: skip

SANS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "sans-serif")
MONO = ("ui-monospace", "SF Mono", "Cascadia Mono", "Menlo", "DejaVu Sans Mono", "monospace")


def sentences() -> str:
    """In the list of methods each says in a sentence what it does. Gradio's list has room for a name only."""
    return "".join(
        f'#method [aria-label="{in_quotes(one.title)}"]::after {{ content: "{in_quotes(one.summary)}"; }}\n'
        for one in METHODS.values()
    )


def in_quotes(text: str) -> str:
    """As a string of CSS holds it."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")


def theme() -> gr.themes.Base:
    """Gradio's base theme with our tokens; style.css only adds what tokens do not reach."""
    made = gr.themes.Base(
        primary_hue=COPPER, secondary_hue=COPPER, neutral_hue=GRAPHITE,
        radius_size=gr.themes.sizes.radius_sm, spacing_size=gr.themes.sizes.spacing_md,
        text_size=gr.themes.sizes.text_md, font=SANS, font_mono=MONO,
    )  # fmt: skip
    return made.set(
        body_background_fill="*neutral_50", body_background_fill_dark="*neutral_950",
        body_text_color="*neutral_900", body_text_color_dark="*neutral_100",
        body_text_color_subdued="*neutral_600", body_text_color_subdued_dark="*neutral_400",
        background_fill_primary="white", background_fill_primary_dark="*neutral_900",
        background_fill_secondary="*neutral_100", background_fill_secondary_dark="*neutral_800",
        border_color_primary="*neutral_200", border_color_primary_dark="*neutral_800",
        block_background_fill="transparent", block_background_fill_dark="transparent",
        block_border_width="0px", block_shadow="none", block_padding="0px", block_shadow_dark="none",
        block_label_background_fill="transparent", block_label_background_fill_dark="transparent",
        block_title_text_weight="500", block_title_text_size="*text_sm",
        block_title_text_color="*neutral_700", block_title_text_color_dark="*neutral_300",
        block_info_text_color="*neutral_600", block_info_text_color_dark="*neutral_400",
        input_background_fill="white", input_background_fill_dark="*neutral_950",
        input_border_color="*neutral_300", input_border_color_dark="*neutral_700", input_border_width="1px",
        input_border_color_focus="*primary_600", input_border_color_focus_dark="*primary_400",
        input_placeholder_color="*neutral_500", input_placeholder_color_dark="*neutral_400",
        slider_color="*primary_600", slider_color_dark="*primary_400",
        button_primary_background_fill="*primary_600", button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover="*primary_700", button_primary_background_fill_hover_dark="*primary_700",
        button_primary_text_color="white", button_primary_text_color_dark="white",
        button_secondary_background_fill="white", button_secondary_background_fill_dark="*neutral_900",
        button_secondary_background_fill_hover="*neutral_100",
        button_secondary_background_fill_hover_dark="*neutral_800",
        button_secondary_border_color="*neutral_300", button_secondary_border_color_dark="*neutral_700",
        button_border_width="1px",
        link_text_color="*primary_700", link_text_color_dark="*primary_300",
        layout_gap="16px", form_gap_width="0px",
    )  # fmt: skip
