"""Tests. The assertions of their helpers are explained like their own."""

import pytest

HELPERS = ("bundles", "commands", "data_sets", "disks", "ensembles", "evaluation", "videos")
pytest.register_assert_rewrite(*(f"{__name__}.{name}" for name in HELPERS))
