"""Figures inside the page, against the SVG that matplotlib writes."""

import re
import xml.etree.ElementTree as ET
from io import StringIO

import matplotlib.pyplot as plt
import pytest
from matplotlib.figure import Figure

from benchmark.figures.style import styled
from benchmark.report.inline import inline


@pytest.fixture(params=[2, 2.0055])  # the second makes a height of three decimals, which are shortened
def figure(request: pytest.FixtureRequest) -> Figure:
    drawn, axes = plt.subplots(figsize=(3, request.param))
    axes.plot([0, 1, 2], [1, 3, 2], "o--", color="#0072b2", label="MEM-3")
    axes.bar([0, 1], [1, 2], color=["#ffffff", "#222222"])
    axes.legend()
    plt.close(drawn)
    return drawn


def declarations(style: str) -> dict[str, str]:
    pairs = (one.partition(":") for one in style.split(";") if one.strip())
    return {name.strip(): value.strip() for name, _, value in pairs}


def test_every_element_keeps_its_style(figure: Figure) -> None:
    plain = StringIO()
    with styled():
        figure.savefig(plain, format="svg", dpi=144)
    theirs = [one for one in ET.fromstring(plain.getvalue()).iter() if "style" in one.attrib]
    text = inline(figure, "curves", "two curves")
    assert text.startswith("<svg")
    page = ET.fromstring(text)
    classes = dict(re.findall(r"\.([\w-]+)\{([^}]*)\}", text))
    ours = [one for one in page.iter() if "class" in one.attrib]
    assert len(theirs) == len(ours) > 20
    for their, our in zip(theirs, ours, strict=True):
        wanted = declarations(their.attrib["style"].replace("'DejaVu Sans'", "'DejaVu Sans', Verdana, sans-serif"))
        assert declarations(classes[our.attrib["class"]]) == wanted
    assert len(classes) < len(ours) / 2


def test_what_others_have_named_stays_text(figure: Figure) -> None:
    """A name in a record can look like a style, an id or a number with many digits."""
    names = ['P style="}body{display:none}x{" .', 'x id="a" href="#b" url(#c)', "0.12345 xlink:href"]
    figure.axes[0].set_xticks(range(3), names)
    text = inline(figure, "a.b", "hostile")
    page = ET.fromstring(text)
    assert set(names) <= {"".join(one.itertext()) for one in page.iter()}
    (styles,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)[:1]
    assert "body" not in styles
    assert all(re.fullmatch(r"a_2e_b-\d+", name) for name in re.findall(r"\.([^{}]*)\{", styles) if "px" not in name)


def test_ids_are_the_figures_own_and_all_that_are_used_are_there(figure: Figure) -> None:
    text = inline(figure, "curves", "two curves")
    ids = re.findall(r' id="([^"]*)"', text)
    used = set(re.findall(r'href="#([^"]*)"|url\(#([^)]*)\)', text))
    assert set(ids) == {name for pair in used for name in pair if name}
    assert len(ids) == len(set(ids))
    assert all(name.startswith("curves-") for name in [*ids, *re.findall(r"\.([\w-]+)\{", text)])
