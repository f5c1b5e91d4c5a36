"""The images of locks and recipes as documents for programs and as tables for people."""

from collections.abc import Mapping, Sequence
from typing import Any

from builder.assemble.plan import image_bytes
from builder.recipe.findings import Reason, spelt_out, told
from builder.recipe.lock import Lock, is_mutable
from builder.resolve.completeness_report import brought_in, gathered, unused_in
from builder.resolve.requirements import Needs
from installer.report import count, size
from installer.value import plain

MAX_REASONS = 4
"""Places that a table shows for each image; the JSON form shows all."""
MUTABLE = "  (mutable tag)"


def image_list(found: Lock | Needs) -> dict[str, Any]:
    """The images of a lock, or (without digests and sizes) those of a recipe, with the places that ask for them."""
    if isinstance(found, Lock):
        images = [
            {
                **_image(item.image.source, item.image.reasons),
                "digest": item.image.digest.text,
                "upstream": item.image.upstream.text,
                "platforms": [str(platform) for platform in item.image.platforms],
                "referrers": [digest.text for digest in item.image.referrers],
                "tagged": {tag: digest.text for tag, digest in item.image.tagged},
                "from": str(item.image.origin),
                "bytes": item.total,
            }
            for item in sorted(image_bytes(found), key=lambda item: item.image.source)
        ]
        optional = {item.image: item.reasons for item in found.optional}
        unused, brought = unused_in(found), brought_in(found)
    else:
        images = [_image(name, reasons) for name, reasons in found.images.items()]
        optional = dict(found.optional)
        unused = gathered((item.release.fetched.chart.name, item.unused) for item in found.discoveries)
        brought = list(found.brought)
    return {
        "source": "lock" if isinstance(found, Lock) else "recipe",
        "images": images,
        "optional": [_image(name, reasons) for name, reasons in optional.items()],
        "suspected": [
            {
                "text": item.text,
                "verdict": item.verdict,
                "because": item.because,
                "reasons": [_reason(reason) for reason in item.reasons],
            }
            for item in found.suspected
        ],
        "moved": [
            {
                "chart": chart.name,
                "values": list(chart.prefixes),
                "edited": [edit.template for edit in chart.edits],
                "images": sorted({item.name for edit in chart.edits for item in edit.rewrites}),
            }
            for chart in (found.charts if isinstance(found, Lock) else ())
            if chart.prefixes or chart.edits
        ],
        "unused": [{"chart": chart, "named": text} for chart, texts in unused.items() for text in texts],
        "brought": [plain(item) for item in brought],
        "excluded": [{"image": item.image, "reason": item.reason} for item in found.excluded],
        "failures": [
            {
                "chart": item.chart,
                "template": item.template,
                "error": item.error,
                "switches": list(item.switches),
                "values": list(item.values),
            }
            for item in found.failures
        ],
    }


def _image(name: str, reasons: Sequence[Reason]) -> dict[str, Any]:
    return {
        "image": name,
        "mutable": is_mutable(name),
        "switches": switch_sets(reasons),
        "reasons": [_reason(reason) for reason in reasons],
    }


def switch_sets(reasons: Sequence[Reason]) -> list[list[str]]:
    """The sets of values of which each alone asks for an image, smallest first; one without switches goes for all."""
    found = sorted({reason.switches for reason in reasons}, key=lambda switches: (len(switches), switches))
    return [list(found[0])] if found and not found[0] else [list(switches) for switches in found]


def _reason(reason: Reason) -> dict[str, Any]:
    parts = {
        "chart": reason.chart,
        "template": reason.template,
        "kind": reason.kind,
        "namespace": reason.namespace,
        "name": reason.name,
        "container": reason.container,
        "field": reason.field,
        "hooks": reason.hooks,
        "switches": list(reason.switches),
        "values": list(reason.values),
    }
    return {"text": str(reason), **{key: value for key, value in parts.items() if value}}


