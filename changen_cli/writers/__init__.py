"""Writers: finished samples → files in the layout readers expect.

:class:`~changen_cli.writers.base.SampleWriter` is the one interface; :func:`open_writer` picks the implementation.
"""

from changen_cli.writers.base import Layout, SampleWriter, open_writer

__all__ = ["Layout", "SampleWriter", "open_writer"]
