"""Lessons: text, starting state, tasks and checks, and how far a learner has come.

A lesson is data: a folder with `lesson.yaml` and `text.md`. Its starting state, its solution and its checks
are written in the vocabulary of claims. The checks look at the learner's running lab.
"""
