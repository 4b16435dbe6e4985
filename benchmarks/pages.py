"""Checks that the figures in README and docs are those of the tables of results; `fill` renews printed tables.

Comments in a page name the command that prints its figures (`python -m benchmarks.engine.engine table`, without
`python -m`):

    <!-- printed by: benchmarks.engine.engine table -->
        The table below is the one of the same header in the output.
    <!-- whole output of: benchmarks.fisher.replication table --> ... <!-- end of output -->
        What stands between is the output.
    <!-- figures: benchmarks.vision.miniature table; benchmarks.engine.engine table; elsewhere: 5.6, 2.7 -->
        Up to the next comment or heading, each number is, as rounded in the page, among those that the commands print,
        or under `elsewhere`, which lists what others measured. `:: Rates` after a command takes the part of its output
        under the heading that begins so. Numbers are those of table cells, first column apart,
        and in sentences those with a decimal point or a per cent sign, and numbers of steps, epochs, seeds and images.
    <!-- no results: reason -->
        Figures up to the next comment or heading that have no results.

Commands:
    python -m benchmarks.pages check    # stale figures, figures without a comment, results that are not of today's plan
    python -m benchmarks.pages fill     # renews printed tables and outputs
"""

from __future__ import annotations

import contextlib
import importlib
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from benchmarks.command_line import make_parser
from benchmarks.data import ROOT
from benchmarks.inspect import cka_speed

PAGES = (
    ROOT / "README.md",
    *sorted((ROOT / "docs" / "findings").glob("*.md")),
    ROOT / "docs" / "guide" / "targets.md",
    *(ROOT / "docs" / "how" / f"{name}.md" for name in ("fisher", "inside_networks", "meta_learning", "search")),
)
EXPERIMENTS = (  # each has RESULTS, the table of its results, and plan(), the runs that should be in it
    *("engine.ablation", "engine.engine", "engine.fold_average", "engine.footprint", "engine.log_link"),
    *("engine.log_link_search", "engine.network", "engine.ordinal", "engine.over_time", "engine.targets"),
    *("engine.targets_equal_time", "engine.thresholds", "engine.xgboost_search", "fisher.cost", "fisher.estimator"),
    *("fisher.replication", "inspect.cka_speed", "inspect.inside_networks", "metalearning.selector"),
    *("peers.compare", "metalearning.calibration", "metalearning.metric_groups", "metalearning.policies"),
    *("metalearning.after_start", "metalearning.member_temperatures", "metalearning.prediction_cost"),
    *("metalearning.real_runs", "peers.diagnose", "peers.first_answer", "peers.ten_minutes", "throughput.augmentation"),
    *("throughput.bfloat16", "throughput.images_per_second", "reliability.campaign", "reliability.starved_images"),
    *("uncertainty.coverage", "vision.block_features", "vision.checkpoint_regret", "vision.cifar_ten_minutes"),
    *("vision.image_search", "vision.miniature", "vision.transfer_or_scratch"),
)
END = "<!-- end of output -->"
COMMENT = re.compile(r"<!-- (printed by|whole output of|figures|no results): (.+) -->")
NUMBER = re.compile(r"(?<![\w.,/#-])[-+]?(\d+(?:,\d{3})*(?:\.\d+)?(?:e-?\d+)?)(?![\w]|[.,]\d)")
COUNTED = re.compile(r" (%|steps|epochs|seeds|images|training images)")  # after a number of a sentence that is a figure
# Numbers that measure nothing: versions of programs, targets of links, code.
NAMES = re.compile(
    r"(?:AutoGluon|FLAML|Python|torch_cka|pytorch-cka|timm|Pillow|arXiv|Auto-Sklearn|auto-sklearn) \d[\d.]*"
    r"|\]\([^)]*\)|`[^`]*`"
)


@dataclass(frozen=True)
class Block:
    """Some lines of a page and the comment that they stand under."""

    start: int  # index of the first line
    lines: tuple[str, ...]
    kind: str = ""
    source: str = ""

    @property
    def is_table(self) -> bool:
        """Whether the lines are a table."""
        return self.lines[0].startswith("|")


def blocks_of(text: str) -> Iterator[Block]:
    """Divide a page into tables, paragraphs and outputs; headings and code are left out."""
    lines = text.splitlines()
    kind = source = printed = ""
    at, in_code = 0, False
    while at < len(lines):
        line = lines[at]
        in_code ^= line.lstrip().startswith("```")
        if found := COMMENT.fullmatch(line.strip()):
            if found[1] == "printed by":
                printed = found[2]
            elif found[1] == "whole output of":
                end = lines.index(END, at)
                yield Block(at + 1, tuple(lines[at + 1 : end]), found[1], found[2])
                at, kind, source = end, "", ""
            else:
                kind, source = found[1], found[2]
        elif line.startswith("#") and not in_code:
            kind = source = ""
        elif line.strip() and not in_code and not line.startswith(("```", "<!--")):
            end = at
            while end < len(lines) and lines[end].strip() and not lines[end].startswith(("```", "<!--")):
                end += 1
            block = tuple(lines[at:end])
            yield Block(at, block, "printed by", printed) if printed else Block(at, block, kind, source)
            printed, at = "", end - 1
        at += 1


