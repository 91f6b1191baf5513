"""What the page of a study is made from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from distvi.runs.answers import ClaimAnswer
from distvi.runs.records import Record


@dataclass(frozen=True)
class PageContent:
    """A study, as its page shows it.

    Attributes:
        title: Names the study.
        records: Its cells, those that diverged or failed included.
        claims: What the records say of the study's claims.
        advice: Sentences, the most important first.
        methods: How things were done and measured: paragraphs by their label.
        machine: What the study ran on: texts by their label.
        spec_toml: The study's specification.
        target_errors: Errors (fractions, or in the metric's own unit) whose times are compared.
        summary: What the study is about, in a few sentences.
    """

    title: str
    records: Sequence[Record]
    claims: Sequence[ClaimAnswer] = ()
    advice: Sequence[str] = ()
    methods: Mapping[str, str] = field(default_factory=dict)
    machine: Mapping[str, str] = field(default_factory=dict)
    spec_toml: str = ""
    target_errors: Sequence[float] = ()
    summary: str = ""
