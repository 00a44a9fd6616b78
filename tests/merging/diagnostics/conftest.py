"""A family of models in every type of file."""

import pytest
import torch

from tests.merging.diagnostics.diagnosed import DTYPES, made, noise
from tests.merging.models import fine_tunes


@pytest.fixture(scope="module", params=["bf16", "f16", "f32", "mixed"])
def family(request, tmp_path_factory):
    """A base and three fine-tunes, with the same numbers as float64; some entries are not changed at all."""
    folder = tmp_path_factory.mktemp(request.param)
    base = noise(dtype=DTYPES.get(request.param, torch.bfloat16))
    tunes = fine_tunes(base, 3, by=0.001)
    for i, tune in enumerate(tunes):
        for tensor in tune.values():
            tensor.view(-1)[i::7] = next(b for n, b in base.items() if tune[n] is tensor).view(-1)[i::7]
    if request.param == "mixed":
        tunes[1] = {n: t.float() for n, t in tunes[1].items()}
        tunes[2] = {n: t.to(torch.float16) for n, t in tunes[2].items()}
    path, paths = made(folder, base, tunes, shards=2)
    plain = [{n: t.float().flatten().numpy() for n, t in m.items()} for m in (base, *tunes)]
    return path, paths, plain
