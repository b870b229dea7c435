"""Transfer: a memory as one portable file, a bundle, that another memory takes in.

The format is described in docs/bundle.md.
"""

from __future__ import annotations

from memp.transfer.ids import Ids
from memp.transfer.merge import ImportResult, OnConflict, import_bundle
from memp.transfer.write import ExportResult, export_bundle

__all__ = ["ExportResult", "Ids", "ImportResult", "OnConflict", "export_bundle", "import_bundle"]
