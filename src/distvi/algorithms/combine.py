"""Factors of contributions in their sum, and the check that their numbers are finite."""

from math import isfinite

import numpy as np

from distvi.protocol import Lot


def rates(contributions: Lot) -> tuple[float, tuple[float, ...]]:
    """An update's factor of the learning rate, and those of its contributions in their sum.

    The first is the mean of the contributions' rates by weight; the others are ``weight * rate``
    over it. So plain SGD moves by the sum of ``weight * rate * gradient``, and a gradient alone has
    its rate with any optimizer.
    """
    weights = sum(each.weight for each in contributions)
    rate = sum(each.weight * each.rate for each in contributions) / weights
    if not rate:
        return 0.0, tuple(float(each.weight) for each in contributions)
    # A user's own weights and rates may be NumPy's.
    return float(rate), tuple(float(each.weight * each.rate / rate) for each in contributions)


def is_finite(array: np.ndarray) -> bool:
    """Whether all entries are; whole numbers always."""
    if array.dtype.kind in "iub":
        return True
    if array.dtype.itemsize < 4:  # NumPy has no fast product of these
        array = array.astype(np.float32)
    flat = array.ravel()
    # The product with itself takes a tenth of the time; it overflows where a gradient is huge.
    return bool(isfinite(np.dot(flat, flat)) or np.isfinite(flat).all())
