"""The site of docs/: what its hooks make of pages and notebooks, and that links lead somewhere."""

import re
import sys
from base64 import b64encode
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from installed import imported

from vared_mm.compat import config_path

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

imported("mkdocs")


@pytest.fixture(scope="module")
def hook():
    sys.path.insert(0, str(ROOT / "tools" / "docs"))
    yield imported
    sys.path.pop(0)


def page_in(docs, name="a/page.md"):
    return dict(
        page=SimpleNamespace(file=SimpleNamespace(src_uri=name)),
        config=SimpleNamespace(docs_dir=str(docs)),
    )


def test_a_block_of_math_becomes_mathml_with_its_number_and_the_rest_stays(hook):
    page = "Before.\n\n```math\n\\frac{r}{R} \\tag{5}\n```\n\n```python\nr\n```\n"
    made = hook("equations").on_page_markdown(page)
    assert made.startswith('Before.\n\n<div class="equation"><math xmlns=')
    assert 'display="block"' in made
    assert "<mfrac><mrow><mi>r</mi></mrow><mrow><mi>R</mi></mrow></mfrac>" in made
    assert '<span id="eq-5">(5)</span></div>\n\n```python\nr\n```\n' in made
    assert "tag" not in made


@pytest.fixture
def docs(tmp_path):
    for name in ("docs/a/page.md", "docs/a/numbers/one.json", "docs/walk.ipynb", "configs/x.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path / "docs"


@pytest.mark.parametrize(
    ("link", "becomes"),
    [
        ("[a page](../a/page.md)", "[a page](../a/page.md)"),
        ("[a part](page.md#part)", "[a part](page.md#part)"),
        ("[elsewhere](https://example.org)", "[elsewhere](https://example.org)"),
        ("[a walk](../walk.ipynb)", "[a walk](../walk.md)"),
        ("[numbers](numbers)", "numbers (`docs/a/numbers`)"),
        ("[a config](../../configs/x.py)", "a config (`configs/x.py`)"),
    ],
)
def test_links_lead_to_pages_and_what_is_none_is_named(hook, docs, link, becomes):
    assert hook("links").on_page_markdown(link, **page_in(docs)) == becomes


def test_a_link_to_nothing_ends_the_build(hook, docs):
    with pytest.raises(FileNotFoundError, match=r"a/page\.md links to gone\.md, which is not"):
        hook("links").on_page_markdown("[gone](gone.md)", **page_in(docs))


def test_a_notebook_becomes_a_page_of_its_cells_and_what_they_answered(hook):
    notebook = SimpleNamespace(
        cells=[
            SimpleNamespace(cell_type="markdown", source="# Walk"),
            SimpleNamespace(
                cell_type="code",
                source="look()",
                outputs=[
                    {"text": "0 of 2\r2 of 2\n\x1b[1mbold\x1b[0m\n"},
                    {"data": {"text/plain": "<Figure>", "image/png": b64encode(b"png").decode()}},
                    {"data": {"text/plain": "array([1])"}},
                ],
            ),
        ]
    )
    text, pictures = hook("notebook").page_of(notebook, "walk")
    assert text == (
        "# Walk\n\n```python\nlook()\n```\n\n![what the cell above shows](walk_0.png)\n\n"
        "```text\n2 of 2\nbold\narray([1])\n```\n"
    )
    assert pictures == {"walk_0.png": b"png"}


def test_a_cell_that_fails_ends_the_build(hook, tmp_path):
    nbformat = imported("nbformat")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 / 0")])
    nbformat.write(notebook, tmp_path / "walk.ipynb")
    source = SimpleNamespace(src_uri="walk.ipynb", abs_src_path=str(tmp_path / "walk.ipynb"))
    with pytest.raises(imported("nbclient").exceptions.CellExecutionError, match="ZeroDivision"):
        hook("notebook").on_files([source], None)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_in_the_repository_leads_to_a_file(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)#:\s]+)(?:#[^)\s]*)?\)", text)
    gone = [target for target in targets if not (page.parent / target).exists()]
    assert not gone


def test_the_code_for_deployment_gives_scores_and_a_share_for_each_clip():
    page = (ROOT / "docs" / "deploy.md").read_text()
    code = "".join(re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL))
    code = code.replace("mine_dynamic.py", config_path("demo/vared_i3d_motion.py"))
    names = {"clips": torch.randn(2, 1, 3, 16, 32, 32)}
    exec(code.replace("'CHECKPOINT'", "None"), names)
    assert names["scores"].shape == (2, 9)
    assert names["record"].share(2).shape == (2,)
