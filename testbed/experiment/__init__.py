"""Claims decided from packets: captures, what is in them, and what follows."""
