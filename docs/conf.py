"""The documentation site: Sphinx, as JAX has it, with Markdown pages. `make docs` builds it, offline."""

import re

import rsynth_jax

project = "rsynth_jax"
version = release = rsynth_jax.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = f"rsynth_jax {release}"
html_show_copyright = False
myst_heading_anchors = 3
napoleon_use_rtype = False
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 80


def setup(app):
    """Lead links to the model cards, which lie outside this folder, to the page that includes them."""
    card = re.compile(r"\]\(\.\./rsynth_jax/zoo/(?:\w+/)?([\w-]+)\.md\)")
    app.connect("source-read", lambda app, page, text: text.append(card.sub(r"](cards.md#\1)", text.pop())))
