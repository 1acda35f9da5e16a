"""Claims: what a document says, how to try it, what must be seen, and the words to write that with."""
