"""Labs: sliders that call a function; where they do not work, a static table of a few settings."""

from collections.abc import Callable, Mapping, Sequence
from html import escape

from course_utils.progress import in_notebook
from course_utils.show import show

Range = tuple[float, float, float]  # lowest, highest, step


def lab(
    title: str, function: Callable[..., str], sliders: Mapping[str, Range],
    examples: Sequence[Mapping[str, float]],
) -> None:  # fmt: skip
    """Let the reader move dials and see what a function says.

    Args:
        title: what to try.
        function: takes a number for each slider and returns a text; pure, so that it can be tested.
        sliders: name of each argument → its range. They start at the first example.
        examples: settings whose texts are shown to those who have no live sliders (GitHub, a page).
    """
    texts = [(_named(settings), function(**settings)) for settings in examples]
    plain = "\n".join([title, *(f"  {name}: {text}" for name, text in texts)])
    rows = "".join(
        f"<tr><th scope='row' style='text-align:left;white-space:nowrap'>{escape(name)}</th>"
        f"<td style='text-align:left'>{escape(text)}</td></tr>"
        for name, text in texts
    )
    static = f"<table><caption>{escape(title)}</caption>{rows}</table>"
    if not in_notebook():
        show(plain, static)
        return
    import ipywidgets
    from IPython.display import display

    dials = {
        name: ipywidgets.FloatSlider(
            examples[0][name], min=low, max=high, step=step, continuous_update=False,
            description=name.replace("_", " "), style={"description_width": "initial"},
        )
        for name, (low, high, step) in sliders.items()
    }  # fmt: skip
    answer = ipywidgets.HTML(f"<p role='status'>{escape(texts[0][1])}</p>")

    def respond(_: object) -> None:
        text = function(**{name: dial.value for name, dial in dials.items()})
        answer.value = f"<p role='status'>{escape(text)}</p>"

    for dial in dials.values():
        dial.observe(respond, names="value")
    box = ipywidgets.VBox([ipywidgets.HTML(escape(title)), *dials.values(), answer])
    display({**box._repr_mimebundle_(), "text/plain": plain, "text/html": static}, raw=True)


def _named(settings: Mapping[str, float]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in settings.items())
