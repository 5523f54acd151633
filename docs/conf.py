"""The documentation site: ``sphinx-build -W --keep-going -c docs . site``, from the repository's root.

The root is the source folder, so that README, docs/ and the pages in results/ link to each other on the site as they do
in the repository, and Sphinx refuses a link that leads nowhere.
"""

import shutil
import sys
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

DOCS = Path(__file__).parent
ROOT = DOCS.parent
sys.path.insert(0, str(ROOT))
# autosummary writes a page for every module here, and leaves the pages of modules that are gone.
shutil.rmtree(DOCS / "reference", ignore_errors=True)

project = "Unlearnable Bench"
author = "The Unlearnable Bench authors"
project_copyright = "2026, The Unlearnable Bench authors"

root_doc = "docs/index"
include_patterns = ["README.md", "CHANGELOG.md", "docs/**", "results/**.md", "tests/MUTATIONS.md"]
exclude_patterns = ["docs/_*", "results/**/records", "**/.*", "build", "dist", "site", "venv"]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon"]
templates_path = [str(DOCS / "_templates")]

html_theme = "furo"
html_title = project
# The front page is docs/index.html; whoever opens the site's top folder is sent there.
html_additional_pages = {"index": "redirect.html"}

myst_heading_anchors = 3

# A name is described where it is defined, not again in each package that re-exports it.
autodoc_default_options = {"members": True, "show-inheritance": True, "ignore-module-all": True}
autodoc_member_order = "bysource"
python_maximum_signature_line_length = 100
napoleon_numpy_docstring = False
# As a list in the class; objects of their own would describe the fields of a named tuple twice.
napoleon_use_ivar = True
# In docstrings |δ| is an absolute value; in reStructuredText it would be a substitution.
rst_prolog = r".. |δ| replace:: \|δ\|"


def resolve_folders(app: Sphinx, doctree: nodes.document) -> None:
    """Lead a link to a folder to its README.md; where it has none, show the link's text alone.

    A link to a folder that does not exist stays as it is, and Sphinx warns of it.
    """
    here = Path(app.env.doc2path(app.env.docname)).parent
    for link in list(doctree.findall(addnodes.pending_xref)):
        folder = here / link["reftarget"]
        if link["reftype"] != "myst" or link.get("refdomain") or not folder.is_dir():
            continue
        if (folder / "README.md").exists():
            page = app.env.path2doc(str((folder / "README.md").resolve()))
            link["refdomain"], link["reftarget"], link["reftargetid"] = "doc", page, None
        else:
            link.replace_self(link.children)


def setup(app: Sphinx) -> None:
    """Register the hook for links to folders."""
    app.connect("doctree-read", resolve_folders)
