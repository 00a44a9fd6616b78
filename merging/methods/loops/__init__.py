"""The inner loops on the CPU: what parts.py says, compiled by Numba, without Python's lock.

They take float32 [n, m]; tiles.py and those named after it take bfloat16 as it is stored. Every sum of float32 is
rounded after each product and each addition, in the order of the models, so that vector units of any width and GPUs
give the same bits. Sums over elements are float64, in LANES lanes that are then halved. Long rows are gone through in
tiles, so that what one loop leaves the next finds in the nearest cache. Every inner loop runs from 0 over slices: only
then does the compiler know that no index is negative, which Python would count from the end.
"""

from merging.methods.loops.counts import count_high_halves, count_low_halves
from merging.methods.loops.dtypes import (
    largest_magnitude,
    narrow_bf16,
    narrow_f16,
    narrow_f32,
    widen_bf16,
    widen_f16,
    widen_f32,
)
from merging.methods.loops.fusion import importance, take_from
from merging.methods.loops.keeping import draw, keep_between, keep_by_chance, keep_by_rank
from merging.methods.loops.products import absolute_sums, column_grams, gram, row_grams, square_sums
from merging.methods.loops.sharing import add_consensus, add_own_and_shared, count_own_and_shared, spread
from merging.methods.loops.standing import mean_by_standing, standing_scores
from merging.methods.loops.sums import add_changes, add_weighted, blend, mix_columns, mix_rows, near_swap, weighted_sum
from merging.methods.loops.votes import add_agreed, average_agreed

__all__ = [
    "absolute_sums", "add_agreed", "add_changes", "add_consensus", "add_own_and_shared", "add_weighted",
    "average_agreed", "blend", "column_grams", "count_high_halves", "count_low_halves", "count_own_and_shared", "draw",
    "gram", "importance", "keep_between", "keep_by_chance", "keep_by_rank", "largest_magnitude", "mean_by_standing",
    "mix_columns", "mix_rows", "narrow_bf16", "narrow_f16", "narrow_f32", "near_swap", "row_grams", "spread",
    "square_sums", "standing_scores", "take_from", "weighted_sum", "widen_bf16", "widen_f16", "widen_f32",
]  # fmt: skip
