"""What a foreign agent makes of the Encapsulating Delivery Style Extension (RFC 3024 §3.3, §4.2, §5.2)."""

from __future__ import annotations

from testbed.mobileip.core.disposition import Deny
from testbed.mobileip.wire.authentication import MOBILE_FOREIGN, MOBILE_HOME
from testbed.mobileip.wire.code import Code
from testbed.mobileip.wire.extension import ENCAPSULATING_DELIVERY
from testbed.mobileip.wire.registration_request import RegistrationRequest, RequestFlag


def is_encapsulating(request: RegistrationRequest) -> bool:
    """Whether the extension is there; with a care-of address of its own the mobile node has no use for it."""
    return any(extension.type == ENCAPSULATING_DELIVERY for extension in request.extensions)


def check_extension(request: RegistrationRequest) -> None:
    """Whether the extension may be there, and where it is; raises Deny, "poorly formed request" (§3.3).

    Before the Mobile-Home Authentication Extension the agent could not remove it, as it must, and behind its
    own nothing would prove it.
    """
    passed = []
    for extension in request.extensions:
        if extension.type != ENCAPSULATING_DELIVERY:
            passed.append(extension.type)
        elif not request.flags & RequestFlag.REVERSE_TUNNEL:
            raise Deny(Code.FA_POORLY_FORMED_REQUEST, "delivery style without reverse tunnel")
        elif extension.data:
            raise Deny(Code.FA_POORLY_FORMED_REQUEST, "delivery style extension with data")
        elif MOBILE_HOME not in passed or MOBILE_FOREIGN in passed:
            raise Deny(Code.FA_POORLY_FORMED_REQUEST, "delivery style extension at a wrong place")
