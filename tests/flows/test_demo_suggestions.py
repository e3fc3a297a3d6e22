"""What the demo suggests, and why: readable in a terminal of 80 columns."""

from __future__ import annotations

import io

from rich.console import Console

from flows.demo import Suggestions, suggestions_table
from longtail.models.explanation import Explanation, Share, SimilarText, Word

LONG = "golang-github-containerd-continuity-dev"
EXPLANATION = Explanation(
    "implemented-in::javascript",
    (Word("javascript library", 0.9), Word("node js", 0.5), Word("[bold]module", 0.4)),
    (SimilarText("node-ansi-escapes-with-a-long-name", 0.9312), SimilarText("other", 0.2)),
    (Share("linear", 1.2),),
)
TAGS = {
    "implemented-in::javascript": 0.97,
    "role::shared-lib": 0.8,
    "devel::library": 0.7,
    "works-with::network-traffic": 0.6,
    "interface::commandline": 0.55,
    "a::sixth": 0.5,
}


def printed(*suggestions):
    console = Console(file=io.StringIO(), width=80)
    console.print(suggestions_table("the champion, version 3", suggestions))
    return console.file.getvalue()


def suggested(*explanations, name=LONG):
    package = {"id": name, "text": "asynchronous filesystem [red]abstraction\nmore"}
    return Suggestions.of(package, TAGS, list(explanations))


def test_every_word_is_whole_in_80_columns():
    others = [Explanation(tag) for tag in TAGS if tag != EXPLANATION.label]
    said = printed(suggested(*others, EXPLANATION), suggested(name="plain"))

    assert max(map(len, said.splitlines())) <= 80
    words = {word for line in said.splitlines() for word in line.strip("│ ").split()}
    long = {f"{LONG}:", "node-ansi-escapes-with-a-long-name", "[red]abstraction", "(0.97),"}
    assert long | {"implemented-in::javascript", "works-with::network-traffic"} <= words
    assert "a::sixth" not in said


def test_the_strongest_tag_says_why():
    said = " ".join(printed(suggested(EXPLANATION)).replace("│", " ").split())

    assert "implemented-in::javascript (0.97)" in said
    assert ('implemented-in::javascript – words: "javascript library", "node js", "[bold]module"; '
            "most similar: node-ansi-escapes-with-a-long-name (0.93)") in said  # fmt: skip
    assert "more" not in said


def test_an_encoder_alone_says_so_and_no_tag_is_a_dash():
    alone = Explanation("role::shared-lib", sources=(Share("encoder", 2.0),))

    assert "role::shared-lib – by: encoder" in printed(suggested(alone))
    assert suggested().why is None
    assert "–" in printed(suggested())
