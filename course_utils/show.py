"""Show something in a notebook (rich) or on a terminal (plain), with a machine-readable record."""

import sys


def show(text: str, html: str | None = None, records: dict[str, object] | None = None) -> None:
    """Display `html` where it can be rendered and `text` elsewhere.

    Args:
        text: the plain form; always there (site, terminal, screen reader).
        html: the rich form.
        records: further mime types, for the programs that read executed notebooks.
    """
    ipython = sys.modules.get("IPython")
    if ipython is None or ipython.get_ipython() is None:
        print(text)
        return
    from IPython.display import display

    bundle: dict[str, object] = {"text/plain": text, **(records or {})}
    if html is not None:
        bundle["text/html"] = html
    display(bundle, raw=True)
