"""Mobile IPv4 in virtual time: the state machines of `testbed.mobileip`, no containers and no clock."""
