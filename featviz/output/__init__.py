"""Files, sheets and bars."""

from featviz.output.files import (
    cache_folder,
    check_output,
    encode,
    read_image,
    read_recipe,
    read_report,
    save_picture,
    to_bytes,
    write,
)
from featviz.output.progress import progress_bar
from featviz.output.sheet import contact_sheet
from featviz.output.store import Store
from featviz.output.video import VIDEOS, check_video, read_video, save_video

__all__ = [
    "VIDEOS", "Store", "cache_folder", "check_output", "check_video", "contact_sheet", "encode", "progress_bar",
    "read_image", "read_recipe", "read_report", "read_video", "save_picture", "save_video", "to_bytes", "write",
]  # fmt: skip
