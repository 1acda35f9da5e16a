"""Studies: a file that says what is varied, expanded to tasks, carried out on Dask workers, and one table.

`model` says what study.yaml may hold, `plan` expands it, `store` keeps what came of each task, `table` makes
one table of it, `run` shares the tasks out, `cluster` has Dask's workers, `worker` and `child` run on them.
"""