@cache
def output_of(command: str) -> str:
    """Return what a command of the benchmarks prints, or the part of it under a heading."""
    command, _, heading = command.partition(" :: ")
    if heading:
        sections = re.split(r"^## ", output_of(command), flags=re.M)
        return next((section for section in sections if section.startswith(heading)), "")
    module, *words = command.split()
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        importlib.import_module(module).main(words)
    return out.getvalue().strip()


def table_like(lines: Sequence[str], output: str) -> list[str] | None:
    """Return the table of an output that has the header of another one."""
    printed = output.splitlines()
    if lines[0] not in printed:
        return None
    start = end = printed.index(lines[0])
    while end < len(printed) and printed[end].startswith("|"):
        end += 1
    return printed[start:end]


def numbers_of(lines: Sequence[str]) -> list[str]:
    """Return the numbers of a block that are figures, as they are written."""
    found = []
    if lines[0].startswith("|"):
        for line in lines[2:]:
            for cell in line.strip("|").split(" | ")[1:]:
                found += NUMBER.findall(NAMES.sub(" ", cell))
        return found
    text = NAMES.sub(" ", " ".join(lines))
    for match in NUMBER.finditer(text):
        if "." in match[1] or "e" in match[1] or COUNTED.match(text, match.end()):
            found.append(match[1])
    return found


def is_rounded(written: str, value: float) -> bool:
    """Whether a number as written is a value rounded to its digits; zeros at the end of thousands are no digits."""
    mantissa, _, exponent = written.replace(",", "").partition("e")
    whole, _, decimals = mantissa.partition(".")
    zeros = len(whole) - len(whole.rstrip("0")) if len(whole) > 3 and not decimals else 0
    unit = 10.0 ** (int(exponent or 0) + zeros - len(decimals))
    return abs(float(mantissa) * 10.0 ** int(exponent or 0) - value) <= 0.5 * unit * (1 + 1e-9)


def unknown_numbers(block: Block) -> list[str]:
    """Return the numbers of a block that neither its commands print nor `elsewhere` lists."""
    values, elsewhere = [], set()
    for part in block.source.split("; "):
        if part.startswith("elsewhere: "):
            elsewhere = set(part.removeprefix("elsewhere: ").split(", "))
        else:
            values += [float(value.replace(",", "")) for value in NUMBER.findall(output_of(part))]
    return [
        written
        for written in numbers_of(block.lines)
        if written not in elsewhere and not any(is_rounded(written, value) for value in values)
    ]


def stale_figures(text: str) -> Iterator[str]:
    """Yield what does not agree in a page, by line."""
    for block in blocks_of(text):
        line = block.start + 1
        if block.kind == "printed by" and list(block.lines) != table_like(block.lines, output_of(block.source)):
            yield f"line {line}: `python -m {block.source}` prints another table"
        elif block.kind == "whole output of" and "\n".join(block.lines).strip() != output_of(block.source):
            yield f"line {line}: `python -m {block.source}` prints something else"
        elif block.kind == "figures" and (unknown := unknown_numbers(block)):
            yield f"line {line}: not printed by {block.source}: {', '.join(unknown)}"
        elif not block.kind and (numbers := numbers_of(block.lines)):
            yield f"line {line}: no comment names the command that prints {', '.join(numbers)}"


def other_plans() -> Iterator[str]:
    """Yield the results that are missing, are of no plan, or of other settings than the script has today."""
    for name in EXPERIMENTS:
        script = importlib.import_module(f"benchmarks.{name}")
        yield from script.RESULTS.differences(script.plan())
    yield from cka_speed.GROWTH_RESULTS.differences(cka_speed.growth_plan())
    yield from cka_speed.RATIO_RESULTS.differences(cka_speed.ratio_plan())


def fill(text: str) -> str:
    """Renew the printed tables and outputs of a page."""
    lines = text.splitlines()
    for block in reversed(list(blocks_of(text))):
        new: list[str] | None = None
        if block.kind == "printed by":
            new = table_like(block.lines, output_of(block.source))
        elif block.kind == "whole output of":
            new = output_of(block.source).splitlines()
        if new is not None:
            lines[block.start : block.start + len(block.lines)] = new
    return "\n".join(lines) + "\n"


def main(words: Sequence[str] | None = None) -> None:
    parser = make_parser(__doc__, "check", "fill")
    given = parser.parse_args(words)
    problems = [] if given.command == "fill" else list(other_plans())
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        if given.command == "fill":
            page.write_text(fill(text), encoding="utf-8")
        problems += [f"{page.relative_to(ROOT)}, {problem}" for problem in stale_figures(page.read_text("utf-8"))]
    print("\n".join(problems) or "The figures are those of the results.")
    raise SystemExit(bool(problems))


if __name__ == "__main__":
    main()
