"""The container engine behind one small protocol (`api`), with names and labels (`names`)."""
