"""The engine: recipe, check, plan, read, compute, write. Knows neither Gradio nor the app."""

import os

# Blocks are computed on threads of our own, one each. numpy's BLAS would start as many again, which spin as they wait;
# it reads this when numpy is first imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

__version__ = "0.1.0"
