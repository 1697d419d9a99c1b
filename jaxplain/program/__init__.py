"""The engine: functions as pytrees, loops over points, derivatives; below it what reads and rewrites programs.

Here lives what every family stands on and nothing that knows a method. `trace` turns a function into a program and
back, `node` says what groups of its equations mean, `fast` writes them as a backend is fast at.
"""

from jaxplain.program.calls import check_calls
from jaxplain.program.chunk import (
    ROWS,
    filled,
    fitting,
    has_room,
    host_points,
    is_hosted,
    is_open,
    most_points,
    with_points,
)
from jaxplain.program.differentiate import common_dtype, like, map_floating, total, value_and_gradient
from jaxplain.program.frame import Frame, FrameColumn, as_frame, is_frame, read_frame
from jaxplain.program.function import (
    Function,
    Static,
    as_function,
    as_model,
    freeze,
    is_array,
    is_node,
    kept,
    needs_key,
    setting,
    thaw,
)
from jaxplain.program.integration import RULES, logarithmic_gauss, quadrature
from jaxplain.program.keep import keep_programs
from jaxplain.program.kinds import hold
from jaxplain.program.leaf import escaped, leaves_by_parts, leaves_by_path, unescaped, without_value
from jaxplain.program.loop import (
    Moments,
    chunk_size,
    chunked,
    chunked_map,
    chunked_moments,
    chunked_sum,
    fold_range,
    map_range,
    masked,
    merge_moments,
    points_at_once,
    side_by_side,
    wide_dtype,
    widen,
)
from jaxplain.program.memory import free_bytes, host_bytes, needed_bytes
from jaxplain.program.opaque import NeedsDerivative, needs_derivative, note_failure, with_own_errors
from jaxplain.program.place import as_folder, as_path
from jaxplain.program.progress import in_notebook, notebook_bar
from jaxplain.program.spelling import meant, public, unknown_setting
from jaxplain.program.text import call_name, html_table, short, shown
from jaxplain.program.thread import as_called

__all__ = [
    "ROWS",
    "RULES",
    "Frame",
    "FrameColumn",
    "Function",
    "Moments",
    "NeedsDerivative",
    "Static",
    "as_called",
    "as_folder",
    "as_frame",
    "as_function",
    "as_model",
    "as_path",
    "call_name",
    "check_calls",
    "chunk_size",
    "chunked",
    "chunked_map",
    "chunked_moments",
    "chunked_sum",
    "common_dtype",
    "escaped",
    "filled",
    "fitting",
    "fold_range",
    "free_bytes",
    "freeze",
    "has_room",
    "hold",
    "host_bytes",
    "host_points",
    "html_table",
    "in_notebook",
    "is_array",
    "is_frame",
    "is_hosted",
    "is_node",
    "is_open",
    "keep_programs",
    "kept",
    "leaves_by_parts",
    "leaves_by_path",
    "like",
    "logarithmic_gauss",
    "map_floating",
    "map_range",
    "masked",
    "meant",
    "merge_moments",
    "most_points",
    "needed_bytes",
    "needs_derivative",
    "needs_key",
    "note_failure",
    "notebook_bar",
    "points_at_once",
    "public",
    "quadrature",
    "read_frame",
    "setting",
    "short",
    "shown",
    "side_by_side",
    "thaw",
    "total",
    "unescaped",
    "unknown_setting",
    "value_and_gradient",
    "wide_dtype",
    "widen",
    "with_own_errors",
    "with_points",
    "without_value",
]
