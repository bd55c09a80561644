"""What all that stands in for a module's `forward` in a prepared model has in common."""

from __future__ import annotations

from typing import NoReturn


class PreparedForward:
    """Holds memory laid out for this process, so that it can be neither copied nor pickled."""

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a prepared model can be neither copied nor pickled: copy or save the model it was "
            "made from, and prepare that again"
        )
