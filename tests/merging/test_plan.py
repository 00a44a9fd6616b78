"""Plans: headers in, shards and offsets out, or a message. No file has weights."""

import json
from dataclasses import dataclass, field

import pytest

from merging.budget import GRAIN, make_budget
from merging.checkpoint import Checkpoint
from merging.donor import copied_files
from merging.errors import MergeError
from merging.header import DTYPE_BITS, TensorInfo, parse_header
from merging.methods import METHODS
from merging.plan import estimate_seconds, from_json, index_of, make_plan, to_json
from merging.recipe import all_models, parse_recipe


@dataclass
class Listed:
    """A model of which only the list of files is known."""

    label: str
    repo_id: str | None = None
    revision: str | None = None
    files: dict[str, int] = field(default_factory=dict)
    blank: int = 0  # bytes that may be read

    def sizes(self):
        return self.files

    def read(self, file, start, end):
        raise AssertionError("a plan reads nothing")

    def read_into(self, file, start, into):
        assert start < self.blank, "a plan reads nothing but heads and embeddings"
        into[:] = bytes(len(into))

    def expect(self, ranges, memory_bytes):
        raise AssertionError("a plan reads nothing")

    def checked(self):
        return ()

    def recall(self, files, right):
        pass

    def verified(self):
        return {}

    def stop(self):
        """Nothing is read."""

    def close(self):
        """Nothing is open."""


def checkpoint(label, tensors, config=None, *, repo_id=None):
    """Tensors as name -> (dtype, shape), lying in that order in one file."""
    found, at = {}, 8
    for name, (dtype, shape) in tensors.items():
        info = TensorInfo(dtype, shape, "model.safetensors", at, 0)
        found[name] = TensorInfo(dtype, shape, info.file, at, at := at + info.numel * DTYPE_BITS[dtype] // 8)
    blank = at if "lm_head.weight" in tensors else 0
    return Checkpoint(Listed(label, repo_id, blank=blank), found, config or {}, ("model.safetensors",))


def plan(*models, method="linear", shard_bytes=10**9, memory_bytes=10**9, threads=2, **recipe):
    """Merge (tensors, config) pairs, called a, b and so on."""
    names = "abcdef"[: len(models)]
    tree = {"merge_method": method, "models": list(names), "parameters": {"weight": 1}} | recipe
    parsed = parse_recipe(json.dumps(tree))
    opened = {ref: checkpoint(ref.path, *models[names.index(ref.path)]) for ref in all_models(parsed)}
    return make_plan(parsed, opened, shard_bytes=shard_bytes, memory_bytes=memory_bytes, threads=threads)


X = {"x": ("BF16", (4, 8)), "y": ("BF16", (8,)), "z": ("BF16", (2,))}


def steps(made):
    return [s for shard in made.shards for s in shard.steps]


def test_one_file_with_its_header_and_offsets():
    made = plan((X,), (X,))
    (shard,) = made.shards
    assert shard.file == "model.safetensors" and index_of(made) is None
    assert [(s.name, s.dtype, s.end - s.start) for s in shard.steps] == [
        ("x", "BF16", 64),
        ("y", "BF16", 16),
        ("z", "BF16", 4),
    ]
    assert shard.steps[0].start == len(shard.header) and shard.nbytes == shard.steps[-1].end
    written = parse_header(shard.header[8:], shard.file, shard.nbytes, shard.file)
    assert [(s.name, s.start, s.end) for s in shard.steps] == [(n, i.start, i.end) for n, i in written.items()]


def test_shards_fill_in_order_and_a_large_tensor_is_alone():
    made = plan((X,), (X,), shard_bytes=20)
    assert [[s.name for s in shard.steps] for shard in made.shards] == [["x"], ["y", "z"]]
    assert [s.file for s in made.shards] == ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    assert index_of(made) == {
        "metadata": {"total_size": 84},
        "weight_map": {"x": made.shards[0].file, "y": made.shards[1].file, "z": made.shards[1].file},
    }


def test_the_order_is_that_of_the_donors_file():
    other = dict(reversed(X.items()))
    assert [s.name for s in steps(plan((other,), (X,)))] == ["z", "y", "x"]
    assert [s.name for s in steps(plan((other,), (X,), base_model="b"))] == ["x", "y", "z"]


def test_wide_types_come_first_so_that_all_are_aligned():
    mixed = {"a": ("BF16", (3,)), "n": ("I64", (1,)), "b": ("U8", (5,)), "f": ("F32", (3,)), "h": ("F16", (1,))}
    (shard,) = plan((mixed,), (mixed,)).shards
    assert [s.name for s in shard.steps] == ["n", "f", "a", "h", "b"]
    assert all(s.start % (DTYPE_BITS[s.dtype] // 8) == 0 for s in shard.steps)


def test_a_plan_is_read_back_from_json():
    made = plan((X,), (X,), shard_bytes=20)
    assert from_json(to_json(made)) == made


@pytest.mark.parametrize(
    ("a", "b", "recipe", "written"),
    [
        ("BF16", "BF16", {}, "BF16"),
        ("F16", "F16", {}, "F16"),
        ("BF16", "F16", {}, "F32"),
        ("BF16", "F32", {}, "F32"),
        ("BF16", "F16", {"dtype": "float16"}, "F16"),
        ("F32", "F32", {"dtype": "float32", "out_dtype": "bfloat16"}, "BF16"),
        ("I64", "I64", {"dtype": "float16"}, "I64"),
        ("BOOL", "BOOL", {}, "BOOL"),
    ],
)
def test_types(a, b, recipe, written):
    assert [s.dtype for s in steps(plan(({"x": (a, (4,))},), ({"x": (b, (4,))},), **recipe))] == [written]


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ("F8_E4M3", "F8_E4M3", "'x' is F8_E4M3 in a. That is a quantised type"),
        ("BF16", "F4", "'x' is F4 in b. That is a quantised type"),
        ("F64", "F64", "'x' is F64 in a. Only bfloat16, float16 and float32 are merged"),
        ("I64", "I32", "'x' is I64 in a, I32 in b. Whole numbers are copied"),
        ("BF16", "I8", "'x' is BF16 in a, I8 in b. Whole numbers are copied"),
    ],
)
def test_types_that_cannot_be_merged(a, b, message):
    with pytest.raises(MergeError) as refused:
        plan(({"x": (a, (4,))},), ({"x": (b, (4,))},))
    assert message in str(refused.value)


MANY = {f"t{i}": ("BF16", (1,)) for i in range(9)}


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (X, {k: X[k] for k in "xy"}, "a and b do not have the same tensors: b lacks 'z'. Merge models"),
        ({"x": X["x"]}, X, "b has 'y', 'z' besides."),
        ({"x": X["x"], "q": X["y"]}, {"x": X["x"], "r": X["y"]}, "b lacks 'q'; b has 'r' besides."),
        (X, X | MANY, "b has 't0', 't1', 't2', 't3', 't4' and 4 more tensors besides."),
        (X, X | {"x": ("BF16", (8, 4))}, "'x' is (4, 8) in a but (8, 4) in b. Merge models of the same size."),
        ({"model.embed_tokens.weight": ("BF16", (4, 2))}, {"model.embed_tokens.weight": ("BF16", (5, 2))},
         "The vocabularies differ"),
        (MANY, dict.fromkeys(MANY, ("BF16", (2,))), "'t4' is (1,) in a but (2,) in b; and 4 more."),
        ({}, {}, "a has no tensors"),
    ],
)  # fmt: skip
def test_models_that_do_not_fit(a, b, message):
    with pytest.raises(MergeError) as refused:
        plan((a,), (b,))
    assert message in str(refused.value)


