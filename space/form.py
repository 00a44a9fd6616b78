"""The recipe as the page's form shows it, and the way there and back."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from merging.methods import METHODS, Method, Param
from merging.recipe import Input, ModelRef, Recipe, Setting

HUB_ADDRESS = "https://huggingface.co/"


@dataclass(frozen=True, slots=True)
class Row:
    """One fine-tune. `settings` holds what was set for this model alone; what is absent follows the whole recipe."""

    repo: str = ""
    revision: str = ""
    settings: Mapping[str, Setting] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Form:
    """Every control of the recipe column."""

    base: str = ""
    base_revision: str = ""
    rows: tuple[Row, ...] = ()
    method: str = "task_arithmetic"
    settings: Mapping[str, Setting] = field(default_factory=dict)
    dtype: str = ""
    seed: int = 0

    @property
    def models(self) -> int:
        return sum(1 for row in self.rows if row.repo)


def lambda_param(method: Method) -> Param | None:
    """The one per-model setting that gets a slider in each row: the weight, or a scale where there is no weight."""
    return next((p for p in method.params if p.per_model), None)


def to_recipe(form: Form) -> Recipe:
    """Rows without a repo are left out; a method gets only the settings it declares, and a base only if it uses one."""
    method = METHODS[form.method]
    declared = {p.name for p in method.params}
    per_model = {p.name for p in method.params if p.per_model}
    base = ref(form.base, form.base_revision)
    models = tuple(
        Input(found, {k: v for k, v in row.settings.items() if k in per_model})
        for row in form.rows
        if (found := ref(row.repo, row.revision))
    )
    listed = any(m.model == base for m in models)
    if base and method.max_models == 1 and method.needs_base and not listed:
        models = (Input(base), *models)  # mergekit lists both ends of a path
    return Recipe(
        method=form.method,
        models=models,
        base=base if method.takes_base or listed else None,
        parameters={k: v for k, v in form.settings.items() if k in declared},
        dtype=form.dtype or None,
        seed=form.seed,
    )


def from_recipe(recipe: Recipe) -> Form:
    """The form that shows this recipe. A weight given once for all models is written into every row."""
    method = METHODS[recipe.method]
    shown = lambda_param(method)
    shared = dict(recipe.parameters)
    everywhere = shared.pop(shown.name, None) if shown else None
    rows = [
        Row(m.model.path, m.model.revision or "", dict(m.parameters))
        for m in recipe.models
        if not (method.takes_base and m.model == recipe.base)
    ]
    if shown and everywhere is not None:
        rows = [replace(r, settings={shown.name: everywhere, **r.settings}) for r in rows]
    return Form(
        base=recipe.base.path if recipe.base else "",
        base_revision=(recipe.base.revision or "") if recipe.base else "",
        rows=tuple(rows),
        method=recipe.method,
        settings=shared,
        dtype=recipe.out_dtype or recipe.dtype or "",
        seed=recipe.seed,
    )


def ref(repo: str, revision: str) -> ModelRef | None:
    """A model reference as typed: `org/name`, with the revision beside it or after an @; a repo's address will do."""
    repo, _, tail = repo.strip().removeprefix(HUB_ADDRESS).rstrip("/").partition("@")
    return ModelRef(repo, revision.strip() or tail or None) if repo else None
