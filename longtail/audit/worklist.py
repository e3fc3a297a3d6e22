"""The work list: what a person should look at, as tasks that Label Studio imports.

The format is Label Studio's basic JSON with pre-annotations
(https://labelstud.io/guide/predictions). Our id travels as ``data.longtail_id``, because ``id`` is
the name of the task's own number in Label Studio's exports.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import quoteattr

from longtail.audit.candidates import Candidate

MODEL_VERSION = "longtail-audit"
ID_KEY = "longtail_id"
CHOICES, TEXT = "labels", "text"


def work_list(
    candidates: Sequence[Candidate], texts: Mapping[str, str], labels: Mapping[str, Sequence[str]]
) -> list[dict[str, Any]]:
    """One task per text, the surest first, with the labels as they would be after all corrections.

    A correction at a score of ½ or less is told as a reason, but not made in the prediction.

    Args:
        candidates: what was found, the surest first.
        texts: text of each id in it.
        labels: labels of each id in it, as they are.
    """
    by_text: dict[str, list[Candidate]] = {}
    for one in candidates:
        by_text.setdefault(one.id, []).append(one)
    return [_task(found, texts[name], labels[name]) for name, found in by_text.items()]


def labelling_config(labels: Sequence[str]) -> str:
    """The labelling configuration that the tasks fit, with all labels to choose from."""
    choices = "\n".join(f"    <Choice value={quoteattr(label)}/>" for label in labels)
    return (
        "<View>\n"
        '  <Text name="reason" value="$reason"/>\n'
        f'  <Text name="{TEXT}" value="$text"/>\n'
        f'  <Choices name="{CHOICES}" toName="{TEXT}" choice="multiple">\n'
        f"{choices}\n"
        "  </Choices>\n"
        "</View>\n"
    )


def _task(found: Sequence[Candidate], text: str, labels: Sequence[str]) -> dict[str, Any]:
    proposed = set(labels)
    for one in reversed(found):  # where two finders contradict each other the surest has its way
        if one.score > 0.5:
            (proposed.add if one.action == "add" else proposed.discard)(one.label)
    score = round(found[0].score, 4)
    return {
        "data": {TEXT: text, ID_KEY: found[0].id, "reason": "; ".join(map(_reason, found))},
        "predictions": [
            {
                "model_version": MODEL_VERSION,
                "score": score,
                "result": [
                    {
                        "id": MODEL_VERSION,
                        "type": "choices",
                        "from_name": CHOICES,
                        "to_name": TEXT,
                        "value": {"choices": sorted(proposed)},
                    }
                ],
            }
        ],
        "meta": {
            "labels": sorted(set(labels)),
            "found": [
                {name: value for name, value in one.as_json().items() if name != "id"}
                for one in found
            ],
        },
    }


def _reason(one: Candidate) -> str:
    what = "perhaps missing" if one.action == "add" else "perhaps wrong"
    return f"{one.label}: {what} ({one.kind}: {one.evidence})"
