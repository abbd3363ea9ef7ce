"""longvid: long films from a timeline of prompts, by progressive autoregressive video diffusion."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from longvid.rendering import render as render

__version__ = "0.1.0"

__all__ = ["__version__", "render"]


def __getattr__(name: str) -> Any:
    """Public functions, imported when they are first asked for: importing longvid itself stays light."""
    if name == "render":
        from longvid.rendering import render

        return render
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
