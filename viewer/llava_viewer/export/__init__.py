"""Files made from a record: figures as PNG and SVG, a contact sheet, an animation, numbers, the older toolkit's files.

Flow: `Record` -> `Shown` (one map per row, with its scale) -> `Drawing` (placed marks) -> PNG, PDF, SVG, GIF, APNG;
or `Shown` -> CSV and npz.
"""

from llava_viewer.export.animate import write_animation
from llava_viewer.export.figure import figure
from llava_viewer.export.numbers import write_csv, write_npz
from llava_viewer.export.pdf import write_pdf
from llava_viewer.export.phrase import phrase
from llava_viewer.export.raster import paint, write_png
from llava_viewer.export.sheet import contact_sheet
from llava_viewer.export.shown import Look, Shown, show
from llava_viewer.export.svg import write_svg
from llava_viewer.export.toolkit import check_files, export_overlays, file_names, write_text_log
from llava_viewer.export.word_heads import word_heads

__all__ = [
    "Look",
    "Shown",
    "check_files",
    "contact_sheet",
    "export_overlays",
    "figure",
    "file_names",
    "paint",
    "phrase",
    "show",
    "word_heads",
    "write_animation",
    "write_csv",
    "write_npz",
    "write_pdf",
    "write_png",
    "write_svg",
    "write_text_log",
]
