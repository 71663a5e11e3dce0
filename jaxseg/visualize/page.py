"""The pieces of an HTML page: escaped text, tables, figures, and the style sheet. No script, no network."""

from collections.abc import Iterable, Sequence
from html import escape

# Wide tables scroll inside their own box; pictures shrink to the column. Charts are drawn on white, so in the
# dark they keep a white card.
STYLE = """
:root { color-scheme: light dark; --paper: #ffffff; --ink: #20242a; --soft: #5b6470; --line: #dde1e6;
  --card: #f5f6f8; --accent: #0067a3; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171b; --ink: #e6e9ed; --soft: #a0a9b4;
  --line: #333a43; --card: #1d2127; --accent: #6cb8ea; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 24px 16px 64px; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 16px; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 40px 0 12px; padding-bottom: 6px; border-bottom: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 24px 0 8px; }
p { margin: 8px 0; }
a { color: var(--accent); }
.soft { color: var(--soft); font-size: .92rem; }
.cards { display: flex; flex-wrap: wrap; gap: 12px; margin: 16px 0; }
.cards div { background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  padding: 10px 16px; min-width: 104px; }
.cards b { display: block; font-size: 1.5rem; line-height: 1.2; font-variant-numeric: tabular-nums; }
.cards span { color: var(--soft); font-size: .9rem; }
.scroll { overflow-x: auto; max-width: 100%; }
table { border-collapse: collapse; font-size: .94rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 5px 14px 5px 0; border-bottom: 1px solid var(--line);
  vertical-align: top; }
thead th { color: var(--soft); font-weight: 600; }
tbody th { font-weight: 400; }
table:not(.facts, .wrap) :is(th, td) { white-space: nowrap; }
.wrap td { overflow-wrap: anywhere; min-width: 5em; }
td.number, th.number { text-align: right; }
.facts tbody th { color: var(--soft); white-space: nowrap; }
.facts td { overflow-wrap: anywhere; }
.swatch { display: inline-block; width: 14px; height: 14px; border-radius: 3px; border: 1px solid #8888;
  vertical-align: -2px; margin-right: 8px; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 18px; padding: 0; margin: 12px 0; list-style: none;
  font-size: .92rem; }
.hatch { background: repeating-linear-gradient(135deg, #5c5c5c 0 4px, #8c8c8c 4px 8px); }
.pair { display: grid; gap: 20px; grid-template-columns: repeat(auto-fit, minmax(min(100%, 440px), 1fr));
  align-items: start; }
.pair > * { min-width: 0; }
figure { margin: 0; }
figure img { display: block; max-width: 100%; height: auto; background: #fff; border: 1px solid var(--line);
  border-radius: 6px; padding: 6px; }
figcaption { color: var(--soft); font-size: .92rem; margin-top: 6px; overflow-wrap: anywhere; }
details { margin: 16px 0; }
summary { cursor: pointer; color: var(--accent); }
pre { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 12px;
  overflow: auto; max-height: 70vh; font-size: .85rem; line-height: 1.45; }
@media print { .scroll, pre { overflow: visible; max-height: none; } }
""".strip()


def page(title: str, sections: Iterable[str]) -> str:
    """A whole document; `title` is text, the sections are HTML."""
    body = "\n".join(section for section in sections if section)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8" />\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1" />\n'
        f"<title>{escape(title)}</title>\n<style>\n{STYLE}\n</style>\n</head>\n"
        f"<body>\n<main>\n<h1>{escape(title)}</h1>\n{body}\n</main>\n</body>\n</html>\n"
    )


def section(heading: str, *parts: str) -> str:
    """A heading (text) with HTML below it; nothing where all parts are empty."""
    body = "\n".join(part for part in parts if part)
    return f"<section>\n<h2>{escape(heading)}</h2>\n{body}\n</section>" if body else ""


def paragraph(text: str) -> str:
    """A remark in soft ink."""
    return f'<p class="soft">{escape(text)}</p>'


def cards(figures: Sequence[tuple[str, str]]) -> str:
    """Headline figures, each a (name, value) of text, in boxes that wrap."""
    if not figures:
        return ""
    boxes = "".join(f"<div><b>{escape(value)}</b><span>{escape(name)}</span></div>" for name, value in figures)
    return f'<div class="cards">{boxes}</div>'


def facts_table(facts: Sequence[tuple[str, str]]) -> str:
    """Names and values of text, one pair a row."""
    if not facts:
        return ""
    rows = "".join(f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>\n' for name, value in facts)
    return f'<div class="scroll"><table class="facts"><tbody>\n{rows}</tbody></table></div>'


def table(
    head: Sequence[str], rows: Sequence[Sequence[str]], label: str, text_columns: int = 1, wrap: bool = False
) -> str:
    """A table in a box of its own that scrolls sideways where it is too wide.

    Args:
        head: column names, text.
        rows: cells, HTML (so that they can hold a swatch); the first is the row's heading.
        label: what the table shows, for screen readers; text.
        text_columns: how many columns from the left hold words; the others are numbers, set to the right.
        wrap: whether cells may take several lines.
    """

    def kind(column: int) -> str:
        return "" if column < text_columns else ' class="number"'

    names = "".join(f'<th scope="col"{kind(i)}>{escape(name)}</th>' for i, name in enumerate(head))
    lines = []
    for first, *others in rows:
        cells = "".join(f"<td{kind(i)}>{cell}</td>" for i, cell in enumerate(others, start=1))
        lines.append(f'<tr><th scope="row">{first}</th>{cells}</tr>')
    body = "\n".join(lines)
    style = ' class="wrap"' if wrap else ""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(label)}">'
        f"<table{style}>\n"
        f"<thead><tr>{names}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>"
    )


def figure(source: str, alt: str, caption: str = "") -> str:
    """A picture that opens in full size when it is clicked.

    Args:
        source: relative address of the picture.
        alt: what is to be seen in it, for those who do not see it; text.
        caption: text below it; empty for none.
    """
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    address = escape(source)
    picture = f'<img src="{address}" alt="{escape(alt)}" loading="lazy" />'
    return f'<figure><a href="{address}">{picture}</a>{below}</figure>'


def pair(*figures: str) -> str:
    """Figures beside each other where there is room, below each other where not."""
    shown = "\n".join(item for item in figures if item)
    return f'<div class="pair">\n{shown}\n</div>' if shown else ""


def swatch(color: Sequence[int]) -> str:
    """A small box of an RGB colour in 0..255."""
    red, green, blue = (int(value) for value in color)
    return f'<span class="swatch" style="background: rgb({red}, {green}, {blue})"></span>'


def legend_list(names: Sequence[str], colors: Sequence[Sequence[int]], ignored: bool) -> str:
    """Class names (text) with their colours; `ignored` adds the stripes of pixels that belong to none."""
    items = [f"<li>{swatch(color)}{escape(name)}</li>" for name, color in zip(names, colors, strict=True)]
    if ignored:
        items.append('<li><span class="swatch hatch"></span>no class (ignored)</li>')
    return f'<ul class="legend">{"".join(items)}</ul>'


def preformatted(text: str) -> str:
    """Text with its own line breaks, in a box that scrolls."""
    return f"<pre>{escape(text)}</pre>"


def details(summary: str, content: str) -> str:
    """HTML content that is folded away until it is asked for by its summary (text)."""
    return f"<details><summary>{escape(summary)}</summary>\n{content}\n</details>"
