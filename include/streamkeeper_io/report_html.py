"""The report as an HTML mail: Markdown rendered with styles in every element.

Mail programs drop style sheets, so each element carries its own; raw HTML in the text is shown,
not run.
"""

from __future__ import annotations

import html
from importlib.resources import files
from string import Template

from markdown_it import MarkdownIt

_CALM, _ALARM = "#2a7f62", "#b3261e"
_STYLES = {
    "h1": "margin:0 0 4px;font-size:22px;line-height:1.25;color:#102a43;",
    "h2": "margin:24px 0 8px;font-size:17px;line-height:1.3;color:#102a43;",
    "h3": f"margin:16px 0 4px;font-size:14px;line-height:1.4;color:{_ALARM};",
    "p": "margin:0 0 8px;",
    "blockquote": "margin:12px 0;padding:8px 12px;background-color:#fff4e0;"
    "border-left:4px solid #d9822b;",
    "table": "border-collapse:collapse;width:100%;margin:4px 0 12px;font-size:13px;",
    "th": "padding:5px 8px;border-bottom:2px solid #9fb3c8;color:#486581;font-weight:600;"
    "text-align:left;vertical-align:bottom;",
    "td": "padding:5px 8px;border-bottom:1px solid #e4e9ee;text-align:left;vertical-align:top;",
    "img": "display:block;width:100%;max-width:624px;height:auto;margin:8px 0;border:0;",
}


def mail_html(markdown: str, *, subject: str, footer: str, language: str, alarm: bool) -> str:
    """Return a whole HTML page of a report.

    Parameters: footer, the line below it; language, such as `en`; alarm, whether alert conditions
    were broken. Pictures are looked for in the mail itself, by the Content-ID that equals their
    file name.
    """
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = parser.parse(markdown)
    for token in [*tokens, *(child for t in tokens for child in t.children or ())]:
        style = _STYLES.get(token.tag)
        if style and token.nesting >= 0:
            # The table's own attribute for right-aligned columns comes last and so counts.
            token.attrSet("style", style + str(token.attrGet("style") or ""))
        if token.type == "image":
            token.attrSet("src", f"cid:{token.attrGet('src')}")
    template = files("streamkeeper_io") / "templates" / "report.html"
    return Template(template.read_text(encoding="utf-8")).substitute(
        subject=html.escape(subject),
        footer=html.escape(footer),
        language=language,
        accent=_ALARM if alarm else _CALM,
        body=parser.renderer.render(tokens, parser.options, {}),
    )
