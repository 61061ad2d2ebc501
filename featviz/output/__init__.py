"""Files, sheets and bars."""

from featviz.output.files import check_output, encode, read_image, read_recipe, save_picture, to_bytes, write
from featviz.output.progress import progress_bar
from featviz.output.sheet import contact_sheet

__all__ = [
    "check_output", "contact_sheet", "encode", "progress_bar", "read_image", "read_recipe", "save_picture", "to_bytes",
    "write",
]  # fmt: skip