def image_table(document: Mapping[str, Any]) -> str:
    """`image_list` for people: a group each for what is carried, optional, suspected, excluded, and not seen."""
    lines = _group("needed", [_image_lines(image) for image in document["images"]])
    lines += _group(
        "optional, left out: values that would ask for them", [_optional_lines(image) for image in document["optional"]]
    )
    lines += _group(
        "suspected, left out",
        [
            [item["text"], f"    because {item['because']}", *_reasons(item["reasons"])]
            for item in document["suspected"]
        ],
    )
    lines += _group(
        "excluded by the recipe",
        [[item["image"], f"    because {item['reason']}"] for item in document["excluded"]],
    )
    lines += _group(
        "charts whose images move into an enclave by more than the values that name them",
        [_moved_lines(item) for item in document["moved"]],
    )
    lines += _group(
        "named by values, asked for by nothing that was rendered; if a site does, name it in images of the recipe",
        [[f"chart {item['chart']}: {item['named']}"] for item in document["unused"]],
    )
    lines += _group(
        "brought by operators, not known by name; `airferry observe` finds them on a staging cluster",
        [[item["asking"], f"    {item['images']}", f"    said in {item['said']}"] for item in document["brought"]],
    )
    lines += _group("failing, not looked into", [_failure_lines(item) for item in document["failures"]])
    return "\n".join(lines[:-1])


def _group(title: str, items: Sequence[Sequence[str]]) -> list[str]:
    if not items:
        return []
    return [f"{title} ({len(items)}):", *(f"  {line}" for item in items for line in item), ""]


def _image_lines(image: Mapping[str, Any]) -> list[str]:
    lines = [f"{image['image']}{MUTABLE if image['mutable'] else ''}"]
    if "digest" in image:
        platforms = ", ".join(image["platforms"]) or "no platform"
        number = len({*image["referrers"], *image["tagged"].values()})
        about = f"  and {count(number, 'manifest')} about it" if number else ""
        lines.append(f"    {image['digest']}  {size(image['bytes'])}  {platforms}{about}")
    return [*lines, *_reasons(image["reasons"])]


def _moved_lines(chart: Mapping[str, Any]) -> list[str]:
    prefixes = [f"    by the values {', '.join(chart['values'])}"] if chart["values"] else []
    edited = [f"    by an edit of {template}" for template in chart["edited"][:MAX_REASONS]]
    more = len(chart["edited"]) - MAX_REASONS
    named = [f"    for {', '.join(chart['images'])}"] if chart["images"] else []
    return [f"chart {chart['chart']}", *prefixes, *edited, *([f"    and {more} more"] if more > 0 else []), *named]


def _optional_lines(image: Mapping[str, Any]) -> list[str]:
    found = [" and ".join(map(spelt_out, switches)) for switches in image["switches"]]
    more = [f"    or {len(found) - MAX_REASONS} more"] if len(found) > MAX_REASONS else []
    with_all = ["    with everything on"] if found == [""] else [f"    {text}" for text in found[:MAX_REASONS]]
    return [f"{image['image']}{MUTABLE if image['mutable'] else ''}", *with_all, *more]


def _failure_lines(failure: Mapping[str, Any]) -> list[str]:
    spelt = [f"    its values name images at {', '.join(failure['values'])}"] if failure["values"] else []
    where = failure["template"] or f"chart {failure['chart']}"
    return [f"{where}{told(failure['switches'])}", f"    {failure['error']}", *spelt]


def _reasons(reasons: Sequence[Mapping[str, Any]]) -> list[str]:
    shown = [f"    {reason['text']}" for reason in reasons[:MAX_REASONS]]
    more = len(reasons) - MAX_REASONS
    return [*shown, f"    and {more} more"] if more > 0 else shown


def changes(old: Lock | None, new: Lock) -> list[str]:
    """What is different in `new`, one line each; empty if nothing is."""
    if old is None or old == new:
        return []
    lines = [f"answers: {old.site or '-'} -> {new.site or '-'}"] if old.site != new.site else []
    lines += _differences("image", _images(old), _images(new))
    lines += _differences("chart", _charts(old), _charts(new))
    lines += _differences("document", _documents(old), _documents(new))
    return lines or ["settings, reasons or descriptions differ"]


def _images(lock: Lock) -> dict[str, str]:
    return {image.source: image.upstream.text for image in lock.images}


def _charts(lock: Lock) -> dict[str, str]:
    return {f"{chart.name} {chart.version}": chart.archive.text for chart in lock.charts}


def _documents(lock: Lock) -> dict[str, str]:
    return {document.name: document.digest.text for document in lock.documents}


def _differences(what: str, old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    lines = []
    for name in sorted(old.keys() | new.keys()):
        before, after = old.get(name, "-"), new.get(name, "-")
        if before != after:
            lines.append(f"{what} {name}: {before} -> {after}")
    return lines
