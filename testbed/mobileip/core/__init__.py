"""The state machines of Mobile IPv4: datagrams and `now` go in, effects and the next deadline come out."""
