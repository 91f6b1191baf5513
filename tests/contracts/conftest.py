"""Every run of these tests computes the same: compile it once."""

from tests.compilation import compile_once

__all__ = ["compile_once"]
