"""The one place that knows that figures need an optional package."""

from tse_refine.errors import InputError


def require_matplotlib() -> None:
    """Raise an :class:`InputError` that says what to install where matplotlib is missing."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise InputError(
            "Figures need matplotlib, which is not installed; install it with `pip install 'tse-refine[report]'`."
        ) from None
