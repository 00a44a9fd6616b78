"""The engine: recipe, check, plan, read, compute, write. Knows neither Gradio nor the app."""

__version__ = "0.1.0"
