"""JSON, many small messages a second."""

from __future__ import annotations

import json
import json.encoder
from collections.abc import Callable


def encoder(item_separator: str = ", ", key_separator: str = ": ") -> Callable[[object], str]:
    """What `json.JSONEncoder(separators=…).encode` does; that makes its encoder in C anew for each message.

    Where Python has no such encoder in C, or makes it in another way, it is the ordinary one.
    """
    ordinary = json.JSONEncoder(separators=(item_separator, key_separator))
    text = json.encoder.encode_basestring_ascii
    try:
        chunks = json.encoder.c_make_encoder(  # type: ignore[attr-defined]
            None, ordinary.default, text, None, key_separator, item_separator, False, False, True
        )
    except (AttributeError, TypeError):
        return ordinary.encode
    return lambda message: "".join(chunks(message, 0))
