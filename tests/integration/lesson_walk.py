"""Walking a lesson both ways in a terminal: what a learner has not done fails, and the solution passes.

Lessons on equal labs take turns in one lab, which the plugin lends.
"""

import os
import re

from terminal import typed

from testbed.lesson.bench import opened
from testbed.lesson.check import check_task
from testbed.lesson.load import load_lesson
from testbed.lesson.shelf import builtin_lessons
from testbed.pytest_plugin.laboratory import lab_key

LESSONS = list(builtin_lessons())
SUITE = ("first-hand-off", "bindings", "through-esp")
"""Those that the suite walks, one for each way of checking at least; LESSONS=all has all of them walked."""
WALKED = LESSONS if os.environ.get("LESSONS") == "all" else SUITE
_COMMENT = "# a learner was here"
ANSWERS = {}
"""Lesson → the right answers that its lab gave, of lessons walked so far."""


def flat(text):
    """A text as it comes out of a terminal: without marks of Markdown, with single blanks."""
    return " ".join(re.sub(r"[`*]", "", text).split())


def walk(name, testbed_lab):
    """Walk a lesson: every check fails before its task is done, and passes after its solution."""
    loaded = load_lesson(name)
    lesson = loaded.lesson
    beside = loaded.folder / lesson.topology
    lab = testbed_lab(str(beside) if beside.is_file() else lesson.topology, *lesson.sets, **lesson.options)
    lab.changed = True
    began = typed("lesson", "start", name, "--name", lab.name)
    assert began.code == 0, began.text
    assert lesson.title in began.words
    edit_what_does_not_matter(lab)
    answers = ANSWERS.setdefault(name, [])
    for number, task in enumerate(lesson.tasks, 1):
        untouched = typed("lesson", "check", *wrong_answer(task))
        assert untouched.code == 1, untouched.text
        for check in task.checks:
            missing = check.missing.replace("LAB", lab.name)
            assert flat(missing) in flat(untouched.words), f"task {number}: {missing}\n{untouched.text}"
        solved = typed("lesson", "solution", "--apply")
        assert solved.code == 0, solved.text
        answer = re.findall(r"^answer: (\S+)", solved.text, re.MULTILINE)
        answers += answer
        done = typed("lesson", "check", *answer)
        assert done.code == 0, f"task {number}: {solved.text}{done.text}"
        assert f"Task {number} is done" in done.words
    assert "done" in typed("lesson", "progress").words
    assert typed("lesson", "hint").code == 2
    for other in LESSONS:
        if other != name:
            pasted(loaded, lab, load_lesson(other), answers)
    if any("exec" in str(deed) or "restart" in str(deed) for task in lesson.tasks for deed in task.solution):
        assert typed("lesson", "reset", "--from-start").code == 0  # what it has edited is no other test's


def edit_what_does_not_matter(lab):
    """A comment in a file of every node, which no check may take for a solution."""
    for node in lab.topology.nodes:
        done = lab.access.execute(node, ["sh", "-c", f"echo '{_COMMENT}' >>/etc/hosts"])
        assert done.code == 0, done.complaint


def wrong_answer(task):
    """An answer that no lab of a lesson gives; none where any answer might be right."""
    if task.answer is None:
        return []
    return {"number": ["987654321"], "address": ["240.0.0.1"]}.get(task.answer.kind, [])


def pasted(loaded, lab, other, answers):
    """What a lesson ends with, and its answers, do not begin another lesson on an equal lab."""
    if lab_key(other.topology) != lab_key(loaded.topology):
        return
    with opened(lab.engine, lab.name, other.topology, lab.began) as bench:
        for given in [None, *dict.fromkeys(answers)]:
            outcomes = check_task(bench, other.task(0), ("tasks", 0), {}, given)
            assert not all(one.held for one in outcomes), f"{other.name} passes with {given}"
