"""Read and write images, videos, folders of images, contact sheets, arrays in recipes, and progress bars."""

from featviz.io.array import Array, Numbers
from featviz.io.audio import read_wav, save_wav
from featviz.io.cache import cache_folder, write_cached
from featviz.io.clips import clip_picture, frames_of, save_clip, sheets_of
from featviz.io.contact_sheet import contact_sheet, text_tile, wrap
from featviz.io.display import clip_html, volume_html
from featviz.io.files import check_output, ending_of, free_path, is_file, is_folder, slug, unique_slug, write
from featviz.io.folders import (
    check_outside,
    files_in,
    images_in,
    middle,
    read_photograph,
    read_photographs,
    read_whole_photograph,
    warn_of_skipped,
)
from featviz.io.formats import FORMATS, KINDS, check_result, is_result, read_numbers, recipe_in
from featviz.io.gif import encode_gif
from featviz.io.given_images import GivenImage, load_given_image, load_given_images, separate_images
from featviz.io.image_source import ImageSource, as_image_source, as_mask_source, check_unit_range, load_image_source
from featviz.io.images import (
    EXPLAINED_KEY,
    OPAQUE_ENDINGS,
    decode_image,
    encode,
    open_image,
    over_checks,
    pack_texts,
    pillow_pixels,
    read_image,
    read_recipe,
    read_report,
    save_image,
    to_bytes,
)
from featviz.io.live import LiveImages
from featviz.io.locks import locked
from featviz.io.nifti import NIFTI, check_nibabel, read_nifti, save_nifti
from featviz.io.npy import NPY, read_arrays, recipe_beside, save_npy
from featviz.io.plots import check_matplotlib, draw_lines, has_matplotlib, plot_signal
from featviz.io.progress import auto_bar, close_bars, default_progress, named_progress, progress_bar
from featviz.io.resizing import linear_mode, resize
from featviz.io.samples import SAMPLE_ENDINGS, fit_size, parts_of, read_data, read_samples
from featviz.io.store import Store, new_store
from featviz.io.video import DEFAULT_FPS, VIDEOS, check_fps, check_video, read_video, save_video
from featviz.io.volumes import slices_picture, stretch, volume_picture, zoom_of

__all__ = [
    "DEFAULT_FPS",
    "EXPLAINED_KEY",
    "FORMATS",
    "KINDS",
    "NIFTI",
    "NPY",
    "OPAQUE_ENDINGS",
    "SAMPLE_ENDINGS",
    "VIDEOS",
    "Array",
    "GivenImage",
    "ImageSource",
    "LiveImages",
    "Numbers",
    "Store",
    "as_image_source",
    "as_mask_source",
    "auto_bar",
    "cache_folder",
    "check_fps",
    "check_matplotlib",
    "check_nibabel",
    "check_output",
    "check_outside",
    "check_result",
    "check_unit_range",
    "check_video",
    "clip_html",
    "clip_picture",
    "close_bars",
    "contact_sheet",
    "decode_image",
    "default_progress",
    "draw_lines",
    "encode",
    "encode_gif",
    "ending_of",
    "files_in",
    "fit_size",
    "frames_of",
    "free_path",
    "has_matplotlib",
    "images_in",
    "is_file",
    "is_folder",
    "is_result",
    "linear_mode",
    "load_given_image",
    "load_given_images",
    "load_image_source",
    "locked",
    "middle",
    "named_progress",
    "new_store",
    "open_image",
    "over_checks",
    "pack_texts",
    "parts_of",
    "pillow_pixels",
    "plot_signal",
    "progress_bar",
    "read_arrays",
    "read_data",
    "read_image",
    "read_nifti",
    "read_numbers",
    "read_photograph",
    "read_photographs",
    "read_recipe",
    "read_report",
    "read_samples",
    "read_video",
    "read_wav",
    "read_whole_photograph",
    "recipe_beside",
    "recipe_in",
    "resize",
    "save_clip",
    "save_image",
    "save_nifti",
    "save_npy",
    "save_video",
    "save_wav",
    "separate_images",
    "sheets_of",
    "slices_picture",
    "slug",
    "stretch",
    "text_tile",
    "to_bytes",
    "unique_slug",
    "volume_html",
    "volume_picture",
    "warn_of_skipped",
    "wrap",
    "write",
    "write_cached",
    "zoom_of",
]  # fmt: skip