HEAD = {"model.embed_tokens.weight": ("BF16", (4, 2)), "lm_head.weight": ("BF16", (4, 2))}
BODY = {"model.embed_tokens.weight": ("BF16", (4, 2))}
TIED, UNTIED = {"tie_word_embeddings": True}, {"tie_word_embeddings": False}


@pytest.mark.parametrize(
    ("a", "b", "names"),
    [
        ((HEAD, TIED), (HEAD, TIED), list(BODY)),
        ((HEAD, TIED), (BODY, TIED), list(BODY)),
        ((BODY, TIED), (HEAD, TIED), list(BODY)),
        ((BODY, TIED), (BODY, {}), list(BODY)),
        ((HEAD, UNTIED), (HEAD, UNTIED), list(HEAD)),
        ((HEAD, {}), (HEAD, UNTIED), list(HEAD)),
        ((HEAD, {"text_config": TIED}), (BODY, {"text_config": TIED}), list(BODY)),
    ],
)
def test_tied_embeddings(a, b, names):
    assert [s.name for s in steps(plan(a, b))] == names


@pytest.mark.parametrize(
    ("a", "b"), [((HEAD, TIED), (HEAD, UNTIED)), ((HEAD, UNTIED), (BODY, TIED)), ((HEAD, {}), (BODY, {}))]
)
def test_models_that_do_not_tie_alike(a, b):
    with pytest.raises(MergeError, match="shares its embeddings with its output head"):
        plan(a, b)


