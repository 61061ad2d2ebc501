"""Files of images in a store: the image, its small copy and its icon. Each is named by the hash of its recipe."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import featviz as fv
from featviz.apps.shared.pages.input_pictures import icon_pixels
from featviz.io import Store, encode

THUMBNAIL_SIZE = 256
"""Longer side in px of the small copies that pages show first."""
IMAGES_FOLDER = "images"
"""Folder of the images in a store."""
THUMBNAILS_FOLDER = "thumbs"
"""Folder of their small copies."""
ICONS_FOLDER = "icons"
"""Folder of pictures of signals, volumes and clips that are small and square."""


def image_file(name: str) -> str:
    """Return the path of an image in its store."""
    return f"{IMAGES_FOLDER}/{name}.png"


def thumbnail_file(name: str) -> str:
    """Return the path of the small copy of an image in its store."""
    return f"{THUMBNAILS_FOLDER}/{name}.webp"


def icon_file(name: str) -> str:
    """Return the path of the icon of a signal, a volume or a clip in its store. Images have none but the small copy."""
    return f"{ICONS_FOLDER}/{name}.webp"


def write_image(image: fv.Rendering, name: str, store: Store) -> None:
    """Write an image and its small copy.

    Args:
        image: The image.
        name: Hash of its recipe.
        store: Where the files are written.

    Raises:
        OutputError: The store cannot be written to.
    """
    # The image comes last: where it exists, its thumbnail does too.
    if image.recipe.input.axes != "yx":
        icon = icon_pixels(image.images[0], image.recipe.input.axes)
        store.write(icon_file(name), encode(icon, ".webp"))
    store.write(thumbnail_file(name), image.encoded(".webp", side=THUMBNAIL_SIZE))
    store.write(image_file(name), image.encoded())


def rendered_names(store: Store, names: Iterable[str]) -> set[str]:
    """Return which images are in a store. What cannot be read counts as missing.

    Args:
        store: The store.
        names: Names of images.
    """
    files, thumbnails = store.names(IMAGES_FOLDER), store.names(THUMBNAILS_FOLDER)
    listed = [name for name in names if f"{name}.png" in files and f"{name}.webp" in thumbnails]
    intact = store.intact_images(map(thumbnail_file, listed))
    return {name for name in listed if thumbnail_file(name) in intact and _has_recipe(store, name)}


def _has_recipe(store: Store, name: str) -> bool:
    """Return whether an image can be read, and its recipe."""
    if store.path is None:  # elsewhere, images appear when they are complete
        return True
    try:
        return fv.Recipe.of(store.read(image_file(name))) is not None
    except fv.FeatvizError:
        return False


def copy_images(other: Store, store: Store, names: Sequence[str]) -> int:
    """Copy images from another store that has them, and return how many it has.

    Args:
        other: The other store.
        store: Where they are copied to.
        names: Names of images.

    Raises:
        OutputError: The store cannot be written to.
    """
    existing = rendered_names(other, names)
    icons = {file.removesuffix(".webp") for file in other.names(ICONS_FOLDER)}
    for name in existing - rendered_names(store, existing):
        icon = [icon_file(name)] if name in icons else []
        for file in (*icon, thumbnail_file(name), image_file(name)):  # as in `write_image`, the image comes last
            store.write(file, other.read(file))
    return sum(name in existing for name in names)
