"""Pack what notebooks 00 to 06 read into one file, so that a class trains nothing.

    rebasin-lab class-kit --to class-kit.zip        the teacher, once
    rebasin-lab class-kit --unpack class-kit.zip    everybody, before the lesson

`making` runs the notebooks in an empty store and packs what they leave there; `archive` writes and
reads the file, a zip of plain data with digests; `coding` makes networks small; `unpacking` puts
them into the store. Networks at the end of training keep every bit. Snapshots are as every run
measures them, rounded, so a run from a kit prints the numbers of any other.
"""

from rebasin_lab.lab.class_kit.archive import MOST_BYTES
from rebasin_lab.lab.class_kit.making import NOTEBOOKS, make
from rebasin_lab.lab.class_kit.unpacking import Unpacked, unpack

__all__ = ["MOST_BYTES", "NOTEBOOKS", "Unpacked", "make", "unpack"]
