"""The leak report in words, for the terminal and the HTML page."""

from biofm_jax.evaluate.leak_records import LeakReport, Match, SharedGroups

_SHOWN = 3


def leak_lines(report: LeakReport) -> list[str]:
    """A report as lines of text, one a check; the first says what was found.

    A check that was not made says so: a report never reads as clean for want of looking.
    """
    found = ", ".join(report.findings) or "nothing found"
    lines = [f"leaks: {found} ({report.tested:,} of {report.items:,} items tested)"]
    lines.append(_exact(report))
    lines.append(_repeats(report))
    lines += _near(report)
    lines += [_group(group) for group in report.groups] or ["shared groups: no column to look at"]
    lines.append(_revealing(report))
    return lines


def _exact(report: LeakReport) -> str:
    exact = report.exact
    if not exact.count:
        return f"exact duplicates ({exact.form}): none between the test items and train or valid"
    return (
        f"exact duplicates ({exact.form}): {exact.count:,} test items ({exact.share:.1%}) equal "
        f"one learned from: {_examples(exact.examples, exact.count, '=')}"
    )


def _repeats(report: LeakReport) -> str:
    repeats = report.repeats
    if not repeats.groups:
        return "conflicting labels: no item occurs twice"
    line = (
        f"conflicting labels: {repeats.items:,} items are {repeats.groups:,} different ones, in "
        f"any part; the labels of {repeats.conflicts:,} of these differ"
    )
    if repeats.across:
        line += f", of {repeats.across:,} between a test item and one learned from"
    shown = [
        f"{' = '.join(c.ids[:_SHOWN])}{' = ...' if len(c.ids) > _SHOWN else ''} "
        f"({c.column} {c.low:g} to {c.high:g})"
        for c in repeats.examples[:_SHOWN]
    ]
    return f"{line}: {_more(shown, repeats.conflicts)}" if shown else line


def _near(report: LeakReport) -> list[str]:
    near = report.near
    if near is None:
        return [f"near duplicates: no measure of similarity is known for {report.modality} data"]
    scale = (
        f"{near.measure} to an item learned from; the median test item's nearest is at "
        f"{near.median:.3f}"
    )
    if not report.variants:
        if not near.count:
            return [f"near duplicates: none at {scale}"]
        return [
            f"near duplicates: {near.count:,} test items ({near.share:.1%}) at {scale}: "
            f"{_examples(near.examples, near.count, '~')}"
        ]
    lines = [
        "near duplicates: by design, for all items are variants of one wild type "
        f"({near.share:.1%} of test items at {scale}). The task is to tell such variants apart: "
        "its scores do not say how a model does on unrelated sequences"
    ]
    if report.mutations:
        shares = [f"{n} for {share:.1%}" for n, share in report.mutations[:_SHOWN]]
        more = sum(share for _, share in report.mutations[_SHOWN:])
        shares += [f"more for {more:.1%}"] if report.mutations[_SHOWN:] else []
        lines.append(
            f"substitutions to the nearest variant learned from: {', '.join(shares)} of test items"
        )
    return lines


def _group(group: SharedGroups) -> str:
    if not group.shared:
        return f"shared groups ({group.column}): none of {group.tested:,} tested"
    return (
        f"shared groups ({group.column}): {group.shared:,} of {group.tested:,} tested groups, with "
        f"{group.count:,} test items ({group.share:.1%}), were learned from: "
        f"{_more(list(group.examples[:_SHOWN]), group.shared)}"
    )


def _revealing(report: LeakReport) -> str:
    if not report.checked:
        return "label-revealing columns: no metadata to look at"
    if not report.revealing:
        return (
            f"label-revealing columns: none of {len(report.checked)} ({', '.join(report.checked)})"
        )
    return "label-revealing columns: " + "; ".join(
        f"{row.column} tells {row.label}{_part(row.rows)} by {row.rule} "
        f"({row.measure} {row.score:.3f})"
        for row in report.revealing
    )


def _part(rows: float) -> str:
    return "" if rows == 1 else f" of {rows:.0%} of items"


def _examples(matches: tuple[Match, ...], count: int, sign: str) -> str:
    shown = [
        f"{m.test} {sign} {m.seen} ({m.part}{'' if sign == '=' else f', {m.similarity:.2f}'})"
        for m in matches[:_SHOWN]
    ]
    return _more(shown, count)


def _more(shown: list[str], count: int) -> str:
    rest = count - len(shown)
    return ", ".join(shown) + (f" and {rest:,} more" if rest > 0 else "")