@pytest.mark.parametrize(("config", "kind"), [({"quant_method": "gptq"}, "gptq"), ({}, None), ("fp8", "fp8")])
def test_quantised_models(config, kind):
    if kind is None:
        assert plan((X, {"quantization_config": config}), (X,))
        return
    with pytest.raises(MergeError, match=rf"b is quantised \({kind}\): its numbers are codes"):
        plan((X,), (X, {"quantization_config": config}))


BIG = {"x": ("BF16", (1000, 4000)), "y": ("BF16", (8,))}


def test_what_it_will_cost():
    made = plan((BIG,), (BIG,), (BIG,))
    assert made.read_bytes == 3 * 8_000_016
    assert made.write_bytes == sum(s.nbytes for s in made.shards) < made.disk_bytes
    assert estimate_seconds(made, bytes_per_second=1e6) == (made.read_bytes + made.write_bytes) / 1e6


def test_a_measured_tensor_is_read_once_if_it_can_be_held():
    two = {"base_model": "a", "parameters": {"weight": 1, "density": 0.5}, "method": "ties"}
    roomy, tight = (plan((BIG,), (BIG,), memory_bytes=m, threads=1, **two) for m in (10**9, 40 * 10**6))
    assert (roomy.read_bytes, roomy.again_bytes) == (2 * 8_000_016, 0)
    assert tight.read_bytes == 2 * 2 * 8_000_000 + 2 * 16  # one pass, then the merge
    assert tight.again_bytes == 2 * 8_000_000
    wide = {name: ("F32", shape) for name, (_, shape) in BIG.items()}
    assert plan((wide,), (wide,), memory_bytes=40 * 10**6, threads=1, **two).read_bytes == 3 * 2 * 16_000_000 + 2 * 32
    assert tight.peak_memory_bytes < roomy.peak_memory_bytes


@pytest.mark.parametrize("method", ["linear", "ties", "dare_ties", "slerp"])
@pytest.mark.parametrize("models", [1, 4, 30])
@pytest.mark.parametrize("threads", [1, 2, 16, 128])
@pytest.mark.parametrize("memory", [10**8, 10**9, 2 * 10**9, 64 * 10**9])
@pytest.mark.parametrize("numel", [1, 10**6, 2 * 10**9])
def test_a_budget_is_kept(method, models, threads, memory, numel):
    tensors = {"w": (TensorInfo("F32", (numel,), "f", 0, 4 * numel),) * models}
    try:
        budget = make_budget(method, tensors, memory, threads, measures=METHODS[method].measure is not None, remote=0)
    except MergeError as e:
        assert memory < 2 * 10**9, e
        return
    assert budget.peak_bytes <= memory + 4 * 10**8
    shape = (numel,)
    assert budget.block(shape) % GRAIN == 0 and 1 <= budget.workers <= threads and budget.sets >= 2 * budget.workers
    assert not budget.holds(shape) or budget.blocks(shape) * budget.set_bytes <= memory


def test_too_little_memory_says_how_much_is_needed():
    with pytest.raises(MergeError, match=r"1,000 bytes of memory are too few for 2 models: \w+ needs at least [\d,]+"):
        plan((X,), (X,), memory_bytes=1000)


def test_no_shard_is_smaller_than_nothing():
    with pytest.raises(MergeError, match="it must be at least 1"):
        plan((X,), (X,), shard_bytes=0)


def test_which_files_are_taken_over():
    files = {
        "config.json": 1, "tokenizer.json": 2, "chat_template.jinja": 3, "additional_chat_templates/tool.jinja": 4,
        "modeling_x.py": 5, "model.safetensors": 6, "README.md": 7, "additional_chat_templates/../../x.jinja": 8,
        "sub/tokenizer.json": 9, "generation_config.json": 10, "training_args.bin": 11,
    }  # fmt: skip
    donor = Checkpoint(Listed("a", files=files), {}, {}, ())
    assert dict(copied_files(donor)) == {
        "tokenizer.json": 2, "chat_template.jinja": 3, "additional_chat_templates/tool.jinja": 4,
        "generation_config.json": 10,
    }  # fmt: skip


def test_a_file_too_large_to_be_what_its_name_says_is_refused(monkeypatch):
    monkeypatch.setattr("merging.donor.MAX_COPIED_BYTES", 3)
    with pytest.raises(MergeError, match=r"tokenizer.json has 4 bytes; a file that a merge takes over has at most 3"):
        copied_files(Checkpoint(Listed("a", files={"tokenizer.json": 4}), {}, {}, ()))
